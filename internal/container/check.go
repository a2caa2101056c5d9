package container

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"strata/internal/oci"
	"strata/layerstore"
	"strata/overlay"
	"strata/overlay/tree"
)

// Check looks at all containers and tells what is wrong: a config that cannot be
// read or contradicts itself, an upper that is missing or not in the format that
// the config names. Nothing can be made again of what a container has written, so
// nothing is repaired. Mounted containers may be checked.
//
// What has no checksum cannot be told from what was meant: the name, the
// reference, the time, and the contents of an upper.
func (c *Containers) Check(ctx context.Context) ([]layerstore.Damage, error) {
	names, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("check containers: %w", err)
	}
	var damages []layerstore.Damage
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return damages, err
		}
		d := layerstore.Damage{Kind: "container", Name: n.Name(), Path: "containers/" + n.Name(), Left: errWritten}
		dir := filepath.Join(c.dir, n.Name())
		if !isID(n.Name()) || !n.IsDir() {
			d.Kind, d.Err = "leftover", errors.New("is no container")
			d.Consequence, d.Left = "it takes up room", errors.New("it may be yours: move it away, or remove it")
			if !n.IsDir() {
				d.Consequence = "gc does not run"
			}
			damages = append(damages, d)
			continue
		}
		config, err := readConfig(dir)
		if err == nil {
			d.Name = config.Name
			err = c.checkConfig(dir, config)
		}
		if d.Err = err; err != nil {
			d.Path += "/" + configFile
			d.Consequence = "it cannot be mounted, and gc does not run; what it has written is in " + writtenIn(dir)
			if errors.Is(err, errNoContainer) {
				d.Err = errors.New("has no " + configFile)
				d.Consequence = "no command knows it; what it has written is in " + writtenIn(dir)
			}
		} else if d.Err = c.checkUpper(dir, config); d.Err != nil {
			d.Consequence = "it cannot be mounted, or shows not all that was written"
		}
		if d.Err == nil {
			continue
		}
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		damages = append(damages, d)
	}
	return damages, nil
}

// writtenIn is the upper of a container whose config does not say which it is.
func writtenIn(dir string) string {
	if uppers, err := filepath.Glob(filepath.Join(dir, upperName+"*")); err == nil && len(uppers) > 0 {
		return uppers[len(uppers)-1]
	}
	return filepath.Join(dir, upperName)
}

var errWritten = errors.New("what a container has written stands nowhere else: copy what can be read, and remove it")

// checkConfig looks whether a config can be true.
func (c *Containers) checkConfig(dir string, config Config) error {
	data, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		return err
	}
	strict := json.NewDecoder(bytes.NewReader(data)) // a key with another letter would be passed over in silence
	strict.DisallowUnknownFields()
	if err := strict.Decode(new(Config)); err != nil {
		return fmt.Errorf("%s: %w", configFile, err)
	}
	layers := slices.Clone(config.Layers)
	for _, s := range config.Snapshots {
		layers = append(layers, s.Layers...)
	}
	for _, d := range layers {
		if _, err := oci.ParseDiffID(string(d)); err != nil {
			return fmt.Errorf("layers: %w", err)
		}
	}
	if chain := oci.Chain(config.Layers); chain != config.Chain {
		return fmt.Errorf("its layers make chain %s, and it says %s", chain, config.Chain)
	}
	for _, d := range []oci.Digest{config.Image, config.Manifest} {
		if d == "" {
			continue
		}
		if _, err := oci.ParseDigest(string(d)); err != nil {
			return err
		}
	}
	for _, d := range layers {
		if !c.store.HasLayer(d) {
			return fmt.Errorf("its layer %s is missing", d.Short())
		}
	}
	_, err = overlay.ParseFormat(config.Format)
	return err
}

// checkUpper reads all names and attributes of an upper.
func (c *Containers) checkUpper(dir string, config Config) error {
	ct := &Container{Config: config, all: c, dir: dir}
	for _, name := range []string{ct.UpperDir(), ct.WorkDir()} {
		info, err := os.Lstat(name)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is no directory", name)
		}
	}
	upper, err := ct.OpenUpper()
	if err != nil {
		return err
	}
	defer upper.Close()
	err = tree.Walk(upper, func(path string, e tree.Entry, _ *tree.Attr) error {
		if e.Whiteout {
			return nil
		}
		_, err := upper.Xattrs(e.ID)
		return err
	})
	if state, stateErr := ct.State(); stateErr == nil && state.Status == Mounted {
		return nil // it changes while it is read
	}
	return err
}
