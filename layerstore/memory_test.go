package layerstore_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/oci"
)

// TestMemory loads a layer of 155 MB, of many small and some large files.
func TestMemory(t *testing.T) {
	var members []member
	for i := range 10000 {
		members = append(members, file(fmt.Sprintf("d%d/small%d", i%100, i), strings.Repeat("0123456789abcdef", i%1000)))
	}
	for i := range 5 {
		members = append(members, file(fmt.Sprint("large", i), strings.Repeat("0123456789abcdef", 1<<20)))
	}
	b := gz(tarOf(members...))
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, b.bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	checkMemory(t, path, b.diffID)
}

func TestRealMemory(t *testing.T) {
	path, layer := debianBlob(t)
	checkMemory(t, path, layer.DiffID)
}

func checkMemory(t *testing.T, path string, diffID oci.DiffID) {
	t.Helper()
	s := openStore(t)
	var status bytes.Buffer
	cmd := startLoader(t, s.Root(), path, diffID, &status)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	// Not the resource usage, which begins with what the parent has at fork.
	_, peak, _ := strings.Cut(status.String(), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(peak, &kib); err != nil {
		t.Fatal(err)
	}
	t.Logf("peak memory %d KiB, user %v, system %v", kib, cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime())
	if kib<<10 > maxMemory {
		t.Errorf("peak memory is %d KiB, want at most %d", kib, maxMemory>>10)
	}
}

// debianBlob finds the base layer of debian:12 among the real images.
func debianBlob(tb testing.TB) (path string, layer oci.Layer) {
	dir := filepath.Join(realImages(tb), "family")
	a, err := oci.OpenArchive(tb.Context(), dir, oci.ArchiveOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { a.Close() })
	ref, err := oci.ParseReference("debian:12")
	if err != nil {
		tb.Fatal(err)
	}
	img, err := a.Image(ref)
	if err != nil {
		tb.Fatal(err)
	}
	layer = img.Layers[0]
	return filepath.Join(dir, "blobs", "sha256", layer.Digest.Hex()), layer
}
