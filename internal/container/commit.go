package container

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"strata/internal/oci"
	"strata/layerstore"
)

// CommitOptions say what image a container becomes.
type CommitOptions struct {
	Refs             []oci.Reference
	Author, Message  string
	Changes          []oci.Change
	Include, Exclude []string // paths as people write them
	Created          time.Time
}

// Committed is what a commit made.
type Committed struct {
	Image layerstore.Image
	Taken
}

// Commit makes an image of the container: of its image, and of its upper as one
// more layer. It may be mounted: names and attributes are then those of one instant,
// and Layer.Writing names the files whose contents may not be.
func (ct *Container) Commit(ctx context.Context, o CommitOptions) (Committed, error) {
	c, err := ct.commit(ctx, o)
	if err != nil {
		return c, fmt.Errorf("commit container %s: %w", ct.Name, err)
	}
	return c, nil
}

func (ct *Container) commit(ctx context.Context, o CommitOptions) (c Committed, err error) {
	child, err := ct.child()
	if err != nil {
		return c, err
	}
	child.Author, child.Comment, child.Created, child.Changes = o.Author, o.Message, o.Created, o.Changes
	layer, err := ct.OpenLayer(ctx)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, layer.Close()) }()
	pack := layerstore.PackOptions{
		Include: rootRelative(o.Include), Exclude: rootRelative(o.Exclude),
		LeftOut: func(path, why string) { c.LeftOut = append(c.LeftOut, path) },
	}
	c.Image, c.Layer, err = ct.all.store.Commit(ctx, layer, layerstore.CommitOptions{
		Pack: pack, Refs: o.Refs,
		Documents: func(added layerstore.AddedTree) (manifest, config []byte, err error) {
			child.Added = append(child.Added, oci.AddedLayer{DiffID: added.DiffID, Size: added.TarSize, CreatedBy: child.command()})
			return child.Documents()
		},
	})
	return c, err
}

// childImage is an image that is to be made of a container's.
type childImage struct {
	oci.Child
	config *oci.Config // the parent's
}

// command is what docker writes of how a layer was made: what ran in the container,
// which is what the image says.
func (c *childImage) command() string { return strings.Join(c.config.Config.Cmd, " ") }

// child begins an image that stands on the container's layers: those of its image
// and of snapshots that have been taken since.
func (ct *Container) child() (*childImage, error) {
	img, err := ct.all.store.Image(string(ct.Image))
	if err != nil {
		return nil, fmt.Errorf("the image that it was made of: %w", err)
	}
	c := &childImage{Child: oci.Child{Manifest: img.Manifest, ManifestType: img.ManifestType, Config: img.Config, Keep: -1}}
	if c.config, err = oci.ParseConfig(img.Config); err != nil {
		return nil, err
	}
	for _, d := range ct.Layers[len(img.Layers):] {
		layer, err := ct.all.store.Layer(d)
		if err != nil {
			return nil, err
		}
		info := layer.Info()
		if err := layer.Close(); err != nil {
			return nil, err
		}
		c.Added = append(c.Added, oci.AddedLayer{DiffID: d, Size: info.TarSize, CreatedBy: c.command()})
	}
	return c, nil
}
