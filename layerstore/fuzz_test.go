package layerstore_test

import (
	"io"
	"os"
	"strings"
	"testing"

	"strata/layerstore"
)

// FuzzAddLayer adds any bytes as a blob. What is accepted is given back bit
// for bit and has a sound tree; what is not leaves nothing behind.
func FuzzAddLayer(f *testing.F) {
	for _, b := range []blob{
		someTar, base, zst(base), top,
		tarOf(file("a", "x"), link("b", "a"), file(".wh.c", ""), file("d/.wh..wh..opq", "")),
		tarOf(gnuSparse("a", 4096, "tail"), file(strings.Repeat("long/", 40)+"f", "x")),
		tarOf(pax(file("a", ""), "SCHILY.xattr.user.a", "v"), device('3', "c", 1, 3)),
		tarOf(paxHeader("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "a", "GNU.sparse.realsize", "4096"), rawHeader('0', "x", "", 516, "1\n4092\n4\n"+strings.Repeat("\x00", 503)+"tail")),
	} {
		f.Add(b.tar, b.bytes)
	}
	// In memory, where syncfs costs nothing.
	root, err := os.MkdirTemp("/dev/shm", "layerstore-fuzz-")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(root) })
	s := openStoreAt(f, root)
	f.Fuzz(func(t *testing.T, tarBytes, bytes []byte) {
		b := blobOf(tarBytes, bytes)
		b.limits = layerstore.Limits{Bytes: 1 << 22, Entries: 1000}
		_, err := addBlob(t, s, b)
		checkNothingStaged(t, s)
		if err != nil {
			return
		}
		checkBytes(t, "tar", tarBytes, func() (io.ReadCloser, error) { return s.Tar(b.diffID) })
		checkBytes(t, "blob", bytes, func() (io.ReadCloser, error) { return s.Blob(b.src.Digest) })
		layer, err := s.Layer(b.diffID)
		if err != nil {
			t.Fatal(err)
		}
		defer layer.Close()
		if err := layer.Tree().Check(); err != nil {
			t.Error(err)
		}
	})
}
