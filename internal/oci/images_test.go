package oci

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/need"
)

// TestRealImages reads what other tools wrote: every archive in the folder
// STRATA_IMAGES, every image in it, every layer to its last byte.
func TestRealImages(t *testing.T) {
	dir := need.Images(t)
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if !fi.IsDir() && !strings.Contains(filepath.Base(path), ".tar") {
			continue // a note about the images
		}
		found++
		t.Run(filepath.Base(path), func(t *testing.T) {
			a := openArchive(t, path)
			images, err := a.Images()
			if err != nil {
				t.Fatal(err)
			}
			for _, img := range images {
				t.Logf("%v: manifest %s, id %s, %d layers, chain %s", img.Refs, img.Digest().Short(), img.ID().Short(),
					len(img.Layers), Chain(img.DiffIDs()).Short())
				for _, ref := range img.Refs {
					if got, err := a.Image(ref); err != nil || got != img {
						t.Errorf("Image(%s) is another image (error: %v)", ref, err)
					}
				}
			}
			if err := readImages(a); err != nil {
				t.Error(err)
			}
		})
	}
	if found == 0 {
		t.Errorf("no archive in %s", dir)
	}
}
