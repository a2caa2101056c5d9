package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestNewImage makes an image of documents that come from no archive.
func TestNewImage(t *testing.T) {
	made, fs := newTestImage("base", "top"), newLayout()
	manifest := made.manifest(&fs)
	blobs := func(_ context.Context, d Descriptor) (io.ReadCloser, error) {
		i := fs.find(blobPath(d.Digest))
		return io.NopCloser(bytes.NewReader(fs[i].body)), nil
	}
	ref, err := ParseReference("app:1")
	if err != nil {
		t.Fatal(err)
	}
	img, err := NewImage("somewhere", []Reference{ref}, encode(manifest), ociManifest, made.config, blobs)
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Layers) != 2 || img.DiffIDs()[1] != DiffID(DigestBytes(made.tars[1])) {
		t.Errorf("layers %v", img.Layers)
	}
	for i, l := range img.Layers {
		if b := readLayer(t, l); !bytes.Equal(b, gzipOf(made.tars[i])) {
			t.Errorf("layer %d is not what was put in", i)
		}
	}
	c, err := ParseConfig(img.Config)
	if err != nil {
		t.Fatal(err)
	}
	if c.Architecture != "amd64" || c.OS != "linux" || len(c.Config.Env) != 1 || c.Config.Cmd[0] != "sh" {
		t.Errorf("config %+v", c)
	}

	for _, tc := range []struct {
		name             string
		manifest, config []byte
		mediaType        string
		want             []string
	}{
		{"other config", encode(manifest), newTestImage("base", "other").config, ociManifest, []string{"config", "the manifest wants " + img.ID().String()}},
		{"config of another length", encode(manifest), append(bytes.Clone(made.config), ' '), ociManifest, []string{"config", "the manifest wants"}},
		{"other media type", encode(manifest), made.config, ociIndex, []string{"is an index"}},
		{"manifest too big", append(encode(manifest), bytes.Repeat([]byte(" "), maxManifestBytes)...), made.config, ociManifest, []string{"at most 8388608"}},
		{"enormous config", encode(with(manifest, object{"config": object{
			"mediaType": ociConfig, "digest": img.ID(), "size": maxConfigBytes + 1,
		}})), made.config, ociManifest, []string{"config of 16777217 bytes"}},
	} {
		_, err := NewImage("somewhere", []Reference{ref}, tc.manifest, tc.mediaType, tc.config, blobs)
		t.Run(tc.name, func(t *testing.T) { wantError(t, err, append(tc.want, "somewhere: image app:1: ")...) })
	}
}

// TestLayerErrors: whatever goes wrong with a layer's bytes is told with its
// place.
func TestLayerErrors(t *testing.T) {
	broken := errors.New("connection reset")
	d := Descriptor{MediaType: ociLayer, Digest: DigestBytes([]byte("layer")), Size: 5}
	for _, tc := range []struct {
		name string
		r    io.Reader
		open error
		want error
	}{
		{"cannot be opened", nil, broken, broken},
		{"breaks", io.MultiReader(strings.NewReader("lay"), errReader{broken}), nil, broken},
		{"breaks after the last byte", io.MultiReader(strings.NewReader("layer"), errReader{broken}), nil, broken},
		{"another", strings.NewReader("liver"), nil, ErrCorrupt},
		{"cut short", strings.NewReader("lay"), nil, ErrCorrupt},
		{"without end", endless{}, nil, ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := NewLayer(d, DiffID(d.Digest), func(context.Context, Descriptor) (io.ReadCloser, error) {
				return io.NopCloser(tc.r), tc.open
			})
			r, err := l.Open(context.Background())
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			wantError(t, err, "layer ("+d.Digest.String()+"): ")
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// endless is a source that never stops sending.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
