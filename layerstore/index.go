package layerstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"strata/internal/oci"
)

// Names in images/, as the OCI image layout has them.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	blobsDir   = "blobs/sha256"

	layoutVersion = `{"imageLayoutVersion":"1.0.0"}`
	indexType     = "application/vnd.oci.image.index.v1+json"

	// refName is the annotation that holds a reference, in its canonical form.
	refName = "org.opencontainers.image.ref.name"

	// pulledFrom is the annotation that holds the repository from which an image
	// was pulled, and from which it can be had again by its digest.
	pulledFrom = "strata.pulled-from"
)

// index is index.json. An image has one entry for each of its references, or
// one without a reference.
type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []indexEntry `json:"manifests"`
}

type indexEntry struct {
	MediaType   string            `json:"mediaType"`
	Digest      oci.Digest        `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func (e *indexEntry) ref() string { return e.Annotations[refName] }

// named is the entry with another reference; empty is none.
func (e indexEntry) named(ref string) indexEntry {
	annotations := map[string]string{}
	if from := e.Annotations[pulledFrom]; from != "" {
		annotations[pulledFrom] = from
	}
	if ref != "" {
		annotations[refName] = ref
	}
	e.Annotations = annotations
	return e
}

// createLayout makes an empty layout unless there is one.
func (s *Store) createLayout() error {
	lock, err := lockDir(context.Background(), s.path(imagesDir), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := os.MkdirAll(s.path(imagesDir, blobsDir), 0o700); err != nil {
		return err
	}
	if _, err := os.Lstat(s.path(imagesDir, indexFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := renameio.WriteFile(s.path(imagesDir, layoutFile), []byte(layoutVersion+"\n"), 0o600); err != nil {
		return err
	}
	if err := s.writeIndex(s.path(imagesDir), &index{}); err != nil {
		return err
	}
	return syncPath(s.path(imagesDir, "blobs"))
}

func (s *Store) readIndex() (*index, error) {
	path := s.path(imagesDir, indexFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	ix := &index{}
	if err := json.Unmarshal(b, ix); err != nil {
		return nil, fmt.Errorf("image index %s: %w", path, err)
	}
	for _, e := range ix.Manifests {
		if _, err := oci.ParseDigest(string(e.Digest)); err != nil {
			return nil, fmt.Errorf("image index %s: %w", path, err)
		}
	}
	return ix, nil
}

// writeIndex writes the index by way of tmp, a directory on the same
// filesystem. The caller has images/ locked.
func (s *Store) writeIndex(tmp string, ix *index) error {
	ix.SchemaVersion, ix.MediaType = 2, indexType
	if ix.Manifests == nil {
		ix.Manifests = []indexEntry{} // the specification wants a list
	}
	b, err := json.MarshalIndent(ix, "", "  ")
	if err != nil {
		return err
	}
	err = renameio.WriteFile(s.path(imagesDir, indexFile), append(b, '\n'), 0o600, renameio.WithTempDir(tmp))
	if err != nil {
		return err
	}
	return syncPath(s.path(imagesDir))
}

// updateIndex lets change work on the index and writes it, unless change fails.
func (h *Hold) updateIndex(ctx context.Context, change func(*index) error) error {
	lock, err := lockDir(ctx, h.s.path(imagesDir), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	ix, err := h.s.readIndex()
	if err != nil {
		return err
	}
	if err := change(ix); err != nil {
		return err
	}
	return h.s.writeIndex(h.dir, ix)
}

// find returns the position of ref's entry, -1 if there is none.
func (ix *index) find(ref string) int {
	return slices.IndexFunc(ix.Manifests, func(e indexEntry) bool { return e.ref() == ref })
}

// holds tells whether an entry is the image's.
func (ix *index) holds(d oci.Digest) bool {
	return slices.ContainsFunc(ix.Manifests, func(e indexEntry) bool { return e.Digest == d })
}

// tag makes e an image of the index and gives it the references, of which
// those that another image has move here.
func (ix *index) tag(e indexEntry, refs []oci.Reference) {
	for i, known := range ix.Manifests {
		if known.Digest != e.Digest {
			continue
		}
		if from := known.Annotations[pulledFrom]; from != "" && e.Annotations[pulledFrom] == "" {
			e.Annotations = map[string]string{pulledFrom: from}
		} else if from := e.Annotations[pulledFrom]; from != "" {
			ix.Manifests[i].Annotations = maps.Clone(known.Annotations)
			ix.Manifests[i].Annotations[pulledFrom] = from
		}
	}
	for _, ref := range refs {
		name := ref.String()
		if i := ix.find(name); i >= 0 {
			if ix.Manifests[i].Digest == e.Digest {
				continue
			}
			ix.untag(i)
		}
		ix.Manifests = append(ix.Manifests, e.named(name))
	}
	if !ix.holds(e.Digest) {
		ix.Manifests = append(ix.Manifests, e.named(""))
	}
	// An image with a reference needs no entry without.
	ix.Manifests = slices.DeleteFunc(ix.Manifests, func(u indexEntry) bool {
		return u.Digest == e.Digest && u.ref() == "" && len(refs) > 0
	})
}

// untag takes the reference of entry i away; the image stays in the index.
func (ix *index) untag(i int) {
	e := ix.Manifests[i]
	ix.Manifests = slices.Delete(ix.Manifests, i, i+1)
	if !ix.holds(e.Digest) {
		ix.Manifests = append(ix.Manifests, e.named(""))
	}
}

// remove takes the image out of the index.
func (ix *index) remove(d oci.Digest) {
	ix.Manifests = slices.DeleteFunc(ix.Manifests, func(e indexEntry) bool { return e.Digest == d })
}

// resize puts the size of an image's manifest right.
func (ix *index) resize(d oci.Digest, size int64) {
	for i := range ix.Manifests {
		if ix.Manifests[i].Digest == d {
			ix.Manifests[i].Size = size
		}
	}
}
