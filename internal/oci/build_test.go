package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// object is a JSON object, as a test writes one down.
type object = map[string]any

// list is a JSON array.
type list = []any

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// file is one file of an archive that a test builds; link makes it a symbolic
// link.
type file struct {
	name string
	body []byte
	link string
}

// fileSet is an archive's files in order.
type fileSet []file

// set adds or replaces a file.
func (fs *fileSet) set(name string, body []byte) {
	if i := fs.find(name); i >= 0 {
		(*fs)[i] = file{name: name, body: body}
		return
	}
	*fs = append(*fs, file{name: name, body: body})
}

func (fs *fileSet) link(name, target string) {
	fs.remove(name)
	*fs = append(*fs, file{name: name, link: target})
}

func (fs *fileSet) remove(name string) {
	*fs = slices.DeleteFunc(*fs, func(f file) bool { return f.name == name })
}

func (fs *fileSet) find(name string) int {
	return slices.IndexFunc(*fs, func(f file) bool { return f.name == name })
}

// blob adds a blob and returns its descriptor.
func (fs *fileSet) blob(mediaType string, body []byte) object {
	d := DigestBytes(body)
	fs.set(blobPath(d), body)
	return descriptor(mediaType, body)
}

func descriptor(mediaType string, body []byte) object {
	return object{"mediaType": mediaType, "digest": DigestBytes(body), "size": len(body)}
}

// index sets index.json.
func (fs *fileSet) index(manifests ...any) {
	fs.set("index.json", encode(object{"schemaVersion": 2, "manifests": list(manifests)}))
}

// with is a copy of o in which a few fields are others.
func with(o object, fields object) object {
	c := object{}
	for k, v := range o {
		c[k] = v
	}
	for k, v := range fields {
		c[k] = v
	}
	return c
}

func named(o object, ref string) object {
	return with(o, object{"annotations": object{"org.opencontainers.image.ref.name": ref}})
}

const (
	ociManifest  = "application/vnd.oci.image.manifest.v1+json"
	ociIndex     = "application/vnd.oci.image.index.v1+json"
	ociConfig    = "application/vnd.oci.image.config.v1+json"
	ociLayer     = "application/vnd.oci.image.layer.v1.tar"
	ociLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip"
	ociLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd"
)

// testImage is an image before it is put into an archive.
type testImage struct {
	tars   [][]byte // uncompressed layers, base first
	config []byte
}

// newTestImage has a layer of one file for each of contents.
func newTestImage(contents ...string) testImage {
	var img testImage
	diffIDs := list{}
	for i, c := range contents {
		layer := tarOf(fileSet{{name: fmt.Sprintf("file%d", i), body: []byte(c)}})
		img.tars = append(img.tars, layer)
		diffIDs = append(diffIDs, DigestBytes(layer))
	}
	img.config = encode(object{
		"architecture": "amd64", "os": "linux",
		"config": object{"Env": list{"PATH=/bin"}, "Cmd": list{"sh"}},
		"rootfs": object{"type": "layers", "diff_ids": diffIDs},
	})
	return img
}

// addTo puts the image's blobs into a layout and returns the manifest's
// descriptor.
func (img testImage) addTo(fs *fileSet) object { return fs.blob(ociManifest, encode(img.manifest(fs))) }

func (img testImage) manifest(fs *fileSet) object {
	layers := list{}
	for _, layer := range img.tars {
		layers = append(layers, fs.blob(ociLayerGzip, gzipOf(layer)))
	}
	return object{
		"schemaVersion": 2, "mediaType": ociManifest,
		"config": fs.blob(ociConfig, img.config), "layers": layers,
	}
}

// newLayout is a layout without an index.
func newLayout() fileSet {
	return fileSet{{name: "oci-layout", body: []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
}

// layoutOf is a layout of one image.
func layoutOf(img testImage, ref string) fileSet {
	fs := newLayout()
	fs.index(named(img.addTo(&fs), ref))
	return fs
}

// dockerItemOf adds the image's files, as current tools name them, and returns
// what manifest.json says of it.
func (img testImage) dockerItemOf(fs *fileSet, tags ...string) object {
	config := DigestBytes(img.config).Hex() + ".json"
	fs.set(config, img.config)
	layers := list{}
	for _, layer := range img.tars {
		name := DigestBytes(layer).Hex() + ".tar"
		fs.set(name, layer)
		layers = append(layers, name)
	}
	return object{"Config": config, "RepoTags": tags, "Layers": layers}
}

func dockerOf(img testImage, tags ...string) fileSet {
	var fs fileSet
	fs.set("manifest.json", encode(list{img.dockerItemOf(&fs, tags...)}))
	return fs
}

func tarOf(files fileSet) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body)), Typeflag: tar.TypeReg}
		if f.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write(f.body); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func gzipOf(b []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func zstdOf(b []byte) []byte {
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf)
	if err != nil {
		panic(err)
	}
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// scratchDir is a directory whose name, other than t.TempDir's, does not hold
// the test's, which an error could then seem to say.
func scratchDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "scratch")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// writeTar writes a file named name.
func writeTar(t *testing.T, name string, b []byte) string {
	t.Helper()
	path := filepath.Join(scratchDir(t), name)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeDir writes a directory named name.
func writeDir(t *testing.T, name string, files fileSet) string {
	t.Helper()
	dir := filepath.Join(scratchDir(t), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if f.link != "" {
			err = os.Symlink(f.link, path)
		} else {
			err = os.WriteFile(path, f.body, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func openArchive(t *testing.T, path string) *Archive {
	t.Helper()
	a, err := OpenArchive(context.Background(), path, ArchiveOptions{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// readAll opens an archive and reads everything in it: the first error of the
// whole way.
func readAll(t *testing.T, path string) error {
	t.Helper()
	tmp := t.TempDir()
	a, err := OpenArchive(context.Background(), path, ArchiveOptions{TempDir: tmp})
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left in the spool's directory: %v", left)
	}
	if err != nil {
		return err
	}
	defer a.Close()
	return readImages(a)
}

func readImages(a *Archive) error {
	images, err := a.Images()
	if err != nil {
		return err
	}
	for _, img := range images {
		for _, l := range img.Layers {
			r, err := l.Open(context.Background())
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			r.Close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func readLayer(t *testing.T, l Layer) []byte {
	t.Helper()
	r, err := l.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantError fails unless err says all of want.
func wantError(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one that says %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q\n does not say %q", err, w)
		}
	}
}

func familiar(refs []Reference) []string {
	names := []string{}
	for _, r := range refs {
		names = append(names, r.Familiar())
	}
	return names
}
