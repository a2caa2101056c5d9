package testdata

import (
	"archive/tar"
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDemoImagesShareTheirBase(t *testing.T) {
	images, err := Load("demo")
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images[1:] {
		if img.Layers[0] != images[0].Layers[0] {
			t.Errorf("%s does not stand on %s", img.Ref, images[0].Ref)
		}
	}
}

func TestTar(t *testing.T) {
	images, err := Parse("x", []byte(`
image x:1
layer a
dir d mode=1777 owner=1:2
file d/f xattr=user.k=v
symlink s d/f
link l d/f
whiteout d/gone
opaque o
char dev/null 1 3
-- a/d/f --
text
-- a/e/g --
`))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := images[0].Layers[0].Tar()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(string(h.Typeflag) + " " + h.Name + " " + h.Linkname + "\n")
		if h.Name == "d/" && (h.Mode != 0o1777 || h.Uid != 1 || h.Gid != 2) {
			t.Errorf("d/ has mode %o, owner %d:%d", h.Mode, h.Uid, h.Gid)
		}
		if h.Name == "d/f" && h.PAXRecords["SCHILY.xattr.user.k"] != "v" {
			t.Errorf("d/f has records %v", h.PAXRecords)
		}
	}
	const want = "5 d/ \n0 d/.wh.gone \n0 d/f \n5 dev/ \n3 dev/null \n5 e/ \n0 e/g \n5 o/ \n0 o/.wh..wh..opq \n2 s d/f\n1 l d/f\n"
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestUnmentionedDirectories(t *testing.T) {
	images, err := Parse("x", []byte(`
image x:1
layer a
dir d mode=0700
layer b
implicit i
-- b/d/f --
-- b/i/f --
-- b/n/f --
`))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, e := range images[0].Layers[1].sorted() {
		got[e.name] = e.mode
	}
	if want := (map[string]int64{"d": 0o700, "d/f": 0o644, "i/f": 0o644, "n": 0o755, "n/f": 0o644}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheSameTextGivesTheSameBytes(t *testing.T) {
	var archives [2]bytes.Buffer
	for i := range archives {
		images, err := Load("demo")
		if err != nil {
			t.Fatal(err)
		}
		if err := WriteArchive(&archives[i], images); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(archives[0].Bytes(), archives[1].Bytes()) {
		t.Error("two archives of the same text differ")
	}
}

func TestWriteLayout(t *testing.T) {
	images, err := Load("demo")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "made")
	if err := WriteLayout(dir, images); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err != nil {
		t.Error(err)
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "no image line"},
		{"no image", "layer a", "x:1: layer before the first image line"},
		{"no layer", "image a:1\ndir d", "x:2: dir before the first layer line of a:1"},
		{"unknown from", "image a:1 from b:1", "no image b:1 above it"},
		{"unknown word", "image a:1\nlayer l\nfrob x", "this word is not known"},
		{"unknown attribute", "image a:1\nlayer l\ndir d mod=1", "this attribute is not known"},
		{"missing target", "image a:1\nlayer l\nsymlink d", "0 words follow the path, not 1"},
		{"unknown section", "image a:1\nlayer l\n-- m/f --\n", "is not LAYER/PATH"},
		{"outside", "image a:1\nlayer l\ndir ../x", "not relative to the root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse("x", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ...%s...", err, c.want)
			}
		})
	}
}
