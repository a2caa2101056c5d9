package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
	"strata/internal/oci"
)

// repair mends what it can. What is derived or comes from other things goes
// after them. In the end it looks again: what was done is not believed.
func (f *fsck) repair(ctx context.Context) error {
	f.repairing = true
	f.pulled = map[oci.Digest]pulledImage{}
	for _, step := range []func(context.Context) error{
		f.repairLeftovers, f.repairStore, f.repairImages, f.repairLayers, f.repairBlobs, f.repairChains, f.dropUnneeded,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, d := range f.damages {
		err := d.again(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch {
		case err == nil && d.Repaired == "":
			d.Repaired = "mended together with others"
		case err != nil && !d.needed && errors.Is(err, fs.ErrNotExist):
			d.Repaired = "removed: nothing needed it"
		case err != nil:
			d.Repaired = ""
			if d.Left == nil {
				d.Left = errNoSource
			}
		}
		if d.Repaired != "" {
			d.Left = nil
		}
	}
	return nil
}

// errNoSource is why most things cannot be mended.
var errNoSource = errors.New("nothing in the store gives it back, and it is not known where it came from: load or pull it from elsewhere")

// each calls mend with every damage of a kind. What it returns is why it could
// not; only the end of ctx ends the repair.
func (f *fsck) each(ctx context.Context, kind string, mend func(*Damage) (string, error)) error {
	for _, d := range f.damages {
		if d.Kind != kind {
			continue
		}
		how, err := mend(d)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if how != "" {
			d.Repaired = how
		}
		d.Left = err
	}
	return nil
}

// put renames a staged file to its place in the store, whatever is there.
func (f *fsck) put(staged, path string) error {
	dir := filepath.Dir(path)
	if err := wrongKind(dir, true); err != nil {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
	}
	if err := wrongKind(path, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	for _, p := range []string{staged, filepath.Dir(staged)} {
		if err := syncPath(p); err != nil {
			return err
		}
	}
	if err := os.Rename(staged, path); err != nil {
		return err
	}
	if err := syncPath(dir); err != nil {
		return err
	}
	return syncPath(filepath.Dir(dir))
}

// repairLeftovers removes what does not belong where it is. In the root and
// among containers it may be somebody's, and stays.
func (f *fsck) repairLeftovers(ctx context.Context) error {
	return f.each(ctx, "leftover", func(d *Damage) (string, error) {
		if d.Repaired != "" {
			return d.Repaired, nil
		}
		if !strings.ContainsRune(d.Path, '/') {
			return "", errors.New("it stands in the store's own directory and may be yours: move it away, or remove it")
		}
		return "removed", os.RemoveAll(f.s.path(d.Path))
	})
}

func (f *fsck) repairStore(ctx context.Context) error {
	return f.each(ctx, "store", func(d *Damage) (string, error) {
		switch d.Path {
		case imagesDir + "/" + layoutFile:
			staged := f.h.path(layoutFile)
			if err := os.WriteFile(staged, []byte(layoutVersion+"\n"), 0o600); err != nil {
				return "", err
			}
			return "written again", f.put(staged, f.s.path(d.Path))
		case imagesDir + "/" + indexFile:
			return f.repairIndex(ctx)
		}
		return d.Repaired, d.again(ctx)
	})
}

// repairIndex makes an index of the manifests that are there. Which names they
// had stood in the old one alone; so that gc does not take them for images that
// have lost theirs, they get new ones.
func (f *fsck) repairIndex(ctx context.Context) (string, error) {
	lock, err := lockDir(ctx, f.s.path(imagesDir), unix.LOCK_EX)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	ix, err := f.s.readIndex()
	if err != nil {
		ix = &index{}
	}
	names, err := os.ReadDir(f.s.path(imagesDir, blobsDir))
	if err != nil {
		return "", err
	}
	n := 0
	for _, name := range names {
		e, ok := f.s.manifestEntry(oci.Digest("sha256:" + name.Name()))
		if !ok || ix.holds(e.Digest) {
			continue
		}
		ref, err := oci.ParseReference("recovered/" + e.Digest.Short())
		if err != nil {
			return "", err
		}
		ix.tag(e, []oci.Reference{ref})
		n++
	}
	if err := wrongKind(f.s.path(imagesDir, indexFile), false); err != nil {
		if err := os.RemoveAll(f.s.path(imagesDir, indexFile)); err != nil {
			return "", err
		}
	}
	if err := f.s.writeIndex(f.h.dir, ix); err != nil {
		return "", err
	}
	if n == 0 {
		return "written again", nil
	}
	return fmt.Sprintf("written again; %d images are called recovered/..., for their names are lost: strata tag gives them others", n), nil
}

// manifestEntry makes an entry of a document if that is a whole image's manifest.
func (s *Store) manifestEntry(d oci.Digest) (indexEntry, bool) {
	manifest, err := s.readBlob(d)
	if err != nil {
		return indexEntry{}, false
	}
	mediaType, err := oci.ManifestType(manifest)
	if err != nil {
		return indexEntry{}, false
	}
	e := indexEntry{MediaType: mediaType, Digest: d, Size: int64(len(manifest))}
	image, err := s.readImage(e)
	if err != nil {
		return e, false
	}
	return e, !slices.ContainsFunc(image.Layers, func(d oci.DiffID) bool { return !s.HasLayer(d) })
}

// repairImages brings manifests and configs again.
func (f *fsck) repairImages(ctx context.Context) error {
	return f.each(ctx, "image", func(d *Damage) (string, error) {
		if !d.needed {
			return "", nil
		}
		ix, err := f.s.readIndex()
		if err != nil {
			return "", err
		}
		var failed []error
		for _, e := range ix.Manifests {
			if _, err := f.s.lookAtImage(e); err == nil {
				continue
			}
			if image, err := f.s.readImage(e); err == nil && e.Size != int64(len(image.Manifest)) {
				if err := f.h.updateIndex(ctx, func(ix *index) error { ix.resize(e.Digest, int64(len(image.Manifest))); return nil }); err != nil {
					return "", err
				}
				d.Repaired = "the size in the index is put right"
				continue
			}
			img, from, err := f.elsewhere(ctx, e)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			for _, b := range [][]byte{img.Config, img.Manifest} {
				staged := f.h.path("document")
				if err := renameio.WriteFile(staged, b, objectMode); err != nil {
					return "", err
				}
				if err := f.put(staged, f.s.path(imagesDir, blobsDir, oci.DigestBytes(b).Hex())); err != nil {
					return "", err
				}
			}
			d.Repaired = "brought again from " + from
		}
		return d.Repaired, errors.Join(failed...)
	})
}

// pulledImage is what came of asking a registry for an image.
type pulledImage struct {
	img *oci.Image
	err error
}

// elsewhere finds an image of the index where it can be had again.
func (f *fsck) elsewhere(ctx context.Context, e indexEntry) (img *oci.Image, from string, err error) {
	for _, img := range f.o.Images {
		if img.Digest() == e.Digest {
			return img, "what was given", nil
		}
	}
	repository := e.Annotations[pulledFrom]
	if repository == "" || f.o.Pull == nil {
		return nil, "", errNoSource
	}
	known, ok := f.pulled[e.Digest]
	if !ok {
		ref, err := oci.ParseReference(repository + "@" + string(e.Digest))
		if err == nil {
			known.img, err = f.o.Pull(ctx, ref)
		}
		known.err = err
		f.pulled[e.Digest] = known
	}
	return known.img, repository, known.err
}

// repairChains derives them anew. Who has mounted one goes on with the file that
// he has mapped.
func (f *fsck) repairChains(ctx context.Context) error {
	stacks := f.s.stacks()
	return f.each(ctx, "chain", func(d *Damage) (string, error) {
		layers := stacks[d.chain]
		if len(layers) == 0 {
			return "", nil // gc drops it
		}
		dir, err := f.h.mkdir(stagedChains, d.chain.Hex())
		if err != nil {
			return "", err
		}
		staged := filepath.Join(dir, treeFile)
		os.Remove(staged)
		if err := f.s.deriveChain(staged, layers); err != nil {
			return "", fmt.Errorf("it cannot be derived: %w", err)
		}
		how := "derived again from its layers"
		if in := f.s.inUse(d.chain); len(in) > 0 {
			how += "; " + strings.Join(in, ", ") + " must be unmounted and mounted again to see it"
		}
		return how, f.put(staged, f.s.chainPath(d.chain, treeFile))
	})
}

// dropUnneeded lets gc remove what is damaged and not needed.
func (f *fsck) dropUnneeded(ctx context.Context) error {
	var drop []*Damage
	for _, d := range f.damages {
		if !d.needed && d.Kind != "leftover" && d.again(ctx) != nil {
			drop = append(drop, d)
		}
	}
	if len(drop) == 0 {
		return ctx.Err()
	}
	if err := f.h.Release(); err != nil {
		return err
	}
	_, err := f.s.GC(ctx, GCOptions{KeepUntagged: true})
	for _, d := range drop {
		if d.Left = err; err == nil {
			d.Repaired = "removed: nothing needed it"
		}
	}
	f.h, err = f.s.Hold(ctx)
	if err != nil {
		f.h = &Hold{} // to be released
	}
	return err
}
