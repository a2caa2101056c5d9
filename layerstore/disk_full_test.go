package layerstore_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/need"
)

// TestDiskFull adds layers that do not fit, in each of the ways in which
// contents and blobs are written.
func TestDiskFull(t *testing.T) {
	need.Root(t)
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Fatalf("mount tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Errorf("umount: %v", err)
		}
	})
	random := string(killBlob(3).tar[:6<<20])
	var small []member
	for i := range 6 {
		small = append(small, file(string(rune('a'+i)), random[i<<20:(i+1)<<20-1]))
	}
	tests := []struct {
		name string
		blob blob
	}{
		{"small contents", tarOf(small...)},
		{"a large content", tarOf(file("large", random))},
		{"the kept blob", gz(tarOf(file(".wh.x", random)))},
	}
	s := openStoreAt(t, filepath.Join(disk, "store"))
	before := listFiles(t, s.Root())
	for _, tt := range tests {
		_, err := addBlob(t, s, tt.blob)
		if !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), "corrupt") {
			t.Errorf("%s: error is %v, want ENOSPC", tt.name, err)
		}
		if after := listFiles(t, s.Root()); !slices.Equal(before, after) {
			t.Errorf("%s: the store has changed to %q", tt.name, after)
		}
	}
	if _, err := addBlob(t, s, tarOf(small[:2]...)); err != nil {
		t.Errorf("a layer that fits: %v", err)
	}
	verifyStore(t, s)
}
