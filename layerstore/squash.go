package layerstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// SquashOptions say what a squash makes.
type SquashOptions struct {
	// From is the lowest layer that is merged, with all above it; those below stay
	// as they are, and shared. Base is 0.
	From int

	Refs    []oci.Reference
	Comment string // of the history's step
	Created time.Time
}

// Squashed tells what a squash did.
type Squashed struct {
	Layer      AddedTree
	Merged     []LayerInfo // base first
	Before     int64       // bytes of the merged layers' tars
	After      int64       // of the one that they became
	LostShares []LostShare
}

// LostShare is a layer that was merged, and that other images still have: who has
// one of them must get its contents again for the squashed image.
type LostShare struct {
	LayerInfo
	Images []Image
}

// Squash makes an image of image in which one layer stands for several. It shows
// the same.
func (s *Store) Squash(ctx context.Context, image Image, o SquashOptions) (Image, Squashed, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return Image{}, Squashed{}, err
	}
	defer h.Release()
	squashed, done, err := h.squash(ctx, image, o)
	if err != nil {
		return Image{}, Squashed{}, fmt.Errorf("squash image %s: %w", image.ID.Short(), err)
	}
	return squashed, done, nil
}

func (h *Hold) squash(ctx context.Context, image Image, o SquashOptions) (Image, Squashed, error) {
	var done Squashed
	fail := func(err error) (Image, Squashed, error) { return Image{}, done, err }
	if o.From < 0 || o.From >= len(image.Layers) {
		return fail(fmt.Errorf("there is no layer %d: it has layers 0 to %d", o.From, len(image.Layers)-1))
	}
	if err := done.count(h.s, image, o.From); err != nil {
		return fail(err)
	}
	lower, err := h.Chain(ctx, image.Layers[:o.From])
	if err != nil {
		return fail(err)
	}
	defer lower.Close()
	merged, err := h.Chain(ctx, image.Layers)
	if err != nil {
		return fail(err)
	}
	defer merged.Close()
	layer, err := tree.Between(lower.Tree(), merged.Tree(), h.s)
	if err != nil {
		return fail(err)
	}
	child := oci.Child{Manifest: image.Manifest, ManifestType: image.ManifestType, Config: image.Config, Keep: o.From, Created: o.Created}
	squashed, added, err := h.commit(ctx, layer, CommitOptions{
		Refs: o.Refs,
		Documents: func(added AddedTree) (manifest, config []byte, err error) {
			child.Added = []oci.AddedLayer{{DiffID: added.DiffID, Size: added.TarSize, Comment: o.Comment}}
			return child.Documents()
		},
	})
	done.Layer, done.After = added, added.TarSize
	return squashed, done, err
}

// count describes what is merged.
func (d *Squashed) count(s *Store, image Image, from int) error {
	images, err := s.Images()
	if err != nil {
		return err
	}
	for _, id := range image.Layers[from:] {
		info, err := s.layerInfo(id)
		if err != nil {
			return err
		}
		d.Merged = append(d.Merged, info)
		d.Before += info.TarSize
		lost := LostShare{LayerInfo: info}
		for _, other := range images {
			if other.Digest != image.Digest && slices.Contains(other.Layers, id) {
				lost.Images = append(lost.Images, other)
			}
		}
		if len(lost.Images) > 0 {
			d.LostShares = append(d.LostShares, lost)
		}
	}
	return nil
}
