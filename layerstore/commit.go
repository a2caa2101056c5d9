package layerstore

import (
	"context"
	"fmt"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// CommitOptions say what image is made of a layer.
type CommitOptions struct {
	Pack PackOptions

	// Documents makes the image, which has the layer on top, unless it is an empty
	// one. The layers below must be the store's, and stay.
	Documents func(AddedTree) (manifest, config []byte, err error)

	// Refs are the image's names, which others lose.
	Refs []oci.Reference
}

// Commit adds a layer from its tree, as AddTree does, and an image that has it.
// Either all of it is in the store or nothing.
func (s *Store) Commit(ctx context.Context, t tree.Tree, o CommitOptions) (Image, AddedTree, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return Image{}, AddedTree{}, err
	}
	defer h.Release()
	image, added, err := h.commit(ctx, t, o)
	if err != nil {
		return Image{}, AddedTree{}, fmt.Errorf("commit: %w", err)
	}
	return image, added, nil
}

func (h *Hold) commit(ctx context.Context, t tree.Tree, o CommitOptions) (Image, AddedTree, error) {
	fail := func(err error) (Image, AddedTree, error) { return Image{}, AddedTree{}, err }
	added, err := h.stageTree(ctx, t, o.Pack)
	if err != nil {
		return fail(err)
	}
	manifest, config, err := o.Documents(added)
	if err != nil {
		return fail(err)
	}
	mediaType, err := oci.ManifestType(manifest)
	if err != nil {
		return fail(err)
	}
	img, err := oci.NewImage("commit", o.Refs, manifest, mediaType, config, nil)
	if err != nil {
		return fail(err)
	}
	for _, d := range img.DiffIDs() {
		if !h.hasLayer(d) {
			return fail(&NotFoundError{Root: h.s.root, Kind: "layer", Name: string(d)})
		}
	}
	if _, err := h.addImage(ctx, &oci.Image{Config: config, Manifest: manifest}, AddOptions{}); err != nil {
		return fail(err)
	}
	image, err := h.nameImage(ctx, img, oci.Reference{})
	return image, added, err
}
