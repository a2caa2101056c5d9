package layerstore

import (
	"fmt"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// roots is what images and containers hold.
type roots struct {
	images []Image
	layers map[oci.DiffID]bool
	chains map[oci.ChainID]bool
	blobs  map[oci.Digest]bool // manifests and configs
}

// findRoots fails rather than leave out what it cannot read.
func (s *Store) findRoots() (*roots, error) {
	r := &roots{
		layers: map[oci.DiffID]bool{},
		chains: map[oci.ChainID]bool{},
		blobs:  map[oci.Digest]bool{},
	}
	var err error
	if r.images, err = s.Images(); err != nil {
		return nil, err
	}
	for _, image := range r.images {
		r.blobs[image.Digest] = true
		r.blobs[image.ID] = true
		r.hold(image.Layers)
	}
	containers, err := s.containers()
	if err != nil {
		return nil, err
	}
	for _, c := range containers {
		for _, layers := range c.held() {
			r.hold(layers)
		}
	}
	return r, nil
}

// hold adds layers, base first, and their chain.
func (r *roots) hold(layers []oci.DiffID) {
	for _, d := range layers {
		r.layers[d] = true
	}
	r.chains[oci.Chain(layers)] = true
}

// layerObjects calls f at least once with each object that the layer needs:
// those that its tree names, and those that only its recipe names, because a
// later entry of the tar took the name away.
func (s *Store) layerObjects(diffID oci.DiffID, f func(d tree.ObjectDigest, size int64)) error {
	layer, err := s.Layer(diffID)
	if err != nil {
		return err
	}
	defer layer.Close()
	if err := treeObjects(layer.Tree(), f); err != nil {
		return fmt.Errorf("layer %s: %w", diffID, err)
	}
	return s.recipeObjects(diffID, f)
}

// treeObjects calls f with the contents of every regular file, by each of its
// names.
func treeObjects(t tree.Tree, f func(d tree.ObjectDigest, size int64)) error {
	pending := []tree.ID{tree.Root}
	entries := make([]tree.Entry, 256)
	for len(pending) > 0 {
		dir := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		for from := 0; ; {
			n, err := t.ReadDir(dir, from, entries)
			if err != nil {
				return err
			}
			for _, e := range entries[:n] {
				switch e.Type {
				case tree.ModeDir:
					pending = append(pending, e.ID)
				case tree.ModeRegular:
					c, err := t.Content(e.ID)
					if err != nil {
						return err
					}
					f(c.Digest, c.Size)
				}
			}
			if from += n; n < len(entries) {
				break
			}
		}
	}
	return nil
}
