package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// repairLayers makes damaged objects and the files of layers anew, by reading
// layers once more from wherever their tars can be had.
func (f *fsck) repairLayers(ctx context.Context) error {
	needs, err := f.objectNeeds(ctx)
	if err != nil {
		return err
	}
	var layers []oci.DiffID
	add := func(d oci.DiffID) {
		if !slices.Contains(layers, d) {
			layers = append(layers, d)
		}
	}
	for _, d := range f.damages {
		if d.Kind == "layer" {
			add(d.layer) // these first: with them it is known which objects they need
		}
	}
	for _, d := range f.damages {
		for _, n := range needs[d.object] {
			add(n.layer)
		}
	}
	for _, d := range layers {
		if err := f.repairLayer(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// tarSource is where a layer's tar can be had.
type tarSource struct {
	name string
	src  Source
	keep KeepBlobs
	open func(context.Context) (io.ReadCloser, error)
}

func (f *fsck) repairLayer(ctx context.Context, d oci.DiffID) error {
	if f.layerUsers(d) == "" {
		return nil // gc drops it
	}
	left := f.concerned(d)
	if len(left) == 0 {
		return nil // mended with another layer
	}
	var failed []error
	sources, err := f.tarSources(ctx, d)
	if err != nil {
		failed = append(failed, err)
	}
	for _, src := range sources {
		err := f.readAgain(ctx, d, src)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("from %s: %w", src.name, err))
			continue
		}
		for _, damage := range left {
			damage.Repaired, damage.Left = "made again from "+src.name, nil
			delete(f.badObjects, damage.object)
		}
		delete(f.badTrees, d)
		return nil
	}
	for _, damage := range left {
		if damage.Repaired == "" {
			damage.Left = errors.Join(failed...) // nil: there was nowhere to ask
		}
	}
	return nil
}

// concerned are the damages that reading the layer again may mend.
func (f *fsck) concerned(d oci.DiffID) []*Damage {
	objects := map[tree.ObjectDigest]bool{}
	f.s.layerObjectsLeft(d, func(o tree.ObjectDigest, _ int64) { objects[o] = f.badObjects[o] })
	var list []*Damage
	for _, damage := range f.damages {
		if damage.Kind == "layer" && damage.layer == d && damage.Repaired == "" || damage.Kind == "object" && objects[damage.object] {
			list = append(list, damage)
		}
	}
	return list
}

// layerObjectsLeft is layerObjects of a layer that may be damaged.
func (s *Store) layerObjectsLeft(diffID oci.DiffID, need func(d tree.ObjectDigest, size int64)) {
	if t, err := tree.OpenFile(s.layerPath(diffID, treeFile), s); err == nil {
		treeObjects(t, need)
		t.Close()
	}
	s.recipeObjects(diffID, need)
}

// tarSources lists where the layer's tar may be had, the nearest first. The error is
// for places that could not be asked.
func (f *fsck) tarSources(ctx context.Context, d oci.DiffID) ([]tarSource, error) {
	var list []tarSource
	names, _ := os.ReadDir(f.s.layerPath(d))
	for _, n := range names {
		digest, err := oci.ParseDigest("sha256:" + nameIn(n.Name()))
		if err != nil || n.Name() != blobFile(digest) {
			continue
		}
		info, err := n.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		path := f.s.layerPath(d, n.Name())
		list = append(list, tarSource{
			name: "its kept blob " + digest.Short(), src: Source{Digest: digest, Size: info.Size()}, keep: KeepNever,
			open: func(context.Context) (io.ReadCloser, error) { return os.Open(path) },
		})
	}
	if f.recipeServes(d) {
		list = append(list, tarSource{name: "its tar recipe", keep: KeepNever, open: func(context.Context) (io.ReadCloser, error) { return f.s.Tar(d) }})
	}
	for _, img := range f.o.Images {
		list = append(list, layersFrom("what was given", img, d)...)
	}
	ix, err := f.s.readIndex()
	if err != nil {
		return list, err
	}
	var failed []error
	for _, e := range ix.Manifests {
		image, err := f.s.readImage(e)
		if err != nil || !slices.Contains(image.Layers, d) || e.Annotations[pulledFrom] == "" {
			continue
		}
		img, from, err := f.elsewhere(ctx, e)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		list = append(list, layersFrom(from, img, d)...)
	}
	return list, errors.Join(failed...)
}

// recipeServes tells whether a layer's recipe and the objects that it names are
// right, as far as is known.
func (f *fsck) recipeServes(d oci.DiffID) bool {
	whole := true
	err := f.s.recipeObjects(d, func(o tree.ObjectDigest, size int64) { whole = whole && !f.badObjects[o] && f.s.hasObject(o, size) })
	return err == nil && whole
}

// layersFrom are the blobs of a layer in an image of elsewhere.
func layersFrom(name string, img *oci.Image, d oci.DiffID) []tarSource {
	var list []tarSource
	for _, l := range img.Layers {
		if l.DiffID == d {
			list = append(list, tarSource{name: name, src: Source{l.Digest, l.Size, l.MediaType}, open: l.Open})
		}
	}
	return list
}

// readAgain reads a layer from a tar and puts what comes of it in the place of
// what is damaged.
func (f *fsck) readAgain(ctx context.Context, d oci.DiffID, from tarSource) error {
	h := f.h
	h.damaged = f.badObjects
	defer func() {
		h.damaged = nil
		h.layers = nil // they are published here
	}()
	if err := os.RemoveAll(h.path(stagedLayers, d.Hex())); err != nil {
		return err
	}
	blob, err := from.open(ctx)
	if err != nil {
		return err
	}
	defer blob.Close()
	a := addition{h: h, diffID: d, src: from.src, o: AddOptions{KeepBlobs: from.keep}}
	if _, err := a.read(ctx, &countedReader{r: newBlobReader(contextReader{ctx, blob}, from.src)}); err != nil {
		return f.forget(err)
	}
	return f.publishAgain(d, from.keep != KeepNever)
}

// forget removes what a failed reading has staged: it is staged anew by the next.
func (f *fsck) forget(err error) error {
	f.h.mu.Lock()
	defer f.h.mu.Unlock()
	clear(f.h.staged)
	return errors.Join(err, os.RemoveAll(f.h.path(stagedObjects)), f.reopenStaged())
}

func (f *fsck) reopenStaged() error {
	if f.h.objects != nil {
		f.h.objects.Close()
		f.h.objects = nil
	}
	return f.h.openStagedObjects()
}

// publishAgain publishes a layer that was read again: objects before the trees
// that name them, as ever.
func (f *fsck) publishAgain(d oci.DiffID, sources bool) error {
	h := f.h
	if err := h.syncfs(); err != nil {
		return err
	}
	if err := h.publishObjects(); err != nil {
		return err
	}
	if err := h.syncfs(); err != nil {
		return err
	}
	if err := wrongKind(f.s.layerPath(d), true); err != nil {
		if err := os.RemoveAll(f.s.layerPath(d)); err != nil {
			return err
		}
		if _, err := publishDir(h.path(stagedLayers, d.Hex()), f.s.layerPath(d)); err != nil {
			return err
		}
		return syncPath(f.s.path(layersDir))
	}
	for _, name := range []string{recipeFile, treeFile} {
		damaged := slices.ContainsFunc(f.damages, func(x *Damage) bool { return x.Kind == "layer" && x.layer == d && x.file == name })
		if !damaged {
			continue // a tree that is right stays the file that others have mapped
		}
		if err := f.put(h.path(stagedLayers, d.Hex(), name), f.s.layerPath(d, name)); err != nil {
			return err
		}
	}
	if !sources {
		return nil
	}
	return h.publishSource(stagedLayers, d)
}

// repairBlobs brings kept blobs and their records in order: a blob that cannot be had again
// is not kept any more, so that images can leave with another.
func (f *fsck) repairBlobs(ctx context.Context) error {
	return f.each(ctx, "blob", func(d *Damage) (string, error) {
		if !d.needed {
			return "", nil
		}
		return f.repairBlob(ctx, d.layer, d.blob)
	})
}

func (f *fsck) repairBlob(ctx context.Context, layer oci.DiffID, d oci.Digest) (string, error) {
	src := f.sourceOf(layer, d)
	if err := os.RemoveAll(f.h.path("source")); err != nil {
		return "", err
	}
	dir, err := f.h.mkdir("source")
	if err != nil {
		return "", err
	}
	how, err := f.findBlob(ctx, layer, &src, filepath.Join(dir, blobFile(d)))
	if err != nil {
		return "", err
	}
	form := formBlob
	switch {
	case how != "":
	case d.Hex() == layer.Hex():
		form, how = formTar, "not kept any more: it is the layer's tar"
	default:
		form, how = formNone, "not kept any more: images leave with another blob and another digest"
	}
	if form != formBlob {
		if err := os.RemoveAll(f.s.layerPath(layer, blobFile(d))); err != nil {
			return "", err
		}
	}
	if err := writeSource(dir, src, form); err != nil {
		return "", err
	}
	if _, err := os.Lstat(filepath.Join(dir, blobFile(d))); err == nil {
		if err := f.put(filepath.Join(dir, blobFile(d)), f.s.layerPath(layer, blobFile(d))); err != nil {
			return "", err
		}
	}
	return how, f.put(filepath.Join(dir, sourceFile(d)), f.s.layerPath(layer, sourceFile(d)))
}

// sourceOf is what is known of a blob, its record's word last.
func (f *fsck) sourceOf(layer oci.DiffID, d oci.Digest) Source {
	if is, ok := f.s.describe(d); ok {
		return Source{d, is.Size, is.MediaType}
	}
	src := Source{Digest: d}
	if r, err := readSource(f.s.layerPath(layer), d); err == nil {
		src.Size, src.MediaType = r.Size, r.MediaType
	}
	if info, err := os.Lstat(f.s.layerPath(layer, blobFile(d))); err == nil && src.Size == 0 {
		src.Size = info.Size()
	}
	if !oci.IsLayerType(src.MediaType) {
		src.MediaType = ""
	}
	return src
}

// findBlob writes the blob to path, unless the one that is kept is right. It says
// how, or nothing if there is none.
func (f *fsck) findBlob(ctx context.Context, layer oci.DiffID, src *Source, path string) (string, error) {
	kept := f.s.layerPath(layer, blobFile(src.Digest))
	if wrongKind(kept, false) == nil {
		found := *src
		if info, err := os.Lstat(kept); err == nil {
			found.Size = info.Size()
		}
		if err := f.copyBlob(ctx, found, "", func(context.Context) (io.ReadCloser, error) { return os.Open(kept) }); err == nil {
			src.Size = found.Size
			return "its record is written again", nil
		}
	}
	sources, _ := f.tarSources(ctx, layer) // who cannot be asked has nothing to give
	for _, from := range sources {
		if from.src.Digest != src.Digest || from.keep == KeepNever {
			continue
		}
		if err := f.copyBlob(ctx, from.src, path, from.open); err == nil {
			*src = from.src
			return "brought again from " + from.name, nil
		}
	}
	if src.Digest.Hex() == layer.Hex() {
		return "", ctx.Err()
	}
	compression := compressionFor(src.MediaType)
	if compression == "" {
		return "", ctx.Err()
	}
	err := f.copyBlob(ctx, *src, path, func(context.Context) (io.ReadCloser, error) { return f.s.compressedTar(layer, compression) })
	if err == nil {
		return "compressed again from the layer's tar", nil
	}
	return "", ctx.Err()
}

// copyBlob writes a blob to path, or only looks at it if that is empty.
func (f *fsck) copyBlob(ctx context.Context, src Source, path string, open func(context.Context) (io.ReadCloser, error)) error {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	w := io.WriteCloser(discard{})
	if path != "" {
		if w, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, objectMode); err != nil {
			return err
		}
	}
	_, err = io.Copy(w, newBlobReader(contextReader{ctx, r}, src))
	if err = errors.Join(err, w.Close()); err != nil && path != "" {
		os.Remove(path)
	}
	return err
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
