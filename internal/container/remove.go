package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"strata/layerstore"
)

// Remove deletes the container with all that it has written, and returns the
// bytes that the filesystem got back for that. A container that is mounted is refused with a
// *MountedError, unless force asks to unmount it first.
func (ct *Container) Remove(ctx context.Context, force bool) (freed int64, err error) {
	freed, err = ct.remove(ctx, force)
	if err != nil {
		return 0, fmt.Errorf("remove container %s: %w", ct.Name, err)
	}
	return freed, nil
}

func (ct *Container) remove(ctx context.Context, force bool) (int64, error) {
	state, err := ct.State()
	if err != nil {
		return 0, err
	}
	switch {
	case state.Status == Mounted && !force:
		return 0, &MountedError{Record: *state.Record}
	case state.Status != Created:
		if err := ct.Unmount(ctx, UnmountOptions{}); err != nil {
			return 0, err
		}
	}
	lock, err := ct.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	// Its staging directory is where the container goes to be deleted: should
	// this be killed midway, the store sweeps up the rest.
	hold, err := ct.all.store.Hold(ctx)
	if err != nil {
		return 0, err
	}
	defer hold.Release()
	size, err := layerstore.FreedBy(ct.dir)
	if err != nil {
		return 0, err
	}
	if err := os.Rename(ct.dir, filepath.Join(hold.Dir(), string(ct.ID))); err != nil {
		return 0, err
	}
	if err := syncDir(ct.all.dir); err != nil {
		return 0, err
	}
	if err := ct.all.run.remove(string(ct.ID)); err != nil {
		return 0, err
	}
	os.Remove(ct.all.run.logFile(string(ct.ID)))
	return size, hold.Release()
}
