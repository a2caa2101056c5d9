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

	"strata/internal/oci"
)

// checkStanding looks for the directories without which there is no store, and
// makes those that are missing if it may.
func (f *fsck) checkStanding() error {
	var lost error
	for _, dir := range []string{layersDir, chainsDir, containersDir, imagesDir, imagesDir + "/blobs", imagesDir + "/" + blobsDir} {
		path := f.s.path(dir)
		again := func(context.Context) error { return wrongKind(path, true) }
		err := wrongKind(path, true)
		if err == nil {
			continue
		}
		f.note(Damage{Kind: "store", Name: dir, Path: dir, Err: err, again: again, needed: true,
			Consequence: "nothing can be found or put there"})
		if !f.o.Repair {
			lost = errors.Join(lost, fmt.Errorf("%s %w", path, err))
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		f.damages[len(f.damages)-1].Repaired = "made again, empty"
	}
	return lost
}

// checkSpecial looks for FIFOs and the like, which a store never has and which
// would be waited for without end.
func (f *fsck) checkSpecial() error {
	var found error
	for _, dir := range []string{objectsDir, layersDir, chainsDir, imagesDir} {
		err := filepath.WalkDir(f.s.path(dir), func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gc is at work
			}
			if err != nil || e.Type()&^(fs.ModeDir|fs.ModeSymlink) == 0 {
				return err
			}
			rel, err := filepath.Rel(f.s.root, path)
			if err != nil {
				return err
			}
			why := fmt.Errorf("is %s", kindOf(e.Type()))
			f.leftover(rel, why, nil)
			f.damages[len(f.damages)-1].Consequence = "whoever reads it waits for ever"
			if f.o.Repair {
				f.damages[len(f.damages)-1].Repaired = "removed"
				return os.Remove(path)
			}
			found = errors.Join(found, fmt.Errorf("%s %w: remove it, or add --repair", path, why))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return found
}

// checkRoot looks at the names directly below the root.
func (f *fsck) checkRoot(context.Context) error {
	names, err := os.ReadDir(f.s.root)
	if err != nil {
		return err
	}
	for _, n := range names {
		switch n.Name() {
		case objectsDir, layersDir, chainsDir, imagesDir, containersDir, tmpDir, versionFile, fsckFile, "lost+found":
		default:
			f.leftover(n.Name(), errForeign, nil)
		}
	}
	return nil
}

func (f *fsck) checkImages(ctx context.Context) error {
	layout := f.s.path(imagesDir, layoutFile)
	f.noteStore(filepath.Join(imagesDir, layoutFile), func(context.Context) error { return lookAtLayout(layout) })
	f.noteStore(filepath.Join(imagesDir, indexFile), func(context.Context) error { return f.s.lookAtIndex() })
	if err := f.checkImageNames(); err != nil {
		return err
	}
	ix, err := f.s.readIndex()
	if err != nil {
		ix = &index{} // told above
	}
	seen := map[oci.Digest]bool{} // by another of its references
	for _, e := range ix.Manifests {
		if seen[e.Digest] {
			continue
		}
		seen[e.Digest] = true
		f.report.Images++
		path, err := f.s.lookAtImage(e)
		if err == nil {
			continue
		}
		if again, readErr := f.s.readIndex(); readErr == nil && !again.holds(e.Digest) {
			continue // it was removed meanwhile
		}
		f.note(Damage{Kind: "image", Name: string(e.Digest), Path: path, Err: err, image: e.Digest,
			again: func(context.Context) error { _, err := f.s.lookAtImage(e); return err }})
	}
	f.checkListed()
	return ctx.Err()
}

func (f *fsck) noteStore(path string, look func(context.Context) error) {
	if err := look(context.Background()); err != nil {
		f.note(Damage{Kind: "store", Name: path, Path: path, Err: err, again: look, needed: true})
	}
}

// checkListed looks for layers that images and containers have and the store
// has not.
func (f *fsck) checkListed() {
	for _, layers := range f.s.stacks() {
		for _, d := range layers {
			if !f.s.HasLayer(d) {
				f.note(Damage{Kind: "layer", Name: string(d), Path: filepath.Join(layersDir, d.Hex()), Err: errMissing, layer: d,
					again: f.layerAgain(d, "layer", "")})
			}
		}
	}
}

// checkImageNames looks at all files of the layout; documents that no image has
// must be right, too.
func (f *fsck) checkImageNames() error {
	for dir, known := range map[string][]string{imagesDir: {layoutFile, indexFile, "blobs"}, imagesDir + "/blobs": {"sha256"}} {
		names, err := os.ReadDir(f.s.path(dir))
		if err != nil {
			return err
		}
		for _, n := range names {
			if !slices.Contains(known, n.Name()) {
				f.leftover(filepath.Join(dir, n.Name()), errForeign, nil)
			}
		}
	}
	names, err := os.ReadDir(f.s.path(imagesDir, blobsDir))
	if err != nil {
		return err
	}
	for _, n := range names {
		path := filepath.Join(imagesDir, blobsDir, n.Name())
		d, err := oci.ParseDigest("sha256:" + n.Name())
		if err != nil {
			f.leftover(path, errForeign, nil)
			continue
		}
		look := func(context.Context) error { return f.s.lookAtDocument(d) }
		if err := look(context.Background()); err != nil && !errors.Is(err, errMissing) {
			f.note(Damage{Kind: "image", Name: string(d), Path: path, Err: err, again: look, blob: d})
		}
	}
	return nil
}

func (s *Store) lookAtDocument(d oci.Digest) error {
	if err := wrongKind(s.path(imagesDir, blobsDir, d.Hex()), false); err != nil {
		return err
	}
	_, err := s.readBlob(d)
	return err
}

// lookAtImage returns what is wrong with the documents of an image, and with
// which of them.
func (s *Store) lookAtImage(e indexEntry) (path string, err error) {
	for _, d := range append([]oci.Digest{e.Digest}, s.configOf(e)...) {
		path = filepath.Join(imagesDir, blobsDir, d.Hex())
		if err := s.lookAtDocument(d); err != nil {
			return path, err
		}
	}
	path = filepath.Join(imagesDir, blobsDir, e.Digest.Hex())
	image, err := s.readImage(e)
	if err != nil {
		return path, err
	}
	if e.Size != int64(len(image.Manifest)) {
		return path, fmt.Errorf("its manifest has %d bytes, and the index says %d", len(image.Manifest), e.Size)
	}
	m, err := oci.ParseManifest(image.Manifest, image.ManifestType)
	if err == nil && len(m.Layers) != len(image.Layers) {
		err = fmt.Errorf("its manifest lists %d layers, its config %d", len(m.Layers), len(image.Layers))
	}
	return path, err
}

// configOf is the digest of an image's config, if its manifest can be read.
func (s *Store) configOf(e indexEntry) []oci.Digest {
	manifest, err := s.readBlob(e.Digest)
	if err != nil {
		return nil
	}
	m, err := oci.ParseManifest(manifest, e.MediaType)
	if err != nil {
		return nil
	}
	return []oci.Digest{m.Config.Digest}
}

func lookAtLayout(path string) error {
	if err := wrongKind(path, false); err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(b)) != layoutVersion {
		err = fmt.Errorf("holds %.40q, not %q", b, layoutVersion)
	}
	return err
}

// lookAtIndex returns what is wrong with the index.
func (s *Store) lookAtIndex() error {
	path := s.path(imagesDir, indexFile)
	if err := wrongKind(path, false); err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var ix index
	if err := strictJSON(b, &ix); err != nil {
		return err
	}
	if ix.SchemaVersion != 2 || ix.MediaType != indexType {
		return fmt.Errorf("is of version %d and media type %q", ix.SchemaVersion, ix.MediaType)
	}
	for _, e := range ix.Manifests {
		if _, err := oci.ParseDigest(string(e.Digest)); err != nil {
			return err
		}
		if ref := e.ref(); ref != "" {
			if _, err := oci.ParseReference(ref); err != nil {
				return err
			}
		}
	}
	return nil
}
