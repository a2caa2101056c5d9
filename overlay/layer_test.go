package overlay

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"strata/internal/histories"
	"strata/overlay/tree"
)

// takeLayer takes the fixture's upper as a layer.
func takeLayer(x *fixture) *Layer {
	x.t.Helper()
	l, err := x.Layer(context.Background())
	x.must(err)
	return l
}

// dumpTree describes a tree as dump does an FS.
func dumpTree(t testing.TB, tr tree.Tree) histories.Tree {
	t.Helper()
	out := histories.Tree{}
	err := tree.Walk(tr, func(path string, e tree.Entry, a *tree.Attr) error {
		if e.Whiteout {
			return fmt.Errorf("%s: a whiteout", path)
		}
		xattrs := map[string]string{}
		names, err := tr.Xattrs(e.ID)
		if err != nil {
			return err
		}
		for _, name := range names {
			v, err := tr.Xattr(e.ID, name)
			if err != nil {
				return err
			}
			xattrs[name] = string(v)
		}
		body := ""
		switch {
		case a.IsRegular():
			f, err := tr.Open(e.ID)
			if err != nil {
				return err
			}
			b, err := io.ReadAll(f)
			f.Close()
			if err != nil {
				return err
			}
			body = string(b)
		case a.IsSymlink():
			if body, err = tr.Readlink(e.ID); err != nil {
				return err
			}
		}
		out[path] = described(*a, body, xattrs)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// checkLayer wants the layer, laid over the lower, to be what the FS shows. Where the
// lower is several directories, links are counted only as far as is known.
func checkLayer(t testing.TB, x *fixture, links bool) {
	t.Helper()
	l := takeLayer(x)
	defer l.Close()
	want, got := x.dump(), dumpTree(t, tree.Stack(x.FS.lower, l))
	if !links {
		want, got = want.WithoutNlink(), got.WithoutNlink()
	}
	compare(t, "lower and layer", want, got, true)
}

// TestLayerOfHistories: whatever was done to it, an upper's layer over the lower is
// the merged tree.
func TestLayerOfHistories(t *testing.T) {
	needRoot(t)
	for i := range uint64(count("STRATA_HISTORIES", 10)) {
		for _, format := range []Format{FormatKernel, FormatUser} {
			top := tempDir(t)
			layers, _ := makeLayers(t, top)
			x := newFixtureAt(t, top, format, layers...)
			seed := rand.Uint64()
			r := rand.New(rand.NewPCG(seed, i))
			for range 120 {
				x.do(histories.DrawNameStep(r.IntN))
			}
			checkLayer(t, x, true)
			x.reopen()
			checkLayer(t, x, true)
			if t.Failed() {
				t.Fatalf("seed %d, %d, format %v", seed, i, format)
			}
			x.close()
		}
	}
}

// layerLines lists what a layer has, and no attributes.
func layerLines(t testing.TB, l tree.Tree) string {
	t.Helper()
	var lines []string
	err := tree.Walk(l, func(path string, e tree.Entry, a *tree.Attr) error {
		if path == "" {
			return nil
		}
		if e.Whiteout {
			lines = append(lines, path+" whiteout")
			return nil
		}
		line := path
		if a.IsDir() {
			line += "/"
			opaque, err := l.Opaque(e.ID)
			if err != nil {
				return err
			}
			if opaque {
				line += " opaque"
			}
		}
		if a.Implicit {
			line += " implicit"
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, ", ")
}

// TestLayerIsPlain: what an upper has of its own becomes what every layer has.
func TestLayerIsPlain(t *testing.T) {
	needRoot(t)
	lower := "mkdir -p l/d/sub l/e; echo one > l/d/f; echo two > l/d/sub/g; ln l/d/f l/e/link; echo three > l/big; echo four > l/gone"
	tests := []struct {
		name string
		do   func(x *fixture) error
		want string
	}{
		{"nothing", func(x *fixture) error { return nil }, ""},
		{"a mode", func(x *fixture) error { return x.chmod("big", 0o600) }, "big"},
		{"a deletion", func(x *fixture) error { return x.in("gone", x.Unlink) }, "gone whiteout"},
		{"a birth", func(x *fixture) error { return x.create("new", "x") }, "new"},
		{"a birth and a deletion", func(x *fixture) error {
			if err := x.create("new", "x"); err != nil {
				return err
			}
			return x.in("new", x.Unlink)
		}, ""},
		{"a moved directory", func(x *fixture) error { return x.rename("d/sub", "moved", 0) }, "d/, d/sub whiteout, moved/, moved/g"},
		{"a moved directory over another", func(x *fixture) error {
			x.must(x.in("e/link", x.Unlink))
			return x.rename("d/sub", "e", 0)
		}, "d/, d/f, d/sub whiteout, e/ opaque, e/g"},
		{"a moved directory with a file that has another name", func(x *fixture) error { return x.rename("d", "moved", 0) },
			"d whiteout, e/ implicit, e/link, moved/, moved/f, moved/sub/, moved/sub/g"},
		{"a new directory in place of one", func(x *fixture) error {
			x.must(x.in("e/link", x.Unlink))
			x.must(x.in("e", x.Rmdir))
			return x.mkdir("e")
		}, "d/, d/f, e/ opaque"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			top := shell(t, lower)
			x := newFixtureAt(t, top, FormatKernel, top+"/l")
			// The root is as the lower's, but for the time of its last change.
			root := x.FS.lower
			a, err := root.Attr(tree.Root)
			x.must(err)
			x.must(tt.do(x))
			x.must(x.setattr("", SetAttr{Mode: &a.Mode, Mtime: &a.Mtime}))
			l := takeLayer(x)
			defer l.Close()
			if got := layerLines(t, l); got != tt.want {
				t.Errorf("the layer has\n%s\nwant\n%s", got, tt.want)
			}
			if a, err := l.Attr(tree.Root); err != nil || !a.Implicit {
				t.Errorf("the root is not implicit (%v)", err)
			}
			checkLayer(t, x, true)
		})
	}
}

// TestLayerIsOfOneInstant: names and attributes stay as they were when the layer was
// taken, and contents are found wherever their files are by then.
func TestLayerIsOfOneInstant(t *testing.T) {
	needRoot(t)
	for _, format := range []Format{FormatKernel, FormatUser} {
		top := shell(t, "mkdir -p l/d; echo lower > l/d/meta")
		x := newFixtureAt(t, top, format, top+"/l")
		for _, name := range []string{"moved", "removed", "replaced", "d/there"} {
			x.must(x.create(name, name))
		}
		x.must(x.chmod("d/meta", 0o600))
		l := takeLayer(x)
		x.must(x.rename("moved", "d/elsewhere", 0))
		x.must(x.in("removed", x.Unlink))
		x.must(x.rename("replaced", "removed", 0))
		x.must(x.create("replaced", "other"))
		x.must(x.rename("d", "e", 0))
		x.must(x.write("e/meta", "UPPER", 0))
		x.must(x.create("later", "later"))
		x.must(x.chmod("e/there", 0))
		want := map[string]string{"moved": "moved", "removed": "removed", "replaced": "replaced", "d/there": "d/there", "d/meta": "lower\n"}
		if got := regularFiles(t, l); !maps.Equal(got, want) {
			t.Errorf("%v: the layer has %q, want %q", format, got, want)
		}
		x.must(l.Close())
		x.must(l.Close())
		wantForgotten(x)
	}
}

// regularFiles are a tree's files and what they hold.
func regularFiles(t testing.TB, tr tree.Tree) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := tree.Walk(tr, func(path string, e tree.Entry, a *tree.Attr) error {
		if e.Whiteout || !a.IsRegular() {
			return nil
		}
		f, err := tr.Open(e.ID)
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestLayersBesideHistories takes layers while others make changes: each is whole,
// and everything in it can be read.
func TestLayersBesideHistories(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		top := tempDir(t)
		layers, _ := makeLayers(t, top)
		x := newFixtureAt(t, top, format, layers...)
		within(t, time.Minute, func() {
			var wg sync.WaitGroup
			seed := rand.Uint64()
			for g := range uint64(3) {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(seed, g))
					for range 300 {
						if err := x.do(histories.DrawNameStep(r.IntN)); !usual[errnoOf(err)] {
							t.Error(err)
						}
					}
				})
			}
			for range 40 {
				l, err := x.Layer(context.Background())
				if err != nil {
					t.Error(err)
					break
				}
				regularFiles(t, l)
				dumpTree(t, tree.Stack(x.FS.lower, l))
				l.Close()
			}
			wg.Wait()
		})
		checkLayer(t, x, true)
		wantForgotten(x)
	})
}
