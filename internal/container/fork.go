package container

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Fork makes another container that shows what this one shows: on its layers, and on
// a layer of its upper. This one stays as it is, and may be mounted. An empty name
// means that one is made up.
func (ct *Container) Fork(ctx context.Context, name string) (*Container, Taken, error) {
	forked, taken, err := ct.fork(ctx, name)
	if err != nil {
		return nil, taken, fmt.Errorf("fork container %s: %w", ct.Name, err)
	}
	return forked, taken, nil
}

func (ct *Container) fork(ctx context.Context, name string) (forked *Container, taken Taken, err error) {
	if name != "" {
		if err := checkName(name); err != nil {
			return nil, taken, err
		}
	}
	layer, err := ct.OpenLayer(ctx)
	if err != nil {
		return nil, taken, err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()
	hold, err := ct.all.store.Hold(ctx)
	if err != nil {
		return nil, taken, err
	}
	defer func() { err = errors.Join(err, hold.Release()) }()
	if taken, err = takeLayer(ctx, hold, layer); err != nil {
		return nil, taken, err
	}
	config := ct.Config
	config.ID, config.Name, config.Created = newID(), name, time.Now().UTC()
	config.Format, config.Upper, config.Snapshots = newFormat().String(), 0, nil
	config.Layers = taken.above(config.Layers)
	chain, err := hold.Chain(ctx, config.Layers)
	if err != nil {
		return nil, taken, err
	}
	defer chain.Close()
	config.Chain = chain.ID()
	forked, err = ct.all.stage(ctx, hold, chain, config)
	return forked, taken, err
}
