package layerstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// Waste is why bytes of an image are of no use to who runs it.
type Waste string

const (
	Overwritten Waste = "overwritten" // a layer above has something else of that name
	Deleted     Waste = "deleted"     // a layer above removes it
	Twice       Waste = "twice"       // another file that is seen has the same contents
)

// Wasted is a file of a layer whose contents the image carries for nothing.
type Wasted struct {
	Why   Waste
	Path  string // absolute
	Layer int    // that has it; base is 0
	By    int    // the layer that hides it; of Twice, that has the other
	Other string // of Twice: the path of the other
	Bytes int64
}

// Waste finds the contents that an image carries and that nobody sees, or sees twice.
// In this store contents that are equal are kept once all the same; in a registry and
// on the way they are not.
func (s *Store) Waste(ctx context.Context, image Image) ([]Wasted, error) {
	chain, err := s.Chain(ctx, image.Layers)
	if err != nil {
		return nil, err
	}
	defer chain.Close()
	w := wasting{ctx: ctx, chain: chain.Tree(), first: map[tree.ObjectDigest]Wasted{}}
	for _, d := range image.Layers {
		l, err := s.Layer(d)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		w.layers = append(w.layers, l.Tree())
	}
	for i, d := range image.Layers {
		if err := w.layer(i, d); err != nil {
			return nil, err
		}
	}
	return w.list, nil
}

// wasting is one call of Waste.
type wasting struct {
	ctx    context.Context // of Waste
	chain  tree.Tree
	layers []tree.Tree                  // base first
	first  map[tree.ObjectDigest]Wasted // where contents were seen first
	list   []Wasted
}

func (w *wasting) layer(i int, diffID oci.DiffID) error {
	t := w.layers[i]
	paths := map[tree.ID][]string{} // of inodes with several names, as far as the walk has come
	err := tree.Walk(t, func(path string, e tree.Entry, a *tree.Attr) error {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if e.Whiteout || !a.IsRegular() || a.Size == 0 {
			return nil
		}
		names := []string{strings.Clone(path)}
		if a.Nlink > 1 {
			names = append(paths[e.ID], names...)
			if paths[e.ID] = names; len(names) < int(a.Nlink) {
				return nil // the last name decides
			}
		}
		return w.file(i, t, e.ID, names, a.Size)
	})
	if err != nil {
		return fmt.Errorf("layer %s: %w", diffID.Short(), err)
	}
	return nil
}

// file looks whether programs see any name of a file of layer i.
func (w *wasting) file(i int, t tree.Tree, id tree.ID, names []string, size int64) error {
	c, err := t.Content(id)
	if err != nil {
		return err
	}
	for _, name := range names {
		seen, err := w.sees(i, name)
		if err != nil {
			return err
		}
		if !seen {
			continue
		}
		here := Wasted{Why: Twice, Path: "/" + name, Layer: i, Bytes: size}
		if other, ok := w.first[c.Digest]; ok {
			here.By, here.Other = other.Layer, other.Path
			w.list = append(w.list, here)
		} else {
			w.first[c.Digest] = here
		}
		return nil
	}
	hidden := Wasted{Why: Deleted, Path: "/" + names[0], Layer: i, By: i, Bytes: size}
	words, err := tree.Explain(w.layers, names[0])
	if err != nil {
		return err
	}
	for _, word := range words {
		if word.Wins {
			hidden.By = word.Layer
			if word.Says != tree.Whiteout && word.Path == names[0] {
				hidden.Why = Overwritten
			}
		}
	}
	w.list = append(w.list, hidden)
	return nil
}

// sees tells whether what is seen at a path is of layer i.
func (w *wasting) sees(i int, name string) (bool, error) {
	id, err := tree.Resolve(w.chain, name)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a, err := w.chain.Attr(id)
	return err == nil && !a.IsDir() && int(a.Layer) == i, err
}
