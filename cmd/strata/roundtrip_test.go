package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"strata/internal/need"
	"strata/testdata"
)

// digests are the manifests and ids of a store's images, by reference.
func (l *lab) digests(t *testing.T, root string) map[string]string {
	t.Helper()
	var images []imageJSON
	if err := json.Unmarshal([]byte(l.command(t, "--root", root, "images", "--json")), &images); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, img := range images {
		for _, ref := range img.References {
			found[ref] = img.Digest + " " + img.ID
		}
	}
	return found
}

// roundTrip loads what source holds, saves it in both formats and loads that: all
// has the digests that it had.
func (l *lab) roundTrip(t *testing.T, source string) {
	t.Helper()
	dir := t.TempDir()
	first := filepath.Join(dir, "first")
	l.command(t, "--root", first, "load", "-q", source)
	want := l.digests(t, first)
	if len(want) == 0 {
		t.Fatalf("nothing was loaded from %s", source)
	}
	var refs []string
	for ref := range want {
		refs = append(refs, ref)
	}
	for _, format := range []string{"docker", "oci"} {
		archive, second := filepath.Join(dir, format+".tar"), filepath.Join(dir, format)
		l.command(t, append([]string{"--root", first, "save", "--format", format, "-o", archive}, refs...)...)
		l.command(t, "--root", second, "load", "-q", archive)
		if got := l.digests(t, second); !maps.Equal(got, want) {
			t.Errorf("%s, saved for %s and loaded again:\n%v\nwant\n%v", source, format, got, want)
		}
		if err := os.RemoveAll(second); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRoundTrip: load, save, load, of all images that are part of the program.
func TestRoundTrip(t *testing.T) {
	l := newProgram(t)
	for _, name := range []string{"demo", "tour"} {
		images, err := testdata.Load(name)
		if err != nil {
			t.Fatal(err)
		}
		source := filepath.Join(t.TempDir(), name)
		if err := testdata.WriteLayout(source, images); err != nil {
			t.Fatal(err)
		}
		l.roundTrip(t, source)
	}
}

// TestRealRoundTrip does so with the images of STRATA_IMAGES.
func TestRealRoundTrip(t *testing.T) {
	l := newProgram(t)
	for _, name := range []string{"family", "python-zstd", "debian-rebuilt.docker.tar.zst"} {
		t.Run(strings.SplitN(name, ".", 2)[0], func(t *testing.T) { l.roundTrip(t, filepath.Join(need.Images(t), name)) })
	}
}
