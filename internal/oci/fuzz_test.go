package oci

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"
)

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"", "redis", "a.b:80/c/d:tag@sha256:" + hex64, "docker.io/localhost/x", "[::1]/x", "x@y", "A/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			if !ref.IsZero() {
				t.Errorf("an error and %s", ref)
			}
			return
		}
		if ref.Repository() == "" || ref.Tag() == "" && ref.Digest() == "" {
			t.Errorf("%q: incomplete: %#v", s, ref)
		}
		checkRoundTrip(t, ref)
	})
}

func FuzzParseManifest(f *testing.F) {
	fs := newLayout()
	f.Add(encode(newTestImage("a", "b").manifest(&fs)))
	f.Add([]byte(`{"schemaVersion":2,"config":{},"layers":[null,{"size":-1}],"manifests":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := ParseManifest(raw, ociManifest)
		if err != nil {
			return
		}
		// What was understood can be written down and read again.
		again, err := encodeManifest(*m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(again, ociManifest); err != nil {
			t.Errorf("%s: %v", again, err)
		}
		foreignURLs(raw, m.Config.Digest)
		for _, d := range append(m.Layers, m.Config) {
			if _, err := ParseDigest(d.Digest.String()); err != nil || d.Size < 0 {
				t.Errorf("descriptor %v was accepted", d)
			}
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	f.Add(newTestImage("a", "b").config)
	f.Add([]byte(`{"rootfs":{"type":"layers","diff_ids":[null]},"history":[null],"config":null,"created":"x"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw)
		if err != nil {
			return
		}
		for _, d := range c.RootFS.DiffIDs {
			if _, err := ParseDiffID(d.String()); err != nil {
				t.Error(err)
			}
		}
	})
}

// FuzzParseIndex feeds an index.json to a layout that holds an image.
func FuzzParseIndex(f *testing.F) {
	whole := layoutOf(newTestImage("a"), "app:1")
	f.Add(whole[whole.find("index.json")].body)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"platform":{}},null]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		fs := slices.Clone(whole)
		fs.set("index.json", raw)
		readTar(tarOf(fs))
	})
}

// FuzzArchive feeds whole tars: whatever they hold, there is an answer. Run it
// with -fuzzminimizetime=1x: an input of 10 KiB keeps the engine's minimizer,
// which counts as no execution, busy for a minute.
func FuzzArchive(f *testing.F) {
	img := newTestImage("a", "b")
	f.Add(tarOf(layoutOf(img, "app:1")))
	f.Add(tarOf(dockerOf(img, "app:1")))
	both := layoutOf(img, "app:1")
	both = append(both, dockerOf(img, "app:1")...)
	both.link("x", "../y")
	f.Add(tarOf(both))
	f.Fuzz(func(t *testing.T, b []byte) { readTar(b) })
}

// readTar reads all images of a tar to the last byte of their layers.
func readTar(b []byte) {
	ctx := context.Background()
	index, err := indexTarSection(ctx, io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))))
	if err != nil {
		return
	}
	a := &Archive{name: "archive"}
	if err := a.readEntries(ctx, index, "base"); err == nil {
		readImages(a)
	}
}
