package oci

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"strata/internal/need"
)

// TestSkopeoWrites has another tool rewrite an image in each of its forms and
// wants the same image from all of them.
func TestSkopeoWrites(t *testing.T) {
	skopeo := need.Tool(t, "skopeo")
	img := newTestImage("base", "top")
	source := writeDir(t, "source", layoutOf(img, "app:1"))
	original, err := openArchive(t, source).Images()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, tc := range []struct {
		name, to, path string
		args           []string
		names          []string
		sameManifest   bool
	}{
		{"layout", "oci:%:1", "app", nil, []string{"app:1"}, true},
		{"layout tar", "oci-archive:%:app:2", "app.tar", nil, []string{"app:2"}, true},
		{"layout zstd", "oci:%:1", "app-zstd", []string{"--dest-compress-format=zstd", "--dest-compress"}, []string{"app-zstd:1"}, false},
		{"docker archive", "docker-archive:%:app:3", "app.docker.tar", []string{"--additional-tag=app:4"}, []string{"app:3", "app:4"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := filepath.Join(dir, tc.path)
			to := strings.Replace(tc.to, "%", path, 1)
			args := append([]string{"--insecure-policy", "copy", "--quiet"}, tc.args...)
			if out, err := exec.Command(skopeo, append(args, "oci:"+source+":app:1", to)...).CombinedOutput(); err != nil {
				t.Fatalf("skopeo: %v\n%s", err, out)
			}
			images, err := openArchive(t, path).Images()
			if err != nil || len(images) != 1 {
				t.Fatalf("%d images (error: %v), want 1", len(images), err)
			}
			got := images[0]
			if !slices.Equal(familiar(got.Refs), tc.names) {
				t.Errorf("names %v, want %v", familiar(got.Refs), tc.names)
			}
			if got.ID() != original[0].ID() || !slices.Equal(got.DiffIDs(), original[0].DiffIDs()) {
				t.Errorf("another image: id %s, diffIDs %v", got.ID(), got.DiffIDs())
			}
			if tc.sameManifest && got.Digest() != original[0].Digest() {
				t.Errorf("manifest %s, want %s", got.Digest(), original[0].Digest())
			}
			for _, l := range got.Layers {
				readLayer(t, l)
			}
		})
	}
}
