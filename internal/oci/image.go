package oci

import (
	"context"
	"fmt"
	"io"
)

// Image is one image, wherever it comes from: its documents as the exact
// bytes that their digests name, and layers whose bytes can be read.
type Image struct {
	Refs         []Reference // names it goes by at its source; may be none
	Manifest     []byte
	ManifestType string // media type of Manifest
	Config       []byte
	Layers       []Layer // base first
}

// Layer is one layer's blob and the identity of the tar within it.
type Layer struct {
	Descriptor
	DiffID DiffID

	name string // for errors: where the layer is from and which it is
	open BlobOpener
}

// BlobOpener opens the blob that a descriptor names, as its source has it;
// the bytes need not have been verified. ctx governs the reading, too, where
// that may wait for a network.
type BlobOpener func(context.Context, Descriptor) (io.ReadCloser, error)

// NewLayer is a layer outside of an image.
func NewLayer(d Descriptor, diffID DiffID, open BlobOpener) Layer {
	return Layer{Descriptor: d, DiffID: diffID, name: "layer", open: open}
}

// NewImage makes an image of its documents and checks that they belong
// together: the config is the one that the manifest names and has a diffID for
// each of the layers. source names where it comes from, in errors; the layers'
// bytes come from open.
func NewImage(source string, refs []Reference, manifest []byte, manifestType string, config []byte, open BlobOpener) (*Image, error) {
	img := &Image{Refs: refs, Manifest: manifest, ManifestType: manifestType, Config: config}
	name := fmt.Sprintf("%s: image %s", source, img.name())
	m, err := ParseManifest(manifest, manifestType)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if m.Config.Size != int64(len(config)) || m.Config.Digest != img.ID() {
		return nil, fmt.Errorf("%s: config: %w: the manifest wants %s of %d bytes, this is %s of %d",
			name, ErrCorrupt, m.Config.Digest, m.Config.Size, img.ID(), len(config))
	}
	c, err := ParseConfig(config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(m.Layers) != len(c.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%s: the manifest lists %d layers, but the config %d diff_ids",
			name, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	img.Layers = make([]Layer, len(m.Layers))
	for i, d := range m.Layers {
		img.Layers[i] = Layer{
			Descriptor: d,
			DiffID:     c.RootFS.DiffIDs[i],
			name:       fmt.Sprintf("%s: layer %d of %d", name, i+1, len(m.Layers)),
			open:       open,
		}
	}
	return img, nil
}

// name is how the image is called in errors.
func (img *Image) name() string { return imageName(img.Refs, img.Digest()) }

func imageName(refs []Reference, d Digest) string {
	if len(refs) > 0 {
		return refs[0].Familiar()
	}
	return d.String()
}

// ID is the image's identity in Docker's sense: the digest of its config.
func (img *Image) ID() Digest { return DigestBytes(img.Config) }

// Digest is the digest of the manifest.
func (img *Image) Digest() Digest { return DigestBytes(img.Manifest) }

// DiffIDs lists the layers' diffIDs, base first.
func (img *Image) DiffIDs() []DiffID {
	ids := make([]DiffID, len(img.Layers))
	for i, l := range img.Layers {
		ids[i] = l.DiffID
	}
	return ids
}

// Open reads the blob's bytes as they are stored, usually compressed. io.EOF
// comes only after size and digest have been found right; otherwise a Read,
// at the latest the one that gives the last byte, returns an error that says
// what is wrong (ErrCorrupt, when bytes were read but are not the blob's). One
// who decompresses must therefore read on to io.EOF before believing anything.
func (l Layer) Open(ctx context.Context) (io.ReadCloser, error) {
	r, err := l.open(ctx, l.Descriptor)
	if err != nil {
		return nil, l.wrap(err)
	}
	return &layerReader{layer: l, verified: newVerifiedReader(r, l.Descriptor), c: r}, nil
}

func (l Layer) wrap(err error) error { return fmt.Errorf("%s (%s): %w", l.name, l.Digest, err) }

// layerReader puts the layer's name on errors.
type layerReader struct {
	layer    Layer
	verified *verifiedReader
	c        io.Closer
}

func (r *layerReader) Read(p []byte) (int, error) {
	n, err := r.verified.Read(p)
	if err != nil && err != io.EOF {
		err = r.layer.wrap(err)
	}
	return n, err
}

func (r *layerReader) Close() error {
	if err := r.c.Close(); err != nil {
		return r.layer.wrap(err)
	}
	return nil
}
