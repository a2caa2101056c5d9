package layerstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"strata/internal/oci"
)

// Tag gives the image called name another reference, which another image
// loses if it has it.
func (s *Store) Tag(ctx context.Context, name string, ref oci.Reference) error {
	h, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer h.Release()
	image, err := s.Image(name)
	if err != nil {
		return fmt.Errorf("tag: %w", err)
	}
	return h.updateIndex(ctx, func(ix *index) error {
		if !ix.holds(image.Digest) {
			return fmt.Errorf("tag: %w", &NotFoundError{Root: s.root, Kind: "image", Name: name})
		}
		ix.tag(indexEntry{MediaType: image.ManifestType, Digest: image.Digest, Size: int64(len(image.Manifest))}, []oci.Reference{ref})
		return nil
	})
}

// Removed says what RemoveImage did.
type Removed struct {
	Untagged []oci.Reference
	Deleted  []Image // images that are no longer in the index
}

// RemoveImage removes a reference and, if it was the last one, the image; or,
// called by ID or digest, the image with all its references. Layers stay until
// gc. Without force, an image that a container uses is not removed, nor one
// that is called by ID and has several references. An
// image whose documents are damaged is removed only with force.
func (s *Store) RemoveImage(ctx context.Context, name string, force bool) (Removed, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return Removed{}, err
	}
	defer h.Release()
	var removed Removed
	err = h.updateIndex(ctx, func(ix *index) error {
		images, err := s.Images()
		image, ref, findErr := s.findImage(images, name)
		if findErr != nil && err != nil { // perhaps it is one that cannot be read
			if lost, ok := ix.unreadable(name, images); ok && force {
				removed = Removed{Untagged: lost.refs, Deleted: []Image{{Refs: lost.refs, Digest: lost.digest, ID: lost.digest}}}
				ix.remove(lost.digest)
				return nil
			} else if ok {
				return fmt.Errorf("%w: strata fsck says what is damaged; forced, it is removed all the same", err)
			}
		}
		if findErr != nil {
			return errors.Join(findErr, err)
		}
		if ref != (oci.Reference{}) && len(image.Refs) > 1 {
			removed.Untagged = []oci.Reference{ref}
			ix.untag(ix.find(ref.String()))
			return nil
		}
		if len(image.Refs) > 1 && !force {
			return fmt.Errorf("image %s has %d references, %s among them: remove these, or force it",
				image.ID.Short(), len(image.Refs), image.Refs[0].Familiar())
		}
		if !force {
			if err := s.checkUnused(image); err != nil {
				return err
			}
		}
		removed = Removed{Untagged: image.Refs, Deleted: []Image{image}}
		ix.remove(image.Digest)
		return nil
	})
	if err != nil {
		return Removed{}, fmt.Errorf("remove image: %w", err)
	}
	return removed, nil
}

// unreadableImage is an image of which only the index knows.
type unreadableImage struct {
	digest oci.Digest
	refs   []oci.Reference
}

// unreadable finds the image that people call name, by a reference or the
// manifest's digest, among those that are not one of images.
func (ix *index) unreadable(name string, images []Image) (found unreadableImage, ok bool) {
	parsed, parseErr := oci.ParseReference(name)
	for _, e := range ix.Manifests {
		if slices.ContainsFunc(images, func(i Image) bool { return i.Digest == e.Digest }) {
			continue
		}
		if digits := strings.TrimPrefix(name, "sha256:"); parseErr == nil && e.ref() == parsed.String() || len(digits) >= 4 && strings.HasPrefix(e.Digest.Hex(), digits) {
			found.digest, ok = e.Digest, true
		}
	}
	for _, e := range ix.Manifests {
		if ref, err := oci.ParseReference(e.ref()); ok && e.Digest == found.digest && err == nil {
			found.refs = append(found.refs, ref)
		}
	}
	return found, ok
}

// checkUnused fails if a container was made from the image.
func (s *Store) checkUnused(image Image) error {
	containers, err := s.containers()
	if err != nil {
		return err
	}
	for _, c := range containers {
		if c.Image == image.ID {
			return fmt.Errorf("image %s is used by container %s: remove that first, or force it", image.ID.Short(), c.id)
		}
	}
	return nil
}
