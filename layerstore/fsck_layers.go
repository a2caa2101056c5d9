package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// layerBytes is what is read to check a layer.
func (s *Store) layerBytes(d oci.DiffID) int64 {
	info, err := s.layerInfo(d)
	if err != nil {
		return 0
	}
	sum := info.TarSize
	for _, src := range info.Sources {
		if src.Kept && src.Digest.Hex() != d.Hex() {
			sum += src.Size
		}
	}
	return sum
}

func (f *fsck) checkLayers(ctx context.Context) error {
	names, err := os.ReadDir(f.s.path(layersDir))
	if err != nil {
		return err
	}
	for _, n := range names {
		d, err := layerOf(n.Name())
		if err != nil {
			f.leftover(filepath.Join(layersDir, n.Name()), errForeign, nil)
			continue
		}
		if err := f.giveWay(ctx); err != nil {
			return err
		}
		f.report.Layers++
		found, err := f.lookAtLayer(ctx, d, f.seen(layersDir, d.Hex()))
		if err != nil {
			return err
		}
		if f.s.HasLayer(d) { // or gc was let in
			for _, damage := range found {
				f.note(damage)
			}
		}
		f.at(layersDir, d.Hex())
	}
	return nil
}

// layersOnDisk lists the layers, whatever else is there.
func (f *fsck) layersOnDisk() ([]oci.DiffID, error) {
	names, err := os.ReadDir(f.s.path(layersDir))
	var layers []oci.DiffID
	for _, n := range names {
		if d, err := layerOf(n.Name()); err == nil {
			layers = append(layers, d)
		}
	}
	return layers, err
}

// layerLook is one look at a layer.
type layerLook struct {
	f     *fsck
	d     oci.DiffID
	found []Damage
	bad   bool // an object that it needs
}

// lookAtLayer returns what is wrong with a layer and with the objects that it
// needs. With known, neither tar nor blobs are read.
func (f *fsck) lookAtLayer(ctx context.Context, d oci.DiffID, known bool) ([]Damage, error) {
	l := layerLook{f: f, d: d}
	if err := wrongKind(f.s.layerPath(d), true); err != nil {
		l.note("", err)
		return l.found, nil
	}
	names, err := os.ReadDir(f.s.layerPath(d))
	if err != nil {
		return nil, err
	}
	l.names(names)
	needs := l.tree()
	fine := l.recipe(needs)
	l.objects(needs)
	if known {
		f.skip(f.s.layerBytes(d))
		return l.found, nil
	}
	if fine && !l.bad {
		damage, err := asDamage(f.readAll(ctx, func() (io.ReadCloser, error) { return f.s.Tar(d) }))
		if err != nil {
			return nil, err
		}
		l.note(recipeFile, damage)
	}
	return l.found, l.sources(ctx, names)
}

// note tells of damage to a layer's file, if err is any.
func (l *layerLook) note(file string, err error) {
	if err == nil {
		return
	}
	switch file {
	case treeFile:
		err = fmt.Errorf("its tree: %w", err)
	case recipeFile:
		err = fmt.Errorf("its tar recipe: %w", err)
	}
	l.found = append(l.found, Damage{
		Kind: "layer", Name: string(l.d), Path: filepath.Join(layersDir, l.d.Hex(), file), Err: err, layer: l.d, file: file,
		again: l.f.layerAgain(l.d, "layer", file),
	})
}

// layerAgain looks once more for damage of one kind, in one file.
func (f *fsck) layerAgain(d oci.DiffID, kind, file string) func(context.Context) error {
	path := filepath.Join(layersDir, d.Hex(), file)
	return func(ctx context.Context) error {
		if !f.s.HasLayer(d) {
			return errMissing
		}
		found, err := f.lookAtLayer(ctx, d, false)
		if err != nil {
			return err
		}
		for _, damage := range found {
			if damage.Kind == kind && (damage.Path == path || file == "") {
				return damage.Err
			}
		}
		return nil
	}
}

// names looks for what does not belong into a layer's directory.
func (l *layerLook) names(names []os.DirEntry) {
	for _, n := range names {
		path := filepath.Join(layersDir, l.d.Hex(), n.Name())
		prefix, digits, cut := strings.Cut(n.Name(), "-")
		_, err := oci.ParseDigest("sha256:" + digits)
		switch {
		case n.Name() == treeFile, n.Name() == recipeFile:
		case cut && err == nil && (prefix+"-" == sourcePrefix || prefix+"-" == blobPrefix):
		default:
			l.found = append(l.found, Damage{Kind: "leftover", Name: path, Path: path, Err: errForeign,
				again: func(context.Context) error { return stillThere(l.f.s.path(path), errForeign) }})
		}
	}
}

// tree returns the objects that the tree needs.
func (l *layerLook) tree() map[tree.ObjectDigest]int64 {
	needs := map[tree.ObjectDigest]int64{}
	l.note(treeFile, l.f.lookAtTree(l.f.s.layerPath(l.d, treeFile), func(d tree.ObjectDigest, size int64) { needs[d] = size }))
	return needs
}

// lookAtTree returns what is wrong with a tree file and tells of its objects.
func (f *fsck) lookAtTree(path string, need func(tree.ObjectDigest, int64)) error {
	if err := wrongKind(path, false); err != nil {
		return err
	}
	t, err := tree.OpenFile(path, f.s)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := t.Check(); err != nil {
		return firstOf(err)
	}
	return treeObjects(t, need)
}

// firstOf shortens what is joined: one wrong byte is wrong for all that is in its
// block.
func firstOf(err error) error {
	if all, ok := err.(interface{ Unwrap() []error }); ok && len(all.Unwrap()) > 1 {
		return fmt.Errorf("%w (and %d more)", all.Unwrap()[0], len(all.Unwrap())-1)
	}
	return err
}

// recipe adds the objects that the recipe needs.
func (l *layerLook) recipe(needs map[tree.ObjectDigest]int64) (fine bool) {
	err := wrongKind(l.f.s.layerPath(l.d, recipeFile), false)
	if err == nil {
		err = l.f.s.recipeObjects(l.d, func(d tree.ObjectDigest, size int64) { needs[d] = size })
	}
	l.note(recipeFile, err)
	return err == nil
}

// objects looks whether they are there. Whether their bytes are right has been
// found out before.
func (l *layerLook) objects(needs map[tree.ObjectDigest]int64) {
	for d, size := range needs {
		if l.f.badObjects[d] {
			l.bad = true
			continue
		}
		if l.f.s.hasObject(d, size) {
			continue
		}
		l.bad = true
		err := wrongKind(l.f.s.path(objectsDir, objectName(d)), false)
		if err == nil {
			err = fmt.Errorf("has not the %d bytes that layer %s wants of it", size, l.d.Short())
		}
		l.f.noteObject(d, err)
	}
}

// sources looks at the records of source blobs, and at the blobs.
func (l *layerLook) sources(ctx context.Context, names []os.DirEntry) error {
	blobs, records := map[oci.Digest]bool{}, map[oci.Digest]bool{}
	for _, n := range names {
		if digits, ok := strings.CutPrefix(n.Name(), blobPrefix); ok {
			blobs[oci.Digest("sha256:"+digits)] = true
		} else if digits, ok := strings.CutPrefix(n.Name(), sourcePrefix); ok {
			records[oci.Digest("sha256:"+digits)] = true
		}
	}
	for d := range records {
		r, err := l.record(d)
		if l.noteBlob(sourceFile(d), d, err); err != nil {
			delete(blobs, d) // it is told of once
			continue
		}
		if r.Form != formBlob {
			continue
		}
		delete(blobs, d)
		err = wrongKind(l.f.s.layerPath(l.d, blobFile(d)), false)
		if err == nil {
			err = l.f.readAll(ctx, func() (io.ReadCloser, error) { return l.f.s.layerBlob(l.d, d) })
		}
		damage, err := asDamage(err)
		if err != nil {
			return err
		}
		l.noteBlob(blobFile(d), d, damage)
	}
	for d := range blobs {
		l.noteBlob(blobFile(d), d, errors.New("has no record that says what it is"))
	}
	return nil
}

// record reads a source record and looks whether it can be true.
func (l *layerLook) record(d oci.Digest) (sourceRecord, error) {
	path := l.f.s.layerPath(l.d, sourceFile(d))
	if err := wrongKind(path, false); err != nil {
		return sourceRecord{}, err
	}
	r, err := readSource(l.f.s.layerPath(l.d), d)
	if err != nil {
		return r, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return r, err
	}
	if err := strictJSON(b, new(sourceRecord)); err != nil {
		return r, err
	}
	switch {
	case r.MediaType != "" && !oci.IsLayerType(r.MediaType):
		return r, fmt.Errorf("has media type %q, which is no layer's", r.MediaType)
	case r.Form == formTar && d.Hex() != l.d.Hex():
		return r, errors.New("says that the blob is the layer's tar, and that has another digest")
	}
	if r.Form != formBlob { // the size of that is seen when it is read
		err = l.f.contradiction(d, r.Size)
	}
	return r, err
}

// contradiction compares a size with what manifests say of the blob.
func (f *fsck) contradiction(d oci.Digest, size int64) error {
	if is, ok := f.s.describe(d); ok && is.Size != size {
		return fmt.Errorf("says that the blob has %d bytes, and a manifest says %d", size, is.Size)
	}
	return nil
}

// describe finds what an image's manifest says of a blob.
func (s *Store) describe(d oci.Digest) (oci.Descriptor, bool) {
	images, _ := s.Images() // those that can be read
	for _, image := range images {
		m, err := oci.ParseManifest(image.Manifest, image.ManifestType)
		if err != nil {
			continue
		}
		for _, l := range m.Layers {
			if l.Digest == d {
				return l, true
			}
		}
	}
	return oci.Descriptor{}, false
}

func (l *layerLook) noteBlob(file string, d oci.Digest, err error) {
	if err == nil {
		return
	}
	l.found = append(l.found, Damage{
		Kind: "blob", Name: string(d), Path: filepath.Join(layersDir, l.d.Hex(), file), Err: err, layer: l.d, blob: d,
		again: l.f.layerAgain(l.d, "blob", file),
	})
}

// recipeObjects calls f with every object that a layer's recipe names.
func (s *Store) recipeObjects(diffID oci.DiffID, f func(d tree.ObjectDigest, size int64)) error {
	recipe, _, err := s.openRecipe(diffID)
	if err != nil {
		return err
	}
	defer recipe.Close()
	if err := eachRecipeObject(recipe, f); err != nil {
		return fmt.Errorf("tar recipe of layer %s: %w", diffID, err)
	}
	return nil
}
