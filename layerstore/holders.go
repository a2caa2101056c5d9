package layerstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// Held is something in the store and who holds it.
type Held struct {
	Kind    string // "object", "layer", "blob", "chain", "image", "document", "container", "staging" or "store"
	Name    string // digest, id or path
	Path    string // relative to the store's root
	Bytes   int64  // on disk
	Holders []Holder

	// Kept tells whether gc leaves it where it is. What is neither held nor
	// gc's to remove (see Note) is kept, too.
	Kept bool
	Note string // what else there is to say; may be empty
}

// Holder is one reason why something stays, and what holds that in its turn.
type Holder struct {
	Kind    string   // "image", "container", "layer" or "process"
	Name    string   // what people call it
	Paths   []string // of a layer that needs an object: the names that it gives it; at most maxPaths
	More    int      // further names
	Holders []Holder
}

// maxPaths is how many names of one content in one layer are told.
const maxPaths = 5

// Holders says who holds what people call name: a digest or an id, also
// shortened, of an object, layer, blob, chain, manifest or config, or a path
// below the store's root. A digest may name several things; all are told. What is
// not found is a *NotFoundError. It takes a Hold.
func (s *Store) Holders(ctx context.Context, name string) ([]Held, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	q, err := newHolderQuery(s)
	if err != nil {
		return nil, fmt.Errorf("holders of %s: %w", name, err)
	}
	paths, err := q.find(name)
	if err != nil {
		return nil, err
	}
	var list []Held
	for _, p := range paths {
		held, err := q.held(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("holders of %s: %w", name, err)
		}
		list = append(list, held)
	}
	return list, nil
}

// holderQuery knows who holds what while one question is answered.
type holderQuery struct {
	s          *Store
	images     []Image // those that gc keeps
	untagged   []Image // the others
	containers []container
}

func newHolderQuery(s *Store) (*holderQuery, error) {
	q := &holderQuery{s: s}
	images, err := s.Images()
	if err != nil {
		return nil, err
	}
	if q.containers, err = s.containers(); err != nil {
		return nil, err
	}
	for _, image := range images {
		if len(image.Refs) > 0 || slices.ContainsFunc(q.containers, func(c container) bool { return c.Image == image.ID }) {
			q.images = append(q.images, image)
		} else {
			q.untagged = append(q.untagged, image)
		}
	}
	return q, nil
}

// find returns the paths, relative to the root, of what name may be.
func (q *holderQuery) find(name string) ([]string, error) {
	digits := strings.TrimPrefix(name, "sha256:")
	if len(digits) >= 4 && strings.Trim(digits, "0123456789abcdef") == "" {
		paths, err := q.findDigest(digits)
		if err != nil || len(paths) > 0 {
			return paths, err
		}
	}
	if paths := q.findName(name); len(paths) > 0 {
		return paths, nil
	}
	rel := name
	if filepath.IsAbs(name) {
		root := q.s.root
		if real, err := filepath.EvalSymlinks(root); err == nil && !strings.HasPrefix(name, root+"/") {
			root = real
		}
		var err error
		if rel, err = filepath.Rel(root, name); err != nil {
			return nil, err
		}
		if !filepath.IsLocal(rel) {
			return nil, fmt.Errorf("%s is not below the store %s", name, q.s.root)
		}
	}
	if rel = filepath.Clean(rel); !filepath.IsLocal(rel) {
		return nil, fmt.Errorf("%s is not below the store %s", name, q.s.root)
	}
	if _, err := os.Lstat(q.s.path(rel)); err == nil {
		return []string{rel}, nil
	}
	return nil, &NotFoundError{Root: q.s.root, Kind: "object, layer, blob, chain, image, container or path", Name: name}
}

// findDigest finds all files whose name in the store begins with digits.
func (q *holderQuery) findDigest(digits string) ([]string, error) {
	patterns := []string{
		path.Join(objectsDir, digits[:2], digits[2:]+"*"),
		path.Join(layersDir, digits+"*"),
		path.Join(layersDir, "*", blobPrefix+digits+"*"),
		path.Join(chainsDir, digits+"*"),
		path.Join(imagesDir, blobsDir, digits+"*"),
		path.Join(containersDir, digits+"*"),
	}
	names := map[string]bool{} // digits may be the beginning of several
	var found []string
	for _, pattern := range patterns {
		paths, err := fs.Glob(os.DirFS(q.s.root), pattern)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			names[nameIn(p)] = true
		}
		found = append(found, paths...)
	}
	if len(names) > 1 {
		all := make([]string, 0, len(names))
		for n := range names {
			all = append(all, n[:min(len(n), len(digits)+8)])
		}
		slices.Sort(all)
		return nil, fmt.Errorf("%s is the beginning of %d names, %s and %s among them: use more digits", digits, len(all), all[0], all[1])
	}
	return found, nil
}

// nameIn is the digest or id that stands in a path of the store.
func nameIn(p string) string {
	parts := strings.Split(p, "/")
	if parts[0] == objectsDir {
		return strings.Join(parts[1:], "")
	}
	return strings.TrimPrefix(parts[len(parts)-1], blobPrefix)
}

// findName finds an image by reference and a container by name.
func (q *holderQuery) findName(name string) []string {
	var found []string
	for _, c := range q.containers {
		if c.Name == name {
			found = append(found, path.Join(containersDir, c.id))
		}
	}
	all := slices.Concat(q.images, q.untagged)
	if image, _, err := q.s.findImage(all, name); err == nil {
		found = append(found, path.Join(imagesDir, blobsDir, image.Digest.Hex()))
	}
	return found
}

// held answers for one path relative to the root.
func (q *holderQuery) held(ctx context.Context, rel string) (Held, error) {
	held := Held{Path: rel, Name: rel, Kind: "store", Kept: true}
	var err error
	if held.Bytes, err = FreedBy(q.s.path(rel)); errors.Is(err, fs.ErrNotExist) {
		err = nil // it changes while it is looked at
	}
	if err != nil {
		return Held{}, err
	}
	parts := strings.Split(rel, "/")
	if len(parts) == 1 {
		held.Note = "it is part of the store itself"
		return held, nil
	}
	switch parts[0] {
	case objectsDir:
		return q.heldObject(ctx, held, strings.Join(parts[1:], ""))
	case layersDir:
		return q.heldLayer(held, parts)
	case chainsDir:
		held.Kind, held.Name = "chain", "sha256:"+parts[1]
		held.Holders = q.chainHolders(oci.ChainID(held.Name))
		held.Note = "it is derived from its layers, and made again when it is needed"
	case imagesDir:
		return q.heldDocument(held, parts), nil
	case containersDir:
		held.Kind, held.Name = "container", parts[1]
		held.Note = "strata rm removes it"
		for _, c := range q.containers {
			if c.id == parts[1] && len(parts) > 2 {
				held.Holders = []Holder{{Kind: "container", Name: c.label()}}
			}
		}
		return held, nil
	case tmpDir:
		held.Kind, held.Name = "staging", parts[1]
		for _, p := range holders(q.s.path(tmpDir, parts[1])) {
			held.Holders = append(held.Holders, Holder{Kind: "process", Name: p.String()})
		}
		held.Note = "it goes with the process that works in it"
		return held, nil
	default:
		held.Note = "gc knows nothing of it"
		return held, nil
	}
	held.Kept = len(held.Holders) > 0
	return held, nil
}

// layerHolders are the images and containers that list the layer.
func (q *holderQuery) layerHolders(d oci.DiffID) []Holder {
	return q.listing(func(layers []oci.DiffID) bool { return slices.Contains(layers, d) })
}

func (q *holderQuery) chainHolders(id oci.ChainID) []Holder {
	return q.listing(func(layers []oci.DiffID) bool { return oci.Chain(layers) == id })
}

func (q *holderQuery) listing(has func([]oci.DiffID) bool) []Holder {
	var list []Holder
	for _, image := range q.images {
		if has(image.Layers) {
			list = append(list, q.imageHolder(image))
		}
	}
	for _, c := range q.containers {
		if slices.ContainsFunc(c.held(), has) {
			list = append(list, Holder{Kind: "container", Name: c.label()})
		}
	}
	return list
}

// imageHolder is an image that gc keeps, with the containers that keep one
// without a name.
func (q *holderQuery) imageHolder(image Image) Holder {
	h := Holder{Kind: "image", Name: image.label()}
	if len(image.Refs) == 0 {
		for _, c := range q.containers {
			if c.Image == image.ID {
				h.Holders = append(h.Holders, Holder{Kind: "container", Name: c.label()})
			}
		}
	}
	return h
}

// label is what people call the image.
func (image *Image) label() string {
	if len(image.Refs) == 0 {
		return image.ID.Short()
	}
	var names []string
	for _, ref := range image.Refs {
		names = append(names, ref.Familiar())
	}
	return strings.Join(names, ", ")
}

func (q *holderQuery) heldLayer(held Held, parts []string) (Held, error) {
	d, err := oci.ParseDiffID("sha256:" + parts[1])
	if err != nil {
		held.Note = "it is no layer's, and gc does not run while it is there: strata fsck --repair removes it"
		return held, nil
	}
	held.Kind, held.Name = "layer", string(d)
	held.Holders = q.layerHolders(d)
	if len(parts) > 2 {
		if digits, ok := strings.CutPrefix(parts[2], blobPrefix); ok {
			held.Kind, held.Name = "blob", "sha256:"+digits
			held.Holders = []Holder{{Kind: "layer", Name: d.Short(), Holders: held.Holders}}
			held.Kept = len(held.Holders[0].Holders) > 0
			held.Note = "the layer was read from it, and it is kept so that images leave as they came"
			return held, nil
		}
	}
	held.Kept = len(held.Holders) > 0
	return held, nil
}

func (q *holderQuery) heldDocument(held Held, parts []string) Held {
	if len(parts) < 4 {
		held.Note = "it is part of the store itself"
		return held
	}
	held.Kind, held.Name = "document", "sha256:"+parts[3]
	for _, image := range slices.Concat(q.images, q.untagged) {
		if string(image.Digest) != held.Name && string(image.ID) != held.Name {
			continue
		}
		if string(image.Digest) == held.Name {
			held.Kind = "image"
		}
		if slices.ContainsFunc(q.images, func(i Image) bool { return i.Digest == image.Digest }) {
			held.Holders = append(held.Holders, q.imageHolder(image))
		} else {
			held.Note = "its image " + image.ID.Short() + " has lost its last name"
		}
	}
	held.Kept = len(held.Holders) > 0
	return held
}

// heldObject looks for the layers that need an object.
func (q *holderQuery) heldObject(ctx context.Context, held Held, digits string) (Held, error) {
	var d tree.ObjectDigest
	if n, err := hex.Decode(d[:], []byte(digits)); err != nil || n != len(d) {
		if len(digits) > 2 {
			held.Kept, held.Note = false, "it is no object"
		}
		return held, nil
	}
	held.Kind, held.Name = "object", d.String()
	layers, err := q.s.layers()
	if err != nil {
		return Held{}, err
	}
	for _, layer := range layers {
		if err := ctx.Err(); err != nil {
			return Held{}, err
		}
		need, err := q.s.layerNeed(layer, map[tree.ObjectDigest]bool{d: true})
		if err != nil {
			return Held{}, err
		}
		use, ok := need[d]
		if !ok {
			continue
		}
		h := Holder{Kind: "layer", Name: layer.Short(), Paths: use.paths, More: use.more, Holders: q.layerHolders(layer)}
		held.Holders = append(held.Holders, h)
	}
	held.Kept = slices.ContainsFunc(held.Holders, func(h Holder) bool { return len(h.Holders) > 0 })
	return held, nil
}

// objectNeed says what a layer needs an object for.
type objectNeed struct {
	paths []string // names that it has in the layer's tree
	more  int      // further ones
}

// layerNeed finds those of the objects that a layer needs. Without paths, an
// object is in the tar alone: a later entry took its name.
func (s *Store) layerNeed(diffID oci.DiffID, objects map[tree.ObjectDigest]bool) (map[tree.ObjectDigest]*objectNeed, error) {
	needs := map[tree.ObjectDigest]*objectNeed{}
	found := false
	err := s.layerObjects(diffID, func(d tree.ObjectDigest, _ int64) {
		if objects[d] && needs[d] == nil {
			needs[d] = &objectNeed{}
			found = true
		}
	})
	if err != nil || !found {
		return needs, err
	}
	layer, err := s.Layer(diffID)
	if err != nil {
		return nil, err
	}
	defer layer.Close()
	return needs, needPaths(layer.Tree(), needs)
}

// needPaths fills in the names in a layer's tree.
func needPaths(t tree.Tree, needs map[tree.ObjectDigest]*objectNeed) error {
	return tree.Walk(t, func(p string, e tree.Entry, _ *tree.Attr) error {
		if e.Type != tree.ModeRegular {
			return nil
		}
		c, err := t.Content(e.ID)
		if err != nil {
			return err
		}
		switch need := needs[c.Digest]; {
		case need == nil:
		case len(need.paths) < maxPaths:
			need.paths = append(need.paths, "/"+p)
		default:
			need.more++
		}
		return nil
	})
}
