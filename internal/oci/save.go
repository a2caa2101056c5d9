package oci

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ArchiveForm is a form of archive that images are written in.
type ArchiveForm string

const (
	// FormOCI is an OCI image layout in a tar.
	FormOCI ArchiveForm = "oci"

	// FormDocker is the same with docker's manifest.json beside it, which is
	// what docker save has written since version 25: who reads layouts finds
	// the images as they are, manifests and all; who reads docker archives only
	// finds config and layers.
	FormDocker ArchiveForm = "docker"
)

// SaveArchive writes images as one tar, each blob once. The same images give
// the same bytes. Blobs are written as they are, so every digest stays.
func SaveArchive(ctx context.Context, w io.Writer, images []*Image, form ArchiveForm) error {
	s := saving{ctx: ctx, tar: tar.NewWriter(w), written: map[Digest]bool{}}
	err := s.save(images, form)
	if err == nil {
		err = s.tar.Close()
	}
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// saving is one archive being written.
type saving struct {
	ctx     context.Context
	tar     *tar.Writer
	written map[Digest]bool
}

func (s *saving) save(images []*Image, form ArchiveForm) error {
	if form != FormOCI && form != FormDocker {
		return fmt.Errorf("internal error: there is no form %q", form)
	}
	images, refs := uniqueImages(images)
	if err := s.json(v1.ImageLayoutFile, v1.ImageLayout{Version: v1.ImageLayoutVersion}); err != nil {
		return err
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	var items []dockerItem
	for i, img := range images {
		if err := s.image(img); err != nil {
			return fmt.Errorf("image %s: %w", imageName(refs[i], img.Digest()), err)
		}
		index.Manifests = append(index.Manifests, indexEntries(img, refs[i])...)
		items = append(items, dockerItemOf(img, refs[i]))
	}
	if err := s.json(v1.ImageIndexFile, index); err != nil {
		return err
	}
	if form == FormDocker {
		return s.json(dockerManifestFile, items)
	}
	return nil
}

// uniqueImages makes one image of several with the same manifest, which has the
// references of all.
func uniqueImages(images []*Image) (unique []*Image, refs [][]Reference) {
	var es entries
	for _, img := range images {
		at := es.add(string(img.Digest()), entry{image: img})
		for _, ref := range img.Refs {
			es.name(at, ref)
		}
	}
	for _, e := range es.list {
		unique, refs = append(unique, e.image), append(refs, e.refs)
	}
	return unique, refs
}

// indexEntries are an image's descriptors in index.json, one for each reference.
func indexEntries(img *Image, refs []Reference) []v1.Descriptor {
	d := encodeDescriptor(Descriptor{MediaType: img.ManifestType, Digest: img.Digest(), Size: int64(len(img.Manifest))})
	if len(refs) == 0 {
		return []v1.Descriptor{d}
	}
	var all []v1.Descriptor
	for _, ref := range refs {
		d.Annotations = map[string]string{annotationContainerdName: ref.String()}
		if ref.tag != "" {
			d.Annotations[v1.AnnotationRefName] = ref.tag
		}
		all = append(all, d)
	}
	return all
}

// dockerItemOf is an image's item in manifest.json.
func dockerItemOf(img *Image, refs []Reference) dockerItem {
	item := dockerItem{Config: blobPath(img.ID()), Layers: []string{}}
	for _, ref := range refs {
		if ref.digest == "" { // a tag is all that docker loads by
			item.RepoTags = append(item.RepoTags, ref.String()) // podman takes a short name for one of localhost
		}
	}
	for _, l := range img.Layers {
		item.Layers = append(item.Layers, blobPath(l.Digest))
	}
	return item
}

// image writes the blobs of an image.
func (s *saving) image(img *Image) error {
	for _, l := range img.Layers {
		if s.written[l.Digest] {
			continue
		}
		s.written[l.Digest] = true
		if err := s.layer(l); err != nil {
			return err
		}
	}
	for _, document := range [][]byte{img.Config, img.Manifest} {
		d := DigestBytes(document)
		if s.written[d] {
			continue
		}
		s.written[d] = true
		if err := s.file(blobPath(d), document); err != nil {
			return err
		}
	}
	return nil
}

func (s *saving) layer(l Layer) (err error) {
	r, err := l.Open(s.ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := s.header(blobPath(l.Digest), l.Size); err != nil {
		return err
	}
	_, err = io.Copy(s.tar, &ctxReader{s.ctx, r})
	return err
}

func (s *saving) json(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.file(name, b)
}

func (s *saving) file(name string, body []byte) error {
	if err := s.header(name, int64(len(body))); err != nil {
		return err
	}
	_, err := s.tar.Write(body)
	return err
}

func (s *saving) header(name string, size int64) error {
	return s.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)})
}
