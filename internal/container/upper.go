package container

import (
	"context"
	"errors"
	"fmt"

	"strata/overlay"
	"strata/overlay/tree"
)

// OpenUpper opens the upper as a layer's tree, as it is at the moment; the
// caller closes it. The container may be mounted.
func (ct *Container) OpenUpper() (*tree.HostDir, error) {
	format, err := overlay.ParseFormat(ct.Format)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", ct.Name, err)
	}
	upper, err := overlay.UpperTree(ct.UpperDir(), format)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", ct.Name, err)
	}
	return upper, nil
}

// Changes lists what the container has changed, sorted by path. It may be
// mounted: what is being changed then is seen before or after.
func (ct *Container) Changes(ctx context.Context) ([]overlay.Change, error) {
	changes, err := ct.changes(ctx)
	if err != nil {
		return nil, fmt.Errorf("changes of container %s: %w", ct.Name, err)
	}
	return changes, nil
}

func (ct *Container) changes(ctx context.Context) (list []overlay.Change, err error) {
	chain, err := ct.all.store.Chain(ctx, ct.Layers)
	if err != nil {
		return nil, err
	}
	defer chain.Close()
	upper, err := ct.OpenUpper()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, upper.Close()) }()
	return overlay.Changes(chain.Tree(), upper)
}
