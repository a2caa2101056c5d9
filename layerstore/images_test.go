package layerstore_test

import (
	"path/filepath"
	"testing"

	"strata/internal/need"
	"strata/internal/oci"
	"strata/layerstore"
)

// realImages is a folder of real images, of which these tests want family/ (an OCI
// layout with debian:12, gzip), python-zstd/ and debian-rebuilt.docker.tar.zst.
func realImages(tb testing.TB) string {
	return need.Images(tb)
}

func openStore(tb testing.TB) *layerstore.Store {
	tb.Helper()
	return openStoreAt(tb, filepath.Join(tb.TempDir(), "store"))
}

func openStoreAt(tb testing.TB, root string) *layerstore.Store {
	tb.Helper()
	s, err := layerstore.Open(root, layerstore.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

// loadArchive adds all images of an archive.
func loadArchive(tb testing.TB, s *layerstore.Store, path string, o layerstore.AddOptions) layerstore.Added {
	tb.Helper()
	a, err := oci.OpenArchive(tb.Context(), path, oci.ArchiveOptions{TempDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	defer a.Close()
	images, err := a.Images()
	if err != nil {
		tb.Fatal(err)
	}
	var sum layerstore.Added
	for _, img := range images {
		_, added, err := s.AddImage(tb.Context(), img, o)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Logf("%v: %+v", img.Refs, added)
		sum.Objects += added.Objects
		sum.ObjectBytes += added.ObjectBytes
		sum.Layers += added.Layers
	}
	return sum
}

func TestRealImages(t *testing.T) {
	dir := realImages(t)
	s := openStore(t)

	family := loadArchive(t, s, filepath.Join(dir, "family"), layerstore.AddOptions{})
	python := loadArchive(t, s, filepath.Join(dir, "python-zstd"), layerstore.AddOptions{})
	rebuilt := loadArchive(t, s, filepath.Join(dir, "debian-rebuilt.docker.tar.zst"), layerstore.AddOptions{})
	if sum := family.ObjectBytes + python.ObjectBytes + rebuilt.ObjectBytes; sum > 250e6 {
		t.Errorf("%d bytes of objects, want at most 250 MB", sum)
	}

	images, err := s.Images()
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		chain, err := s.Chain(t.Context(), image.Layers)
		if err != nil {
			t.Fatal(err)
		}
		chain.Close()
	}
	verifyStore(t, s)
	checkUsage(t, s)
}

func TestRealRebuiltAddsOnlyNewContents(t *testing.T) {
	dir := realImages(t)
	s := openStore(t)
	a, err := oci.OpenArchive(t.Context(), filepath.Join(dir, "family"), oci.ArchiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ref, err := oci.ParseReference("debian:12")
	if err != nil {
		t.Fatal(err)
	}
	img, err := a.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.AddImage(t.Context(), img, layerstore.AddOptions{}); err != nil {
		t.Fatal(err)
	}
	rebuilt := loadArchive(t, s, filepath.Join(dir, "debian-rebuilt.docker.tar.zst"), layerstore.AddOptions{})
	if rebuilt.Objects != 1797 {
		t.Errorf("debian:12-rebuilt added %d contents (%d bytes), want 1797", rebuilt.Objects, rebuilt.ObjectBytes)
	}
}

// verifyStore fails the test if anything in the store is damaged.
func verifyStore(tb testing.TB, s *layerstore.Store) {
	tb.Helper()
	report, err := s.Fsck(tb.Context(), layerstore.FsckOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	for _, d := range report.Damages {
		tb.Error(d)
	}
}
