package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"strata/layerstore"
	"strata/overlay"
	"strata/overlay/tree"
)

// CreateOptions say what a new container is.
type CreateOptions struct {
	// Name must be unused. Empty means that one is made up.
	Name string

	// Reference is what the image is called, for people to read.
	Reference string
}

// Create makes a container of an image.
func (c *Containers) Create(ctx context.Context, img layerstore.Image, o CreateOptions) (*Container, error) {
	ct, err := c.create(ctx, img, o)
	if err != nil {
		return nil, fmt.Errorf("create a container of %s: %w", o.Reference, err)
	}
	return ct, nil
}

func (c *Containers) create(ctx context.Context, img layerstore.Image, o CreateOptions) (*Container, error) {
	if o.Name != "" {
		if err := checkName(o.Name); err != nil {
			return nil, err
		}
	}
	hold, err := c.store.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer hold.Release()
	chain, err := hold.Chain(ctx, img.Layers)
	if err != nil {
		return nil, err
	}
	defer chain.Close()

	config := Config{
		ID:        newID(),
		Name:      o.Name,
		Reference: o.Reference,
		Image:     img.ID,
		Manifest:  img.Digest,
		Chain:     chain.ID(),
		Layers:    img.Layers,
		Format:    newFormat().String(),
		Created:   time.Now().UTC(),
	}
	return c.stage(ctx, hold, chain, config)
}

// stage makes a container of that config, which has no upper yet.
func (c *Containers) stage(ctx context.Context, hold *layerstore.Hold, chain *layerstore.Chain, config Config) (*Container, error) {
	staged := filepath.Join(hold.Dir(), string(config.ID))
	if err := os.Mkdir(staged, 0o700); err != nil {
		return nil, err
	}
	if err := c.newUpper(ctx, chain, staged, config); err != nil {
		return nil, err
	}
	return c.publish(staged, config)
}

// newUpper makes the upper and work directories of that config in dir.
func (c *Containers) newUpper(ctx context.Context, chain *layerstore.Chain, dir string, config Config) error {
	format, err := overlay.ParseFormat(config.Format)
	if err != nil {
		return err
	}
	upper, work := filepath.Join(dir, numbered(upperName, config.Upper)), filepath.Join(dir, numbered(workName, config.Upper))
	for _, dir := range []string{upper, work} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	return initUpper(ctx, overlay.Options{
		Lower: chain.Tree(), LowerID: string(chain.ID()),
		Upper: upper, Work: work, Format: format, Logger: c.log,
	})
}

// publish gives the staged container its name and its place.
func (c *Containers) publish(staged string, config Config) (*Container, error) {
	names, err := lockDir(c.dir, true)
	if err != nil {
		return nil, err
	}
	defer names.Close()
	list, err := c.List()
	if err != nil {
		return nil, err
	}
	holder := func(name string) int {
		return slices.IndexFunc(list, func(ct *Container) bool { return ct.Name == name })
	}
	if config.Name == "" {
		config.Name = newName(func(name string) bool { return holder(name) >= 0 })
	} else if i := holder(config.Name); i >= 0 {
		return nil, fmt.Errorf("the name %q belongs to container %s: choose another one, or remove that container",
			config.Name, list[i].ID.Short())
	}
	if err := writeConfig(staged, config); err != nil {
		return nil, err
	}
	if err := syncDir(staged); err != nil {
		return nil, err
	}
	dir := filepath.Join(c.dir, string(config.ID))
	if err := os.Rename(staged, dir); err != nil {
		return nil, err
	}
	return &Container{Config: config, all: c, dir: dir}, syncDir(c.dir)
}

// initUpper gives the root of a new upper the attributes of the lower's root.
// The overlay does it, because it knows how the upper's format says so.
func initUpper(ctx context.Context, o overlay.Options) error {
	root, err := o.Lower.Attr(tree.Root)
	if err != nil {
		return err
	}
	fs, err := overlay.Open(o)
	if err != nil {
		return err
	}
	defer fs.Close()
	names, err := o.Lower.Xattrs(tree.Root)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := o.Lower.Xattr(tree.Root, name)
		if err != nil {
			return err
		}
		if err := fs.Setxattr(ctx, overlay.Root, name, value, 0); err != nil {
			return fmt.Errorf("set xattr %s of the upper's root: %w", name, err)
		}
	}
	_, err = fs.Setattr(ctx, overlay.Root, overlay.SetAttr{
		Mode: &root.Mode, UID: &root.UID, GID: &root.GID, Atime: &root.Atime, Mtime: &root.Mtime,
	})
	if err != nil {
		return fmt.Errorf("set the attributes of the upper's root: %w", err)
	}
	return fs.Close()
}
