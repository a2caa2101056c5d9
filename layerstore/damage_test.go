package layerstore_test

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"strata/internal/oci"
	"strata/layerstore"
)

// What is damaged: layers with a kept gzip and a kept zstd blob, one without any, and a
// container on them.
var plain = tarOf(file("plain", "this stands in no kept blob"), file("etc/twice", "root"))

// damagedKind is a kind of file in a store, and what becomes of it.
type damagedKind struct {
	name    string
	path    string // a regular expression
	content string // of the file; empty: whatever it is
	flip    string // where a bit is flipped; empty: in the middle

	kind string // of the damage that is told
	says string // a regular expression on its consequence

	alone bool // repaired without help
	given bool // repaired with the images at hand
	fine  map[string]string
}

const (
	flipped, truncated, empty, missing, isDir, isLink = "flipped", "truncated", "empty", "missing", "a directory", "a symlink"
)

var allDamages = []string{flipped, truncated, empty, missing, isDir, isLink}

// opens says of a damage that already opening the store tells of it.
const opens = "opening the store tells of it"

func harmless(why string) map[string]string {
	all := map[string]string{}
	for _, damage := range allDamages {
		all[damage] = why
	}
	return all
}

var damagedKinds = []damagedKind{
	{name: "object in a kept blob", path: `objects/../.{62}`, content: "root", kind: "object",
		says: `(/etc/passwd|/etc/twice) of layer [0-9a-f]{12} of image app:latest and container box cannot be read; (/etc/passwd|/etc/twice) of layer`, alone: true, given: true},
	{name: "object in no blob", path: `objects/../.{62}`, content: "this stands in no kept blob", kind: "object",
		says: `^/plain of layer [0-9a-f]{12} of image app:latest and container box cannot be read$`, given: true},
	{name: "tree", path: `layers/.{64}/tree`, kind: "layer", says: `of image app:latest and container box cannot be read or stacked, and gc does not run`, alone: true, given: true},
	{name: "tar recipe", path: `layers/(` + base.diffID.Hex() + `|` + top.diffID.Hex() + `)/tar`, kind: "layer", says: `cannot leave the store as it came`, alone: true, given: true},
	{name: "tar recipe without a blob", path: `layers/` + plain.diffID.Hex() + `/tar`, kind: "layer", says: `cannot leave the store as it came`, given: true},
	{name: "record of a kept blob", path: `layers/(` + base.diffID.Hex() + `|` + top.diffID.Hex() + `)/source-.{64}`, kind: "blob", says: `cannot be pushed or saved with the digests that it came with`, alone: true, given: true},
	{name: "record of an uncompressed blob", path: `layers/` + plain.diffID.Hex() + `/source-.{64}`, kind: "blob", says: `digests`, alone: true, given: true,
		fine: map[string]string{missing: "the layer's tar is found by its digest"}},
	{name: "gzip blob", path: `layers/` + base.diffID.Hex() + `/blob-.{64}`, kind: "blob", says: `cannot be pushed or saved with the digests`, alone: true, given: true},
	{name: "zstd blob", path: `layers/` + top.diffID.Hex() + `/blob-.{64}`, kind: "blob", says: `cannot be pushed or saved with the digests`, alone: true, given: true},
	{name: "chain", path: `chains/.{64}/tree`, kind: "chain", says: `image app:latest and container box cannot be mounted`, alone: true, given: true},
	{name: "layout", path: `images/oci-layout`, kind: "store", says: `OCI image layout`, alone: true, given: true},
	{name: "index", path: `images/index.json`, flip: "schemaVersion", kind: "store", says: `no image can be found`, alone: true, given: true},
	{name: "manifest", path: `images/blobs/sha256/.{64}`, content: `"schemaVersion"`, kind: "image", says: `image app:latest cannot be used, and gc does not run`, given: true},
	{name: "config", path: `images/blobs/sha256/.{64}`, content: `"rootfs"`, kind: "image", says: `image app:latest cannot be used, and gc does not run`, given: true},
	{name: "container's config", path: `containers/.{64}/config.json`, flip: `"layers"`, fine: harmless("package container looks at it")},
	{name: "version", path: `version`, fine: map[string]string{
		flipped: opens, empty: opens, isDir: opens, isLink: opens,
		truncated: "its only digit is left", missing: "it is written again",
	}},
	{name: "state of an interrupted fsck", path: `fsck.json`, fine: harmless("then fsck begins anew")},
	{name: "what a container has written", path: `containers/.{64}/(upper|work)/.*`, fine: harmless("nobody but the container knows what it should be")},
}

// damagedStore makes a store with each kind of file in it.
func damagedStore(t *testing.T) (root string, img *oci.Image) {
	t.Helper()
	s := openStore(t)
	img = imageOf(t, "app", base, plain, top)
	image := addImage(t, s, img)
	chain, err := s.Chain(t.Context(), image.Layers)
	if err != nil {
		t.Fatal(err)
	}
	chain.Close()
	dir := filepath.Join(s.Root(), "containers", strings.Repeat("c0", 32))
	for _, sub := range []string{"upper", "work"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := mustJSON(t, map[string]any{"name": "box", "image": image.ID, "layers": image.Layers})
	for name, data := range map[string]string{"config.json": string(config), "upper/written": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.Root(), "fsck.json"), []byte(`{"version":1,"step":"objects","after":"00"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Root(), img
}

// TestEveryKindOfDamage damages every kind of file in a store in every way: it
// is told with its consequence, repaired where that can be, and reading what is
// damaged never gives wrong bytes and EOF. Kinds that the table does not know
// fail the test.
func TestEveryKindOfDamage(t *testing.T) {
	root, img := damagedStore(t)
	paths := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		known := false
		for _, kind := range damagedKinds {
			if !regexp.MustCompile("^" + kind.path + "$").MatchString(rel) {
				continue
			}
			known = true
			if bytes.Contains(data, []byte(kind.content)) && (len(kind.content) == 0 || len(kind.content) == len(data) || kind.kind == "image") {
				paths[kind.name] = append(paths[kind.name], rel)
			}
		}
		if !known {
			t.Errorf("%s is of a kind that has no case", rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range damagedKinds {
		if len(paths[kind.name]) == 0 {
			t.Errorf("no file is a %s", kind.name)
			continue
		}
		for _, damage := range allDamages {
			t.Run(kind.name+"/"+damage, func(t *testing.T) {
				t.Parallel()
				testDamage(t, root, img, kind, damage, paths[kind.name][0])
			})
		}
	}
}

func testDamage(t *testing.T, root string, img *oci.Image, kind damagedKind, damage, path string) {
	for _, given := range []bool{false, true} {
		copied := filepath.Join(t.TempDir(), "store")
		if out, err := exec.Command("cp", "-a", root, copied).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
		doDamage(t, filepath.Join(copied, path), damage, kind.flip)
		s, err := layerstore.Open(copied, layerstore.Options{})
		if kind.fine[damage] == opens {
			if err == nil {
				t.Errorf("the store can be opened")
			}
			return
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		damages := fsckAll(t, s, layerstore.FsckOptions{})
		if why := kind.fine[damage]; why != "" {
			if len(damages) > 0 {
				t.Errorf("told %v, but %s", damages, why)
			}
			return
		}
		told := false
		for _, d := range damages {
			told = told || d.Kind == kind.kind && regexp.MustCompile(kind.says).MatchString(d.Consequence)
			if d.Consequence == "" || d.Err == nil || d.Name == "" || d.Path == "" {
				t.Errorf("damage without all its words: %+v", d)
			}
		}
		if !told {
			t.Errorf("not told in %v", words(damages))
		}
		for _, l := range []blob{base, plain, top} {
			neverWrong(t, l.tar, func() (io.ReadCloser, error) { return s.Tar(l.diffID) })
			neverWrong(t, l.bytes, func() (io.ReadCloser, error) { return s.Blob(l.src.Digest) })
		}

		o := layerstore.FsckOptions{Repair: true}
		want := kind.alone
		if given {
			o.Images, want = []*oci.Image{img}, kind.given
		}
		left := ""
		for _, d := range fsckAll(t, s, o) {
			if d.Repaired == "" {
				left += fmt.Sprintf("%v (%v); ", d, d.Left)
			}
		}
		if (left == "") != want {
			t.Errorf("with images at hand: %v: left: %s", given, left)
		}
		again := fsckAll(t, s, layerstore.FsckOptions{})
		if (len(again) == 0) != want {
			t.Errorf("with images at hand: %v: after the repair: %v", given, words(again))
		}
		if !want {
			continue
		}
		if images, err := s.Images(); err != nil || len(images) != 1 || len(images[0].Refs) != 1 {
			t.Errorf("after the repair: %d images, %v", len(images), err)
		}
		if _, err := s.GC(t.Context(), layerstore.GCOptions{}); err != nil {
			t.Errorf("after the repair: %v", err)
		}
	}
}

// fsckAll checks a store.
func fsckAll(t *testing.T, s *layerstore.Store, o layerstore.FsckOptions) []layerstore.Damage {
	t.Helper()
	report, err := s.Fsck(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return report.Damages
}

func words(damages []layerstore.Damage) string {
	var b strings.Builder
	for _, d := range damages {
		fmt.Fprintf(&b, "\n%v, so %s", d, d.Consequence)
	}
	return b.String()
}

func doDamage(t *testing.T, path, damage, flip string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(os.Chmod(path, 0o600)) // they are read-only, which stops all but root
	switch damage {
	case flipped:
		at := len(b) / 2
		if flip != "" {
			at = bytes.Index(b, []byte(flip)) + len(flip)/2
		}
		b[at] ^= 2
		check(os.WriteFile(path, b, 0))
	case truncated:
		check(os.Truncate(path, int64(len(b)/2)))
	case empty:
		check(os.Truncate(path, 0))
	case missing, isDir, isLink:
		check(os.Remove(path))
	}
	switch damage {
	case isDir:
		check(os.Mkdir(path, 0o700))
		return
	case isLink:
		check(os.Symlink("/etc/hostname", path))
		return
	case missing:
		return
	}
	check(os.Chmod(path, info.Mode()))
	check(os.Chtimes(path, info.ModTime(), info.ModTime()))
}
