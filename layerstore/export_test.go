package layerstore_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"strata/internal/oci"
	"strata/layerstore"
)

// sameAgain wants the image to be the one that was added, to the last byte of
// every blob.
func sameAgain(t *testing.T, got, want *oci.Image) {
	t.Helper()
	if got.Digest() != want.Digest() || got.ManifestType != want.ManifestType || !bytes.Equal(got.Config, want.Config) {
		t.Errorf("manifest %s, want %s", got.Digest(), want.Digest())
	}
	for i, l := range got.Layers {
		if l.Descriptor != want.Layers[i].Descriptor {
			t.Errorf("layer %d is %v, want %v", i, l.Descriptor, want.Layers[i].Descriptor)
		}
		readBlob(t, l)
	}
}

// readBlob reads a layer to its verified end.
func readBlob(t *testing.T, l oci.Layer) []byte {
	t.Helper()
	r, err := l.Open(t.Context())
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

// TestExport: what came in goes out.
func TestExport(t *testing.T) {
	plain := tarOf(file("plain", "text"))
	for _, keep := range []layerstore.KeepBlobs{layerstore.KeepNeeded, layerstore.KeepAlways} {
		s := openStore(t)
		want := imageOf(t, "app:1", base, top, plain, base)
		image, added, err := s.AddImage(t.Context(), want, layerstore.AddOptions{KeepBlobs: keep, Jobs: 3})
		if err != nil {
			t.Fatal(err)
		}
		if kept := map[layerstore.KeepBlobs]int{layerstore.KeepNeeded: 2, layerstore.KeepAlways: 3}[keep]; added.Blobs != kept {
			t.Errorf("%d blobs are kept, want %d", added.Blobs, kept)
		}
		got, remade, err := s.Export(t.Context(), image, layerstore.ExportOptions{
			Elsewhere: func(context.Context, oci.Descriptor) (bool, error) { return false, errors.New("nobody needs to ask") },
		})
		if err != nil || len(remade) > 0 {
			t.Fatalf("remade %v (error: %v)", remade, err)
		}
		sameAgain(t, got, want)
		verifyStore(t, s)
	}
}

// TestExportRemakes: a blob that was not kept is made anew, in the same way
// each time, unless it is at its goal already.
func TestExportRemakes(t *testing.T) {
	plain := tarOf(file("plain", "text"))
	var header bytes.Buffer
	z := gzip.NewWriter(&header)
	z.Name = "layer.tar" // nobody could guess
	if _, err := z.Write(base.tar); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	odd := blobOf(base.tar, header.Bytes())
	odd.src.MediaType += "+gzip"
	top := top
	top.src.MediaType += "+zstd"
	s := openStore(t)
	want := imageOf(t, "app:1", odd, top, plain)
	image, _, err := s.AddImage(t.Context(), want, layerstore.AddOptions{KeepBlobs: layerstore.KeepNever})
	if err != nil {
		t.Fatal(err)
	}

	got, remade, err := s.Export(t.Context(), image, layerstore.ExportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(remade) == 0 || remade[0].Index != 0 || remade[0].Was.Digest != odd.src.Digest || remade[0].Is != got.Layers[0].Descriptor {
		t.Errorf("remade: %+v", remade)
	}
	if got.Digest() == want.Digest() || got.ID() != want.ID() {
		t.Errorf("manifest %s of image %s, want another manifest of %s", got.Digest(), got.ID(), want.ID())
	}
	if got.Layers[2].Descriptor != want.Layers[2].Descriptor {
		t.Errorf("the uncompressed layer is %v", got.Layers[2].Descriptor)
	}
	for i, l := range got.Layers {
		if l.MediaType != want.Layers[i].MediaType {
			t.Errorf("layer %d has the media type %s", i, l.MediaType)
		}
	}
	again, _, err := s.Export(t.Context(), image, layerstore.ExportOptions{})
	if err != nil || again.Digest() != got.Digest() {
		t.Errorf("again: %v (error: %v)", again, err)
	}

	// The new image is an image, whose layers are these.
	other := openStore(t)
	if _, _, err := other.AddImage(t.Context(), got, layerstore.AddOptions{}); err != nil {
		t.Error(err)
	}
	verifyStore(t, other)

	// What is there need not be made.
	there := func(_ context.Context, d oci.Descriptor) (bool, error) {
		return d.Digest == odd.src.Digest || d.Digest == top.src.Digest, nil
	}
	got, remade, err = s.Export(t.Context(), image, layerstore.ExportOptions{Elsewhere: there})
	if err != nil || len(remade) > 0 || got.Digest() != want.Digest() {
		t.Errorf("manifest %s, remade %v (error: %v), want all as it was", got.Digest(), remade, err)
	}
	if _, err := got.Layers[0].Open(t.Context()); !errors.Is(err, layerstore.ErrNotKept) {
		t.Errorf("what is not there is read: %v", err)
	}
	failing := func(context.Context, oci.Descriptor) (bool, error) { return false, errors.New("the line is dead") }
	if _, _, err = s.Export(t.Context(), image, layerstore.ExportOptions{Elsewhere: failing}); err == nil || !strings.Contains(err.Error(), "the line is dead") {
		t.Errorf("error %v", err)
	}

	// Loaded again with its blobs, it is whole again.
	if image, _, err = s.AddImage(t.Context(), want, layerstore.AddOptions{}); err != nil {
		t.Fatal(err)
	}
	got, remade, err = s.Export(t.Context(), image, layerstore.ExportOptions{})
	if err != nil || len(remade) > 0 {
		t.Fatalf("remade %v (error: %v)", remade, err)
	}
	sameAgain(t, got, want)
}

// TestExportGuesses: what the standard library has compressed comes out as it
// came in though it was not kept.
func TestExportGuesses(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(base.tar); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	layer := blobOf(base.tar, b.Bytes())
	layer.src.MediaType += "+gzip"
	s := openStore(t)
	want := imageOf(t, "app:1", layer)
	image, _, err := s.AddImage(t.Context(), want, layerstore.AddOptions{KeepBlobs: layerstore.KeepNever})
	if err != nil {
		t.Fatal(err)
	}
	got, remade, err := s.Export(t.Context(), image, layerstore.ExportOptions{})
	if err != nil || len(remade) > 0 {
		t.Fatalf("remade %v (error: %v)", remade, err)
	}
	sameAgain(t, got, want)
}

// TestManyJobs: layers that come at the same time, with contents in common and
// large ones, make the store that they make one by one.
func TestManyJobs(t *testing.T) {
	var layers []blob
	large := strings.Repeat("large", 1<<20)
	for i := range 9 {
		layers = append(layers, gz(tarOf(file("common", "in all"), file(fmt.Sprint("own", i), fmt.Sprint(i)),
			file("large", large), file("larger", large+fmt.Sprint(i%3)))))
	}
	layers = append(layers, layers[0], zst(layers[1]))
	want := imageOf(t, "app:1", layers...)
	var sums []layerstore.Added
	for _, jobs := range []int{0, 4} {
		s := openStore(t)
		image, added, err := s.AddImage(t.Context(), want, layerstore.AddOptions{Jobs: jobs})
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, added)
		got, _, err := s.Export(t.Context(), image, layerstore.ExportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sameAgain(t, got, want)
		verifyStore(t, s)
		checkUsage(t, s)
		checkNothingStaged(t, s)
	}
	if sums[0] != sums[1] {
		t.Errorf("one by one %+v, at once %+v", sums[0], sums[1])
	}

	// One bad layer among those that come at once: nothing stays.
	bad := openStore(t)
	layers[5] = stored(layers[5], flip(200))
	if _, _, err := bad.AddImage(t.Context(), imageOf(t, "app:1", layers...), layerstore.AddOptions{Jobs: 4}); err == nil {
		t.Error("a damaged layer is no error")
	}
	checkNothingStaged(t, bad)
	if images, err := bad.Images(); err != nil || len(images) > 0 || bad.HasLayer(layers[0].diffID) {
		t.Errorf("%d images are there (error: %v)", len(images), err)
	}
}
