package container

import (
	"context"
	"errors"
	"fmt"

	"strata/overlay/tree"
)

// Layer is a container's upper as a layer's tree: see overlay.Layer.
type Layer struct {
	tree.Tree
	close []func() error // the last first
}

// Close lets others have the container, or ends the talk with its mount.
func (l *Layer) Close() error {
	var errs []error
	for i := len(l.close) - 1; i >= 0; i-- {
		errs = append(errs, l.close[i]())
	}
	l.close = nil
	return errors.Join(errs...)
}

// OpenLayer takes the container's upper as a layer's tree. If it is mounted, the
// process that serves the mount takes it; if not, nobody can mount it until the
// Layer is closed.
func (ct *Container) OpenLayer(ctx context.Context) (*Layer, error) {
	l, err := ct.openLayer(ctx)
	if err != nil {
		return nil, fmt.Errorf("take the upper of container %s: %w", ct.Name, err)
	}
	return l, nil
}

func (ct *Container) openLayer(ctx context.Context) (*Layer, error) {
	view, err := ct.OpenInProcess(ctx)
	if mounted := (*MountedError)(nil); errors.As(err, &mounted) && mounted.Record.PID != 0 {
		return ct.Served().layer(ctx, ct.all.store)
	}
	if err != nil {
		return nil, err
	}
	layer, err := view.Layer(ctx)
	if err != nil {
		return nil, errors.Join(err, view.Close())
	}
	return &Layer{Tree: layer, close: []func() error{view.Close, layer.Close}}, nil
}
