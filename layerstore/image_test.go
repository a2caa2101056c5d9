package layerstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"strata/internal/oci"
	"strata/layerstore"
)

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
)

// imageOf makes an image of layers, base first.
func imageOf(tb testing.TB, refs string, layers ...blob) *oci.Image {
	tb.Helper()
	type descriptor struct {
		MediaType string     `json:"mediaType"`
		Digest    oci.Digest `json:"digest"`
		Size      int64      `json:"size"`
	}
	diffIDs, descriptors := []oci.DiffID{}, []descriptor{}
	for _, l := range layers {
		diffIDs = append(diffIDs, l.diffID)
		descriptors = append(descriptors, descriptor{l.src.MediaType, l.src.Digest, l.src.Size})
	}
	config := mustJSON(tb, map[string]any{
		"architecture": "amd64", "os": "linux", "author": refs,
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	manifest := mustJSON(tb, map[string]any{
		"schemaVersion": 2, "mediaType": manifestType,
		"config": descriptor{configType, oci.DigestBytes(config), int64(len(config))},
		"layers": descriptors,
	})
	var parsed []oci.Reference
	for ref := range strings.FieldsSeq(refs) {
		parsed = append(parsed, reference(tb, ref))
	}
	open := func(_ context.Context, d oci.Descriptor) (io.ReadCloser, error) {
		for _, l := range layers {
			if l.src.Digest == d.Digest {
				return io.NopCloser(bytes.NewReader(l.bytes)), nil
			}
		}
		return nil, fmt.Errorf("no blob %s", d.Digest)
	}
	img, err := oci.NewImage("test", parsed, manifest, manifestType, config, open)
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

func mustJSON(tb testing.TB, v any) []byte {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func reference(tb testing.TB, s string) oci.Reference {
	tb.Helper()
	ref, err := oci.ParseReference(s)
	if err != nil {
		tb.Fatal(err)
	}
	return ref
}

func addImage(tb testing.TB, s *layerstore.Store, img *oci.Image) layerstore.Image {
	tb.Helper()
	image, _, err := s.AddImage(tb.Context(), img, layerstore.AddOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return image
}

var (
	base = gz(tarOf(dir("etc"), file("etc/passwd", "root"), file("big", strings.Repeat("0123456789", 1000))))
	top  = zst(tarOf(file("etc/passwd", "root and more"), file(".wh.big", "")))
)

func TestAddImage(t *testing.T) {
	s := openStore(t)
	img := imageOf(t, "app:1 app:latest", base, top)
	added := addImage(t, s, img)
	if added.ID != img.ID() || added.Digest != img.Digest() || !slices.Equal(added.Layers, img.DiffIDs()) {
		t.Errorf("added %+v", added)
	}
	for _, name := range []string{"app:1", "app", "docker.io/library/app:latest", string(img.ID()), img.ID().Short(), img.Digest().Hex()[:20], "app@" + string(img.Digest())} {
		found, err := s.Image(name)
		if err != nil || found.ID != img.ID() || len(found.Refs) != 2 {
			t.Errorf("image %s: %v, %v", name, found.Refs, err)
		}
	}
	chain, err := s.Chain(t.Context(), added.Layers)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	if chain.ID() != oci.Chain(img.DiffIDs()) {
		t.Errorf("chain is %s", chain.ID())
	}
	if got, want := listing(t, chain.Tree()), "etc/ | etc/passwd file(13)"; !strings.HasSuffix(got, want) {
		t.Errorf("the chain holds %q, want %q", got, want)
	}

	_, again, err := s.AddImage(t.Context(), img, layerstore.AddOptions{})
	if err != nil || again != (layerstore.Added{KnownLayers: 2}) {
		t.Errorf("added again: %+v, %v", again, err)
	}
	images, err := s.Images()
	if err != nil || len(images) != 1 {
		t.Errorf("%d images, %v", len(images), err)
	}
	verifyStore(t, s)
	checkUsage(t, s)
	checkNothingStaged(t, s)
}

// TestAddImageMendsDocuments: who has the right bytes can bring them again.
func TestAddImageMendsDocuments(t *testing.T) {
	s := openStore(t)
	img := imageOf(t, "app:1", base)
	addImage(t, s, img)
	for _, d := range []oci.Digest{img.ID(), img.Digest()} {
		path := filepath.Join(s.Root(), "images", "blobs", "sha256", d.Hex())
		if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte("{}"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Document(d); err == nil {
			t.Errorf("document %s is damaged and is given", d)
		}
		addImage(t, s, img)
		if _, err := s.Document(d); err != nil {
			t.Error(err)
		}
	}
	verifyStore(t, s)
	if _, err := s.Document("sha256:../../index.json"); err == nil {
		t.Error("a path is taken for a digest")
	}
}

func TestAddImageWithEqualLayers(t *testing.T) {
	s := openStore(t)
	empty := gz(tarOf())
	other := gzMembers(blobOf(empty.tar, nil))
	image := addImage(t, s, imageOf(t, "app", base, empty, empty, other))
	layer, err := s.Layer(empty.diffID)
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	if n := len(layer.Info().Sources); n != 2 {
		t.Errorf("the layer has %d sources, want 2", n)
	}
	for _, b := range []blob{base, empty, other} {
		checkBytes(t, "blob", b.bytes, func() (io.ReadCloser, error) { return s.Blob(b.src.Digest) })
	}
	chain, err := s.Chain(t.Context(), image.Layers)
	if err != nil {
		t.Fatal(err)
	}
	chain.Close()
	verifyStore(t, s)
}

func TestAddImageWithBadLayerLeavesNothing(t *testing.T) {
	s := openStore(t)
	before := listFiles(t, s.Root())
	bad := stored(gz(tarOf(file("x", "y"))), flip(-6))
	_, _, err := s.AddImage(t.Context(), imageOf(t, "app", base, bad), layerstore.AddOptions{})
	if err == nil || !strings.Contains(err.Error(), string(bad.diffID)) {
		t.Errorf("error is %v, want one with the layer", err)
	}
	if after := listFiles(t, s.Root()); !slices.Equal(before, after) {
		t.Errorf("the store has changed to %q", after)
	}
}

func TestAddImageWithoutLayers(t *testing.T) {
	s := openStore(t)
	image := addImage(t, s, imageOf(t, "scratch-like"))
	chain, err := s.Chain(t.Context(), image.Layers)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	if got := listing(t, chain.Tree()); strings.Contains(got, "|") {
		t.Errorf("the chain holds %q", got)
	}
	if _, err := s.GC(t.Context(), layerstore.GCOptions{}); err != nil {
		t.Error(err)
	}
}

func TestAnotherSourceOfAKnownLayer(t *testing.T) {
	s := openStore(t)
	addImage(t, s, imageOf(t, "a", base))
	other := zst(base)
	addImage(t, s, imageOf(t, "b", other))
	for _, b := range []blob{base, other} {
		checkBytes(t, "blob", b.bytes, func() (io.ReadCloser, error) { return s.Blob(b.src.Digest) })
	}
	// One that lies about its layer is refused.
	liar := zst(tarOf(file("x", "not the base")))
	liar.diffID = base.diffID
	before := listFiles(t, s.Root())
	if _, err := addBlob(t, s, liar); err == nil || !strings.Contains(err.Error(), "the tar's diffID is") {
		t.Errorf("error is %v", err)
	}
	if after := listFiles(t, s.Root()); !slices.Equal(before, after) {
		t.Errorf("the store has changed to %q", after)
	}
	verifyStore(t, s)
}

func TestKeepNever(t *testing.T) {
	s := openStore(t)
	add := func(keep layerstore.KeepBlobs) {
		t.Helper()
		if _, err := s.AddLayer(t.Context(), base.diffID, base.src, bytes.NewReader(base.bytes), layerstore.AddOptions{KeepBlobs: keep}); err != nil {
			t.Fatal(err)
		}
	}
	add(layerstore.KeepNever)
	if _, err := s.Blob(base.src.Digest); !errors.Is(err, layerstore.ErrNotKept) {
		t.Errorf("error is %v, want ErrNotKept", err)
	}
	checkBytes(t, "tar", base.tar, func() (io.ReadCloser, error) { return s.Tar(base.diffID) })
	add(layerstore.KeepNeeded) // and now it is wanted
	checkBytes(t, "blob", base.bytes, func() (io.ReadCloser, error) { return s.Blob(base.src.Digest) })
	verifyStore(t, s)
}

func TestTagsMove(t *testing.T) {
	s := openStore(t)
	one := addImage(t, s, imageOf(t, "app:1 app", base))
	two := addImage(t, s, imageOf(t, "app:2 app", base, top))
	check := func(want ...string) {
		t.Helper()
		images, err := s.Images()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, image := range images {
			line := map[oci.Digest]string{one.ID: "one", two.ID: "two"}[image.ID]
			for _, ref := range image.Refs {
				line += " " + ref.Familiar()
			}
			got = append(got, line)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("images are %q, want %q", got, want)
		}
	}
	check("one app:1", "two app:2 app:latest")
	if err := s.Tag(t.Context(), "app:2", reference(t, "app:1")); err != nil {
		t.Fatal(err)
	}
	check("one", "two app:2 app:latest app:1")
	if err := s.Tag(t.Context(), one.ID.Short(), reference(t, "old")); err != nil {
		t.Fatal(err)
	}
	check("one old:latest", "two app:2 app:latest app:1")
	if _, err := s.RemoveImage(t.Context(), two.ID.Short(), false); err == nil || !strings.Contains(err.Error(), "has 3 references") {
		t.Errorf("error is %v", err)
	}
	removed, err := s.RemoveImage(t.Context(), "app:1", false)
	if err != nil || len(removed.Untagged) != 1 || len(removed.Deleted) != 0 {
		t.Errorf("removed %+v, %v", removed, err)
	}
	removed, err = s.RemoveImage(t.Context(), string(two.ID), true)
	if err != nil || len(removed.Untagged) != 2 || len(removed.Deleted) != 1 {
		t.Errorf("removed %+v, %v", removed, err)
	}
	check("one old:latest")
	removed, err = s.RemoveImage(t.Context(), "old", false)
	if err != nil || len(removed.Deleted) != 1 {
		t.Errorf("removed %+v, %v", removed, err)
	}
	check()
}

func TestImageNotFound(t *testing.T) {
	s := openStore(t)
	addImage(t, s, imageOf(t, "redis:7 nginx", base))
	tests := []struct{ name, near string }{
		{"redis", "redis:7"},
		{"reddis:7", "redis:7"},
		{"ngin", "nginx:latest"},
		{"something/else", ""},
		{"0000", ""},
	}
	for _, tt := range tests {
		_, err := s.Image(tt.name)
		var notFound *layerstore.NotFoundError
		if !errors.As(err, &notFound) || strings.Join(notFound.Near, " ") != tt.near || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("image %s: %v, want near %q", tt.name, err, tt.near)
		}
	}
}

func TestMalformedImageNamesAreRefusedWithTheReason(t *testing.T) {
	s := openStore(t)
	for name, want := range map[string]string{
		"UPPER": "must be lowercase", "a:b:c": "want lower-case letters", "-x": "want lower-case letters", "redis@sha256:abc": "want 64", "": "want [HOST/]REPOSITORY",
	} {
		_, err := s.Image(name)
		var notFound *layerstore.NotFoundError
		if !errors.As(err, &notFound) || notFound.Malformed == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("image %q: %v, want a *NotFoundError with the reason %q", name, err, want)
		}
	}
	if _, err := s.Image("redis"); err == nil || strings.Contains(err.Error(), "reference") {
		t.Errorf("image redis: %v, which is well formed", err)
	}
}

func TestOpen(t *testing.T) {
	t.Run("it is 0700, whatever was there", func(t *testing.T) {
		root := t.TempDir()
		s := openStoreAt(t, root)
		info, err := os.Stat(s.Root())
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	})
	t.Run("again", func(t *testing.T) {
		s := openStore(t)
		addImage(t, s, imageOf(t, "app", base))
		again := openStoreAt(t, s.Root())
		if _, err := again.Image("app"); err != nil {
			t.Error(err)
		}
	})
	t.Run("by many at once", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "store")
		var g errgroup.Group
		for n := range 8 {
			img := imageOf(t, fmt.Sprint("app:", n), base)
			g.Go(func() error {
				s, err := layerstore.Open(root, layerstore.Options{})
				if err != nil {
					return err
				}
				_, _, err = s.AddImage(t.Context(), img, layerstore.AddOptions{})
				return errors.Join(err, s.Close())
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		s := openStoreAt(t, root)
		if images, err := s.Images(); err != nil || len(images) != 8 {
			t.Errorf("%d images, %v", len(images), err)
		}
		verifyStore(t, s)
	})
	t.Run("newer", func(t *testing.T) {
		s := openStore(t)
		if err := os.WriteFile(filepath.Join(s.Root(), "version"), []byte("2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := layerstore.Open(s.Root(), layerstore.Options{})
		if err == nil || !strings.Contains(err.Error(), "use the newer program") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("something else", func(t *testing.T) {
		root := t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "letters"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := layerstore.Open(root, layerstore.Options{})
		if err == nil || !strings.Contains(err.Error(), "so is no store") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("abandoned staging goes, staging in use stays", func(t *testing.T) {
		s := openStore(t)
		h, err := s.Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.Dir(), "x"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		dead := filepath.Join(s.Root(), "tmp", "dead", "objects")
		if err := os.MkdirAll(dead, 0o700); err != nil {
			t.Fatal(err)
		}
		openStoreAt(t, s.Root())
		if _, err := os.Stat(filepath.Dir(dead)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("abandoned staging: %v", err)
		}
		if _, err := os.Stat(filepath.Join(h.Dir(), "x")); err != nil {
			t.Errorf("staging in use: %v", err)
		}
		if err := h.Release(); err != nil {
			t.Error(err)
		}
		checkNothingStaged(t, s)
	})
}
