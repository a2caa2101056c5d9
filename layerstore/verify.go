package layerstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"strata/overlay/tree"
)

// Damage is something that is not as it must be.
type Damage struct {
	Kind string // "object", "layer", "chain" or "image"
	Name string // its digest
	Err  error
}

func (d Damage) Error() string { return fmt.Sprintf("%s %s: %v", d.Kind, d.Name, d.Err) }
func (d Damage) Unwrap() error { return d.Err }

// Verify reads everything and returns all that is damaged: objects that do not
// hash to their names, trees and chains that are malformed or name objects that
// are missing, tars and blobs that cannot be given back bit for bit, images
// without their layers or documents. The error is for what keeps it from
// looking. It takes a Hold.
func (s *Store) Verify(ctx context.Context) ([]Damage, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	v := verification{s: s}
	for _, step := range []func(context.Context) error{v.objects, v.layers, v.chains, v.images} {
		if err := step(ctx); err != nil {
			return v.damages, fmt.Errorf("verify store %s: %w", s.root, err)
		}
	}
	return v.damages, ctx.Err()
}

// verification is one call of Verify.
type verification struct {
	s       *Store
	damages []Damage
}

// note tells of damage, if err is any.
func (v *verification) note(kind, name string, err error) {
	if err != nil {
		v.damages = append(v.damages, Damage{kind, name, err})
	}
}

func (v *verification) objects(ctx context.Context) error {
	dirs, err := os.ReadDir(v.s.path(objectsDir))
	if err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	for _, dir := range dirs {
		names, err := os.ReadDir(v.s.path(objectsDir, dir.Name()))
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := ctx.Err(); err != nil {
				return err
			}
			name := dir.Name() + n.Name()
			v.note("object", name, v.object(ctx, name, buf))
		}
	}
	return nil
}

func (v *verification) object(ctx context.Context, name string, buf []byte) error {
	var d tree.ObjectDigest
	if n, err := hex.Decode(d[:], []byte(name)); err != nil || n != len(d) || len(name) != 2*len(d) {
		return errors.New("is no object's name")
	}
	f, err := v.s.OpenObject(d)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode()&^objectMode != 0 { // neither another type, nor writable, nor set-id
		return fmt.Errorf("its mode is %v", info.Mode())
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{contextReader{ctx, f}}, buf); err != nil {
		return err
	}
	if found := tree.ObjectDigest(sum.Sum(nil)); found != d {
		return fmt.Errorf("its bytes hash to %s", found)
	}
	return nil
}

func (v *verification) layers(ctx context.Context) error {
	layers, err := v.s.layers()
	if err != nil {
		return err
	}
	for _, d := range layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		v.note("layer", string(d), v.tree(v.s.layerPath(d, treeFile)))
		v.note("layer", string(d), readAll(ctx, func() (io.ReadCloser, error) { return v.s.Tar(d) }))
		sources, err := v.s.sources(d)
		v.note("layer", string(d), err)
		for _, src := range sources {
			if src.Kept && src.Digest.Hex() != d.Hex() { // that one is the tar
				v.note("layer", string(d), readAll(ctx, func() (io.ReadCloser, error) { return v.s.Blob(src.Digest) }))
			}
		}
	}
	return nil
}

func (v *verification) chains(ctx context.Context) error {
	names, err := os.ReadDir(v.s.path(chainsDir))
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		v.note("chain", n.Name(), v.tree(v.s.path(chainsDir, n.Name(), treeFile)))
	}
	return nil
}

// tree checks a tree file and that the objects which it names are there.
func (v *verification) tree(path string) error {
	t, err := tree.OpenFile(path, v.s)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := t.Check(); err != nil {
		return err
	}
	var missing []error
	err = treeObjects(t, func(d tree.ObjectDigest, size int64) {
		if !v.s.hasObject(d, size) {
			missing = append(missing, fmt.Errorf("object %s of %d bytes is missing or has another size", d, size))
		}
	})
	return errors.Join(append(missing, err)...)
}

func (v *verification) images(ctx context.Context) error {
	ix, err := v.s.readIndex()
	if err != nil {
		return err
	}
	for _, e := range ix.Manifests {
		image, err := v.s.readImage(e)
		v.note("image", string(e.Digest), err)
		for _, d := range image.Layers {
			if !v.s.HasLayer(d) {
				v.note("image", string(e.Digest), &NotFoundError{Root: v.s.root, Kind: "layer", Name: string(d)})
			}
		}
	}
	return nil
}

// readAll reads what open opens to its verified end.
func readAll(ctx context.Context, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, contextReader{ctx, r})
	return errors.Join(err, r.Close())
}
