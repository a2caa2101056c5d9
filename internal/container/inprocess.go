package container

import (
	"context"
	"errors"
	"fmt"
	"os"

	"strata/layerstore"
	"strata/overlay"
)

// InProcess is a container's merged tree without a mount: only this process
// can look in. As with a mount, nobody else can have the container meanwhile.
type InProcess struct {
	*overlay.FS
	chain *layerstore.Chain
	lock  *os.File // nil if somebody else gives it back
}

// OpenInProcess opens the merged tree, for machines on which nothing can be
// mounted. The caller closes it. A mounted container is a *MountedError.
func (ct *Container) OpenInProcess(ctx context.Context) (*InProcess, error) {
	lock, err := ct.lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("open container %s: %w", ct.Name, err)
	}
	v, err := ct.openInProcess(ctx, lock)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open container %s: %w", ct.Name, err), lock.Close())
	}
	return v, nil
}

// openInProcess takes over the lock if it succeeds.
func (ct *Container) openInProcess(ctx context.Context, lock *os.File) (*InProcess, error) {
	fs, chain, err := ct.openOverlay(ctx, MountOptions{})
	if err != nil {
		return nil, err
	}
	return &InProcess{FS: fs, chain: chain, lock: lock}, nil
}

// Close writes everything to disk and lets others have the container.
func (v *InProcess) Close() error {
	err := errors.Join(v.FS.Close(), v.chain.Close())
	if v.lock != nil {
		err = errors.Join(err, v.lock.Close())
	}
	return err
}

// Dir is the container's directory in the store, which holds its upper and
// work directories.
func (ct *Container) Dir() string { return ct.dir }
