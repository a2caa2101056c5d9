package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"strata/internal/oci"
	"strata/layerstore"
)

// Taken tells what a snapshot or fork made of an upper.
type Taken struct {
	Layer   layerstore.AddedTree
	LeftOut []string // paths of what no layer can hold
}

// Snapshot makes a layer of the container's upper, begins a new one above it, and
// remembers the state by a name, which is made up if it is empty. The container
// shows the same as before. It must not be mounted: a mount's kernel knows the upper
// that it began with.
func (ct *Container) Snapshot(ctx context.Context, name string) (Snapshot, Taken, error) {
	s, taken, err := ct.snapshot(ctx, name)
	if err != nil {
		return s, taken, fmt.Errorf("snapshot container %s: %w", ct.Name, err)
	}
	return s, taken, nil
}

func (ct *Container) snapshot(ctx context.Context, name string) (s Snapshot, taken Taken, err error) {
	view, err := ct.OpenInProcess(ctx)
	if err != nil {
		return s, taken, err
	}
	lock := view.lock // outlives the view
	view.lock = nil
	defer func() { err = errors.Join(err, lock.Close()) }()
	config := ct.Config
	if s.Name, err = config.newSnapshotName(name); err != nil {
		return s, taken, errors.Join(err, view.Close())
	}
	hold, err := ct.all.store.Hold(ctx)
	if err != nil {
		return s, taken, errors.Join(err, view.Close())
	}
	defer func() { err = errors.Join(err, hold.Release()) }()
	taken, err = view.take(ctx, hold)
	if err = errors.Join(err, view.Close()); err != nil {
		return s, taken, err
	}
	config.Layers = taken.above(config.Layers)
	s.Layers, s.Created = config.Layers, time.Now().UTC()
	config.Snapshots = append(slices.Clip(config.Snapshots), s)
	return s, taken, ct.replaceUpper(ctx, hold, config)
}

// take adds the upper to the store as a layer.
func (v *InProcess) take(ctx context.Context, hold *layerstore.Hold) (taken Taken, err error) {
	layer, err := v.Layer(ctx)
	if err != nil {
		return taken, err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()
	return takeLayer(ctx, hold, &Layer{Tree: layer})
}

func takeLayer(ctx context.Context, hold *layerstore.Hold, layer *Layer) (taken Taken, err error) {
	taken.Layer, err = hold.AddTree(ctx, layer, layerstore.PackOptions{
		LeftOut: func(path, why string) { taken.LeftOut = append(taken.LeftOut, path) },
	})
	return taken, err
}

// above lays the layer over others, unless it makes no difference.
func (t *Taken) above(layers []oci.DiffID) []oci.DiffID {
	if t.Layer.DiffID == oci.EmptyLayer {
		return layers
	}
	return append(slices.Clip(layers), t.Layer.DiffID)
}

// newSnapshotName checks a name, or makes one up: the next number.
func (c *Config) newSnapshotName(name string) (string, error) {
	if name == "" {
		for n := len(c.Snapshots) + 1; ; n++ {
			if name = strconv.Itoa(n); c.findSnapshot(name) < 0 {
				return name, nil
			}
		}
	}
	if !validSnapshot.MatchString(name) {
		return "", fmt.Errorf("snapshot name %q: must be 1 to %d of [a-zA-Z0-9_.-], a letter or digit first", name, maxName)
	}
	if c.findSnapshot(name) >= 0 {
		return "", fmt.Errorf("there is a snapshot %s already: choose another name, or remove it", name)
	}
	return name, nil
}

func (c *Config) findSnapshot(name string) int {
	return slices.IndexFunc(c.Snapshots, func(s Snapshot) bool { return s.Name == name })
}

// replaceUpper gives the container that config, with an empty upper, in one step: a
// kill leaves the old state or the new, and perhaps directories that the next who has
// the lock sweeps away. The caller has the lock.
func (ct *Container) replaceUpper(ctx context.Context, hold *layerstore.Hold, config Config) error {
	chain, err := hold.Chain(ctx, config.Layers)
	if err != nil {
		return err
	}
	defer chain.Close()
	old := []string{ct.UpperDir(), ct.WorkDir()}
	config.Chain = chain.ID()
	config.Upper++
	if err := ct.all.newUpper(ctx, chain, ct.dir, config); err != nil {
		return errors.Join(err, ct.sweep())
	}
	if err := errors.Join(writeConfig(ct.dir, config), syncDir(ct.dir)); err != nil {
		return err // which of the two it is then, the next will see
	}
	ct.Config = config
	for _, dir := range old { // a large one takes time to delete, which nobody waits for with the lock
		if err := os.Rename(dir, filepath.Join(hold.Dir(), filepath.Base(dir))); err != nil {
			return err
		}
	}
	return nil
}

// Rollback gives the container the state of a snapshot, and tells how many bytes of
// disk the upper took that is gone with all that was written since. Later snapshots
// stay. It must not be mounted.
func (ct *Container) Rollback(ctx context.Context, name string) (lost int64, err error) {
	lost, err = ct.rollback(ctx, name)
	if err != nil {
		return 0, fmt.Errorf("roll container %s back: %w", ct.Name, err)
	}
	return lost, nil
}

func (ct *Container) rollback(ctx context.Context, name string) (lost int64, err error) {
	lock, err := ct.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	config := ct.Config
	i := config.findSnapshot(name)
	if i < 0 {
		return 0, ct.noSnapshot(name)
	}
	if err := clearDead(ct.all.run, string(ct.ID), ct.all.log); err != nil {
		return 0, err
	}
	size, err := ct.UpperSize()
	if err != nil {
		return 0, err
	}
	hold, err := ct.all.store.Hold(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, hold.Release()) }()
	config.Layers = config.Snapshots[i].Layers
	return size.Bytes, ct.replaceUpper(ctx, hold, config)
}

func (ct *Container) noSnapshot(name string) error {
	if len(ct.Snapshots) == 0 {
		return fmt.Errorf("there is no snapshot %s, nor any other", name)
	}
	err := fmt.Sprintf("there is no snapshot %s: there are", name)
	for _, s := range ct.Snapshots {
		err += " " + s.Name
	}
	return errors.New(err)
}

// ForgetSnapshot removes a snapshot. Its layer stays as long as the container, or
// another snapshot, stands on it.
func (ct *Container) ForgetSnapshot(ctx context.Context, name string) (err error) {
	lock, err := ct.lock(ctx)
	if err != nil {
		return fmt.Errorf("remove snapshot %s of container %s: %w", name, ct.Name, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	config := ct.Config
	i := config.findSnapshot(name)
	if i < 0 {
		return fmt.Errorf("container %s: %w", ct.Name, ct.noSnapshot(name))
	}
	config.Snapshots = slices.Delete(slices.Clone(config.Snapshots), i, i+1)
	if err := errors.Join(writeConfig(ct.dir, config), syncDir(ct.dir)); err != nil {
		return err
	}
	ct.Config = config
	return nil
}
