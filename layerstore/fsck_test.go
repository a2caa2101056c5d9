package layerstore_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
