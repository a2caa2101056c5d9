package layerstore

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"strata/internal/oci"
)

// ExportOptions say how an image leaves the store; the zero value is useful.
type ExportOptions struct {
	// Elsewhere tells whether a blob is where the image is to go, so that the
	// store need not give it. It is asked only for what the store cannot give.
	// May be nil.
	Elsewhere func(context.Context, oci.Descriptor) (bool, error)
}

// Remade is a layer that leaves the store in another blob than it came in.
type Remade struct {
	Index  int // of the layer; base is 0
	DiffID oci.DiffID
	Was    oci.Descriptor // not kept, and nothing gives it back
	Is     oci.Descriptor // the same tar
}

// Export is the image as it came, with layers that can be read. Where a blob
// was not kept, another one is made of the layer's tar, compressed as that was;
// then the manifest is another, too, and what was made is told. It is the same
// each time.
//
// The image's layers must stay in the store for as long as they are read.
func (s *Store) Export(ctx context.Context, image Image, o ExportOptions) (*oci.Image, []Remade, error) {
	x := export{s: s, image: image, compressions: map[oci.Digest]string{}}
	img, err := x.export(ctx, o)
	if err != nil {
		return nil, nil, fmt.Errorf("export image %s: %w", image.ID.Short(), err)
	}
	return img, x.remade, nil
}

// export is one call of Export.
type export struct {
	s            *Store
	image        Image
	remade       []Remade
	compressions map[oci.Digest]string // of blobs that are made
	diffIDs      map[oci.Digest]oci.DiffID
}

func (x *export) export(ctx context.Context, o ExportOptions) (*oci.Image, error) {
	m, err := oci.ParseManifest(x.image.Manifest, x.image.ManifestType)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != len(x.image.Layers) {
		return nil, fmt.Errorf("the manifest lists %d layers, the config %d", len(m.Layers), len(x.image.Layers))
	}
	if err := x.remake(ctx, m.Layers, o); err != nil {
		return nil, err
	}
	manifest := x.image.Manifest
	if len(x.remade) > 0 {
		for _, r := range x.remade {
			m.Layers[r.Index] = r.Is
		}
		if manifest, err = oci.ReplaceLayers(manifest, x.image.ManifestType, m.Layers); err != nil {
			return nil, err
		}
	}
	x.diffIDs = map[oci.Digest]oci.DiffID{}
	for i, d := range m.Layers {
		x.diffIDs[d.Digest] = x.image.Layers[i]
	}
	return oci.NewImage("store "+x.s.root, x.image.Refs, manifest, x.image.ManifestType, x.image.Config, x.open)
}

// remake finds the blobs that cannot be given and what stands in for them.
func (x *export) remake(ctx context.Context, layers []oci.Descriptor, o ExportOptions) error {
	for i, d := range layers {
		if x.s.keeps(x.image.Layers[i], d.Digest) {
			continue
		}
		if o.Elsewhere != nil {
			if there, err := o.Elsewhere(ctx, d); err != nil {
				return err
			} else if there {
				continue
			}
		}
		x.remade = append(x.remade, Remade{Index: i, DiffID: x.image.Layers[i], Was: d})
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range x.remade {
		g.Go(func() error { return x.measure(ctx, &x.remade[i]) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	changed := x.remade[:0]
	for _, r := range x.remade {
		x.compressions[r.Is.Digest] = compressionFor(r.Was.MediaType)
		if r.Is.Digest != r.Was.Digest { // else whoever made it did as we do
			changed = append(changed, r)
		}
	}
	x.remade = changed
	return nil
}

// measure makes a blob to know its digest. It is made again when it is read:
// that costs a core's time and no disk, and a push often needs it only once
// this is known.
func (x *export) measure(ctx context.Context, r *Remade) error {
	blob, err := x.s.compressedTar(r.DiffID, compressionFor(r.Was.MediaType))
	if err != nil {
		return err
	}
	defer blob.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, contextReader{ctx, blob})
	if err != nil {
		return err
	}
	r.Is = oci.Descriptor{MediaType: r.Was.MediaType, Digest: oci.Digest(fmt.Sprintf("sha256:%x", sum.Sum(nil))), Size: n}
	return nil
}

// open is the oci.BlobOpener of the image.
func (x *export) open(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
	diffID := x.diffIDs[d.Digest]
	if compression, ok := x.compressions[d.Digest]; ok {
		return x.s.compressedTar(diffID, compression)
	}
	return x.s.layerBlob(diffID, d.Digest)
}

// compressionFor is how a blob of a media type is compressed; "" means not.
func compressionFor(mediaType string) string {
	switch {
	case strings.HasSuffix(mediaType, "zstd"):
		return "zstd"
	case strings.HasSuffix(mediaType, "gzip"):
		return "gzip"
	}
	return ""
}

// compressedTar makes a blob of a layer's tar. The same layer gives the same
// blob as long as the compressors stay as they are. gzip is the standard
// library's at its usual level, with an empty header: what docker makes too, so
// that some blobs come out as they came in.
func (s *Store) compressedTar(diffID oci.DiffID, compression string) (io.ReadCloser, error) {
	t, err := s.Tar(diffID)
	if err != nil || compression == "" {
		return t, err
	}
	r, w := io.Pipe()
	c := &compressing{PipeReader: r, tar: t, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		w.CloseWithError(compress(w, t, compression))
	}()
	return c, nil
}

func compress(w io.Writer, r io.Reader, compression string) (err error) {
	enc := io.WriteCloser(gzip.NewWriter(w))
	if compression == "zstd" {
		if enc, err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); err != nil {
			return err
		}
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{enc}, r, make([]byte, 256<<10)); err != nil {
		enc.Close() // gives its memory back; what it still writes is of no use
		return err
	}
	return enc.Close()
}

// compressing is a tar on its way through a compressor in another goroutine,
// which ends at the latest with Close.
type compressing struct {
	*io.PipeReader
	tar   io.Closer
	ended chan struct{}
}

func (c *compressing) Close() error {
	c.PipeReader.Close()
	<-c.ended
	return c.tar.Close()
}
