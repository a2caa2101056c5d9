package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"strata/internal/oci"
)

// Image is an image of the store.
type Image struct {
	Refs         []oci.Reference // none for one whose names have moved on
	Digest       oci.Digest      // of the manifest
	ID           oci.Digest      // of the config
	Manifest     []byte
	ManifestType string
	Config       []byte
	Layers       []oci.DiffID // base first
	Created      time.Time    // zero if the config does not say
}

// AddImage adds an image: its layers, its documents, then its references, so
// that it is there whole or not at all. A bad layer leaves none of the others
// behind. References that another image has move to this one.
func (s *Store) AddImage(ctx context.Context, img *oci.Image, o AddOptions) (Image, Added, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return Image{}, Added{}, err
	}
	defer h.Release()
	added, err := h.addImage(ctx, img, o)
	if err != nil {
		return Image{}, Added{}, fmt.Errorf("add image %s: %w", imageName(img), err)
	}
	image, err := h.nameImage(ctx, img, o.PulledFrom)
	if err != nil {
		return Image{}, Added{}, fmt.Errorf("add image %s: %w", imageName(img), err)
	}
	return image, added, nil
}

// nameImage enters an image, of which all else is published, in the index. from is
// where it was pulled from, if it was.
func (h *Hold) nameImage(ctx context.Context, img *oci.Image, from oci.Reference) (Image, error) {
	entry := indexEntry{MediaType: img.ManifestType, Digest: img.Digest(), Size: int64(len(img.Manifest))}
	if !from.IsZero() {
		entry.Annotations = map[string]string{pulledFrom: from.Repository()}
	}
	err := h.updateIndex(ctx, func(ix *index) error {
		ix.tag(entry, img.Refs)
		return nil
	})
	if err != nil {
		return Image{}, err
	}
	image, err := h.s.readImage(entry)
	image.Refs = slices.Clone(img.Refs)
	return image, err
}

func imageName(img *oci.Image) string {
	if len(img.Refs) > 0 {
		return img.Refs[0].Familiar()
	}
	return img.ID().Short()
}

// addImage publishes all but the references.
func (h *Hold) addImage(ctx context.Context, img *oci.Image, o AddOptions) (Added, error) {
	added, err := h.stageLayers(ctx, img.Layers, o)
	if err != nil {
		return Added{}, err
	}
	for _, b := range [][]byte{img.Config, img.Manifest} {
		if err := h.stageBlob(b); err != nil {
			return Added{}, err
		}
	}
	return added, h.publish()
}

// stageLayers stages an image's layers, several at once if the options say so.
func (h *Hold) stageLayers(ctx context.Context, layers []oci.Layer, o AddOptions) (Added, error) {
	if err := h.openStagedObjects(); err != nil {
		return Added{}, err
	}
	var mu sync.Mutex
	var sum Added // guarded by mu
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(o.Jobs, 1))
	for i, first := range layers {
		if slices.ContainsFunc(layers[:i], func(l oci.Layer) bool { return l.DiffID == first.DiffID }) {
			continue // it comes with that one: a layer is staged by one at a time
		}
		g.Go(func() error {
			for _, l := range layers[i:] {
				if l.DiffID != first.DiffID {
					continue
				}
				open := func() (io.ReadCloser, error) { return l.Open(ctx) } // which verifies
				added, err := h.stageLayer(ctx, l.DiffID, Source{l.Digest, l.Size, l.MediaType}, open, o)
				if err != nil {
					return fmt.Errorf("layer %s: %w", l.DiffID, err)
				}
				mu.Lock()
				sum.add(added)
				mu.Unlock()
			}
			return nil
		})
	}
	err := g.Wait()
	return sum, err
}

// stageBlob brings a manifest or config into staging.
func (h *Hold) stageBlob(b []byte) error {
	d := oci.DigestBytes(b)
	if _, err := h.s.readBlob(d); err == nil || slices.Contains(h.blobs, d) {
		return nil // a damaged one does not count, so adding the image again mends it
	}
	dir, err := h.mkdir(stagedBlobs)
	if err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/"+d.Hex(), b, objectMode); err != nil {
		return err
	}
	h.blobs = append(h.blobs, d)
	return nil
}

// publishBlobs renames manifests and configs into the layout. Another process
// may have put the same bytes there already.
func (h *Hold) publishBlobs() error {
	if len(h.blobs) == 0 {
		return nil
	}
	for _, d := range h.blobs {
		if err := os.Rename(h.path(stagedBlobs, d.Hex()), h.s.path(imagesDir, blobsDir, d.Hex())); err != nil {
			return err
		}
	}
	h.blobs = nil
	return syncPath(h.s.path(imagesDir, blobsDir))
}

// Images lists all images in the order in which they came. Those that can be
// read are returned even when others cannot.
func (s *Store) Images() ([]Image, error) {
	ix, err := s.readIndex()
	for err == nil {
		images, err := s.readImages(ix)
		if !errors.Is(err, fs.ErrNotExist) {
			return images, err
		}
		// Readers have no lock: what is missing may have been removed since
		// the index was read. Then the index has changed.
		again, indexErr := s.readIndex()
		if indexErr != nil || reflect.DeepEqual(ix, again) {
			return images, errors.Join(err, indexErr)
		}
		ix = again
	}
	return nil, err
}

func (s *Store) readImages(ix *index) ([]Image, error) {
	var images []Image
	var errs []error
	at := map[oci.Digest]int{}
	for _, e := range ix.Manifests {
		i, ok := at[e.Digest]
		if !ok {
			image, err := s.readImage(e)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			i = len(images)
			at[e.Digest] = i
			images = append(images, image)
		}
		if e.ref() != "" {
			ref, err := oci.ParseReference(e.ref())
			if err != nil {
				errs = append(errs, fmt.Errorf("image index: %w", err))
				continue
			}
			images[i].Refs = append(images[i].Refs, ref)
		}
	}
	return images, errors.Join(errs...)
}

// readImage reads an image's documents; Refs is the caller's to fill.
func (s *Store) readImage(e indexEntry) (Image, error) {
	fail := func(err error) (Image, error) {
		name := e.Digest.String()
		if ref := e.ref(); ref != "" {
			name = ref
		}
		return Image{}, fmt.Errorf("image %s: %w", name, err)
	}
	manifest, err := s.readBlob(e.Digest)
	if err != nil {
		return fail(fmt.Errorf("manifest: %w", err))
	}
	m, err := oci.ParseManifest(manifest, e.MediaType)
	if err != nil {
		return fail(err)
	}
	config, err := s.readBlob(m.Config.Digest)
	if err != nil {
		return fail(fmt.Errorf("config: %w", err))
	}
	c, err := oci.ParseConfig(config)
	if err != nil {
		return fail(err)
	}
	image := Image{
		Digest:       e.Digest,
		ID:           m.Config.Digest,
		Manifest:     manifest,
		ManifestType: e.MediaType,
		Config:       config,
		Layers:       c.RootFS.DiffIDs,
	}
	if c.Created != nil {
		image.Created = *c.Created
	}
	return image, nil
}

// Document returns a manifest or config by its digest.
func (s *Store) Document(d oci.Digest) ([]byte, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	return s.readBlob(d)
}

// readBlob reads a manifest or config.
func (s *Store) readBlob(d oci.Digest) ([]byte, error) {
	path := s.path(imagesDir, blobsDir, d.Hex())
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if found := oci.DigestBytes(b); found != d {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("its digest is %s: %w", found, ErrDamaged)}
	}
	return b, nil
}

// Image finds an image by what people call it: a reference, an ID (a config's
// digest) or a manifest's digest, these two also shortened and without
// "sha256:". What is not found is a *NotFoundError.
func (s *Store) Image(name string) (Image, error) {
	images, err := s.Images()
	image, _, findErr := s.findImage(images, name)
	if findErr != nil {
		return Image{}, errors.Join(findErr, err) // perhaps it is one that cannot be read
	}
	return image, nil
}

// findImage tells by ref whether name is one of the image's references.
func (s *Store) findImage(images []Image, name string) (image Image, ref oci.Reference, err error) {
	parsed, parseErr := oci.ParseReference(name)
	if parseErr == nil {
		for _, image := range images {
			if slices.Contains(image.Refs, parsed) {
				return image, parsed, nil
			}
			if parsed.Digest() == image.Digest && slices.ContainsFunc(image.Refs, func(r oci.Reference) bool {
				return r.Repository() == parsed.Repository()
			}) {
				return image, oci.Reference{}, nil
			}
		}
	}
	var found []Image
	if prefix := strings.TrimPrefix(name, "sha256:"); prefix != "" && strings.Trim(prefix, "0123456789abcdef") == "" {
		for _, image := range images {
			if strings.HasPrefix(image.ID.Hex(), prefix) || strings.HasPrefix(image.Digest.Hex(), prefix) {
				found = append(found, image)
			}
		}
	}
	switch len(found) {
	case 0:
		return Image{}, oci.Reference{}, &NotFoundError{Root: s.root, Kind: "image", Name: name, Near: nearNames(images, name), Malformed: parseErr}
	case 1:
		return found[0], oci.Reference{}, nil
	}
	return Image{}, oci.Reference{}, fmt.Errorf("image %s: %d images begin so, %s and %s among them: use more digits",
		name, len(found), found[0].ID.Short(), found[1].ID.Short())
}
