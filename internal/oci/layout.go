package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// annotationContainerdName is a whole reference, always, as containerd and
// docker write it.
const annotationContainerdName = "io.containerd.image.name"

// layout reads an OCI image layout.
type layout struct {
	archive string // its name, for errors
	files   fs.FS
}

// listLayout lists the images of a layout's index. baseName stands for the
// repository where the index gives only a tag; it may be no valid name.
func listLayout(ctx context.Context, archive string, files fs.FS, baseName string) (*entries, error) {
	l := layout{archive: archive, files: files}
	if err := l.checkVersion(); err != nil {
		return nil, err
	}
	raw, err := readBounded(files, v1.ImageIndexFile, maxManifestBytes)
	if err != nil {
		return nil, err
	}
	descriptors, err := parseIndex(raw, v1.MediaTypeImageIndex)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v1.ImageIndexFile, err)
	}
	var es entries
	for i, d := range descriptors {
		if isAttestation(d) {
			continue
		}
		digest, err := ParseDigest(string(d.Digest))
		if err != nil {
			return nil, fmt.Errorf("%s: entry %d of %d: %w", v1.ImageIndexFile, i+1, len(descriptors), err)
		}
		at := es.add(digest.String(), entry{
			digest:   digest,
			platform: d.Platform,
			load:     func(refs []Reference) (*Image, error) { return l.image(ctx, d, refs) },
		})
		ref, err := entryReference(d.Annotations, baseName)
		switch {
		case err != nil:
			es.list[at].err = fmt.Errorf("%s: image %s: %w", archive, digest, err)
		case !ref.IsZero():
			es.name(at, ref)
		}
	}
	if len(es.list) == 0 {
		return nil, fmt.Errorf("%s lists no images", v1.ImageIndexFile)
	}
	return &es, nil
}

func (l layout) checkVersion() error {
	raw, err := readBounded(l.files, v1.ImageLayoutFile, maxLayoutBytes)
	if err != nil {
		return err
	}
	var header v1.ImageLayout
	if err := decodeJSON(raw, &header); err != nil {
		return fmt.Errorf("%s: %w", v1.ImageLayoutFile, err)
	}
	if header.Version != v1.ImageLayoutVersion {
		return fmt.Errorf("%s: version is %s, want %q", v1.ImageLayoutFile, quote(header.Version), v1.ImageLayoutVersion)
	}
	return nil
}

// entryReference is the name that an index gives to an entry, zero if none.
func entryReference(annotations map[string]string, baseName string) (Reference, error) {
	if name := annotations[annotationContainerdName]; name != "" {
		ref, err := ParseReference(name)
		if err != nil {
			return Reference{}, fmt.Errorf("annotation %s: %w", annotationContainerdName, err)
		}
		return ref, nil
	}
	name := annotations[v1.AnnotationRefName]
	if name == "" {
		return Reference{}, nil
	}
	if !strings.ContainsAny(name, ":/@") {
		if _, err := ParseReference(baseName); err != nil {
			return Reference{}, nil
		}
		name = baseName + ":" + name
	}
	ref, err := ParseReference(name)
	if err != nil {
		return Reference{}, fmt.Errorf("annotation %s: %w", v1.AnnotationRefName, err)
	}
	return ref, nil
}

// image reads the image that top, an entry of index.json, leads to.
func (l layout) image(ctx context.Context, top v1.Descriptor, refs []Reference) (*Image, error) {
	raw, mediaType, config, err := documents{read: l.readBlob}.follow(top)
	if err != nil {
		return nil, fmt.Errorf("%s: image %s: %w", l.archive, imageName(refs, Digest(top.Digest)), err)
	}
	img, err := NewImage(l.archive, refs, raw, mediaType, config, l.openBlob)
	if err != nil {
		return nil, err
	}
	for _, layer := range img.Layers {
		if err := l.checkPresent(ctx, layer, foreignURLs(raw, layer.Digest)); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// blobPath may be used for digests that were parsed, and no others.
func blobPath(d Digest) string { return path.Join(v1.ImageBlobsDir, "sha256", d.Hex()) }

// openBlob implements BlobOpener.
func (l layout) openBlob(_ context.Context, d Descriptor) (io.ReadCloser, error) {
	return openSized(l.files, blobPath(d.Digest), d.Size)
}

func (l layout) readBlob(d Descriptor, most int64) ([]byte, error) {
	if d.Size > most {
		return nil, fmt.Errorf("its descriptor says %d bytes, at most %d are read", d.Size, most)
	}
	r, err := openSized(l.files, blobPath(d.Digest), d.Size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(newVerifiedReader(r, d))
}

// checkPresent looks for a layer's blob before anybody relies on it.
func (l layout) checkPresent(ctx context.Context, layer Layer, urls []string) error {
	r, err := l.openBlob(ctx, layer.Descriptor)
	if err == nil {
		return r.Close()
	}
	if errors.Is(err, fs.ErrNotExist) && len(urls) > 0 {
		err = fmt.Errorf("the layer is not distributed with the image, but fetched from %s; put the blob there yourself: %w", quote(urls[0]), err)
	}
	return layer.wrap(err)
}

// openSized opens a file that must have size bytes.
func openSized(files fs.FS, name string, size int64) (io.ReadCloser, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && fi.Size() != size {
		err = fmt.Errorf("%w: %s has %d bytes, its descriptor says %d", ErrCorrupt, name, fi.Size(), size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readBounded reads a whole small file.
func readBounded(files fs.FS, name string, most int64) ([]byte, error) {
	f, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s: more than %d bytes", name, most)
	}
	return raw, nil
}
