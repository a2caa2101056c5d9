package layerstore_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/layerstore"
)

// TestVerifyFindsDamage damages each kind of file in each way. Every damage is
// found, and reading what is damaged never gives wrong bytes and EOF.
func TestVerifyFindsDamage(t *testing.T) {
	damages := []struct {
		name string
		do   func(path string, b []byte) error
	}{
		{"flipped in the middle", func(path string, b []byte) error {
			b[len(b)/2] ^= 1
			return os.WriteFile(path, b, 0)
		}},
		{"flipped at the end", func(path string, b []byte) error {
			b[len(b)-1] ^= 1
			return os.WriteFile(path, b, 0)
		}},
		{"cut", func(path string, b []byte) error { return os.Truncate(path, int64(len(b)/2)) }},
		{"empty", func(path string, _ []byte) error { return os.Truncate(path, 0) }},
		{"missing", func(path string, _ []byte) error { return os.Remove(path) }},
	}
	kinds := []struct {
		name, pattern string
		kind          string // of damage that is told, among others
	}{
		{"object", "objects/*/*", "object"},
		{"tree", "layers/*/tree", "layer"},
		{"recipe", "layers/*/tar", "layer"},
		{"blob", "layers/*/blob-*", "blob"},
		{"chain", "chains/*/tree", "chain"},
		{"manifest or config", "images/blobs/sha256/*", "image"},
	}
	for _, kind := range kinds {
		for _, damage := range damages {
			if kind.name == "chain" && damage.name == "missing" {
				continue // chains come and go
			}
			t.Run(kind.name+"/"+damage.name, func(t *testing.T) {
				t.Parallel()
				s := openStore(t)
				image := addImage(t, s, imageOf(t, "app", base, top))
				chain, err := s.Chain(t.Context(), image.Layers)
				if err != nil {
					t.Fatal(err)
				}
				chain.Close()
				files, err := filepath.Glob(filepath.Join(s.Root(), filepath.FromSlash(kind.pattern)))
				if err != nil || len(files) == 0 {
					t.Fatalf("no files %s, %v", kind.pattern, err)
				}
				path := files[0]
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, 0o600); err != nil { // they are read-only, which stops all but root
					t.Fatal(err)
				}
				if err := damage.do(path, b); err != nil {
					t.Fatal(err)
				}
				report, err := s.Fsck(t.Context(), layerstore.FsckOptions{})
				if err != nil {
					t.Fatal(err)
				}
				found := report.Damages
				told := false
				for _, d := range found {
					told = told || strings.Contains(kind.kind, d.Kind)
				}
				if !told {
					t.Errorf("%s damaged, found %v", path, found)
				}
				for _, l := range []blob{base, top} {
					neverWrong(t, l.tar, func() (io.ReadCloser, error) { return s.Tar(l.diffID) })
					neverWrong(t, l.bytes, func() (io.ReadCloser, error) { return s.Blob(l.src.Digest) })
				}
			})
		}
	}
}

// neverWrong fails the test if what open gives ends well and is not want.
func neverWrong(t *testing.T, want []byte, open func() (io.ReadCloser, error)) {
	t.Helper()
	r, err := open()
	if err != nil {
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err == nil && string(got) != string(want) {
		t.Errorf("%d wrong bytes without an error", len(got))
	}
}

// TestLoadingMendsObjects loses bytes of an object and loads a layer that has
// the contents.
func TestLoadingMendsObjects(t *testing.T) {
	s := openStore(t)
	addImage(t, s, imageOf(t, "app", base))
	var cut string
	err := filepath.WalkDir(filepath.Join(s.Root(), "objects"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			cut = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(cut, 1); err != nil {
		t.Fatal(err)
	}
	other := tarOf(file("a", "root"), file("b", strings.Repeat("0123456789", 1000)))
	if _, err := addBlob(t, s, other); err != nil {
		t.Fatal(err)
	}
	verifyStore(t, s)
}
