package overlay

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strata/internal/histories"
	"testing"

	"golang.org/x/sys/unix"
)

// wantForgotten wants no trace of anything but the root in the tables.
func wantForgotten(x *fixture) {
	x.t.Helper()
	for _, n := range slices.Collect(maps.Values(x.nodes)) { // what findMoved keeps is not forgotten
		if n.kept {
			n.kept, x.moved.known = false, false
			x.unref(n, 1)
		}
	}
	for id, n := range x.nodes {
		if id != Root {
			x.t.Errorf("node %d type %o is left: refs %d, names %d, pin %d, dead %v", id, n.typ, n.refs, len(n.names), n.pin, n.dead)
		}
	}
	if n := x.nodes[Root].refs; n != 1 {
		x.t.Errorf("the root has %d references", n)
	}
	if len(x.byUpper) != 1 || len(x.byLower) != 1 {
		x.t.Errorf("%d nodes by upper, %d by lower", len(x.byUpper), len(x.byLower))
	}
	for id := ID(0); x.lowerRefs.pieces.Load() != nil && int(id/1024) < len(*x.lowerRefs.pieces.Load()); id++ {
		if n := x.lowerRefs.count(id); n != 0 {
			x.t.Errorf("lower inode %d has %d references", id, n)
		}
	}
	if n := x.up.dirs.idle.Len(); n > 1 {
		x.t.Errorf("%d directories stay open", n)
	}
}

// treeFixture is a fixture over a tree file, which holds one descriptor.
func treeFixture(t testing.TB, format Format, layers ...string) *fixture {
	t.Helper()
	top := tempDir(t)
	if err := histories.WriteTreeFile(top, layers...); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/upper", "/work"} {
		if err := os.Mkdir(top+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower, err := histories.OpenTreeFile(top)
	if err != nil {
		t.Fatal(err)
	}
	x := &fixture{t: t, upper: top + "/upper", work: top + "/work", format: format, lowers: []io.Closer{lower}}
	if x.FS, err = Open(Options{Lower: lower, Upper: x.upper, Work: x.work, Format: format}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.close)
	return x
}

func TestNothingLeaks(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		layers, _ := makeLayers(t, tempDir(t))
		none := openFDs(t)
		x := treeFixture(t, format, layers...)
		opened := openFDs(t)
		seed := rand.Uint64()
		r := rand.New(rand.NewPCG(seed, 0))

		// What is known and open across it all, and what is learnt on the way.
		var known []Node
		var files []*File
		var dirs []*Dir
		for range 3000 {
			_ = x.do(histories.DrawNameStep(r.IntN))
			if r.IntN(4) > 0 {
				continue
			}
			n, err := x.walk([]string{"a", "b", "n", "a/f", "b/g", "a/d", "a/d/e", "e", "x", "b/x"}[r.IntN(10)])
			if err != nil {
				continue
			}
			switch {
			case n.Attr.IsRegular():
				h, err := x.Open(context.Background(), n.ID, unix.O_RDWR*r.IntN(2))
				x.must(err)
				files = append(files, h)
			case n.Attr.IsDir():
				d, err := x.OpenDir(n.ID)
				x.must(err)
				_, err = listDir(d)
				x.must(err)
				dirs = append(dirs, d)
			}
			if r.IntN(2) == 0 && len(known) > 0 {
				i := r.IntN(len(known))
				known[i], n = n, known[i]
				x.forget(n)
			} else {
				known = append(known, n)
			}
		}
		for _, h := range files {
			x.must(h.Close())
		}
		for _, d := range dirs {
			x.must(d.Close())
		}
		for _, n := range known {
			x.forget(n)
		}
		wantForgotten(x)
		if got := openFDs(t); got > opened+1 { // the root directory's may be cached
			t.Errorf("seed %d: %d descriptors, %d after Open", seed, got, opened)
		}
		x.close()
		if got := openFDs(t); got != none {
			t.Errorf("seed %d: %d descriptors after Close, %d before Open", seed, got, none)
		}
	})
}

// TestErrorsLeakNothing makes each call fail in every way that is easy to reach.
func TestErrorsLeakNothing(t *testing.T) {
	needRoot(t)
	x := treeFixture(t, FormatKernel, shell(t, renameLower))
	upperPart(x)
	x.names("")
	opened := openFDs(t)
	for range 50 {
		for _, p := range []string{"full", "file", "up", "born", "whiteFile", "none", "full/f/x", "up/x/y", "file2"} {
			_ = x.mkdir("up")
			_ = x.create("file", "")
			_ = x.link(p, "born")
			_ = x.link(p, "full")
			_ = x.rename(p, "full", 0)
			_ = x.rename(p, "file", unix.RENAME_NOREPLACE)
			_ = x.rename(p, "up/none/none", 0)
			_ = x.rename(p, "whiteDir", unix.RENAME_EXCHANGE)
			_ = x.in("full", x.Unlink)
			_ = x.in("full", x.Rmdir)
			_ = x.in("file", x.Rmdir)
			_ = x.setattr("full", SetAttr{Size: new(int64)})
			_ = x.on(p, func(id ID) error {
				if d, err := x.OpenDir(id); err == nil {
					x.must(d.Close())
				}
				_, err := x.Readlink(id)
				return err
			})
		}
	}
	wantForgotten(x)
	if got := openFDs(t); got > opened {
		t.Errorf("%d descriptors, %d before", got, opened)
	}
}

// TestDescriptorsAreBounded holds many nodes in many directories.
func TestDescriptorsAreBounded(t *testing.T) {
	needRoot(t)
	const dirs, files = 2000, 10
	top := tempDir(t)
	if err := os.MkdirAll(filepath.Join(top, "base"), 0o755); err != nil {
		t.Fatal(err)
	}
	none := openFDs(t)
	x := treeFixture(t, FormatKernel, filepath.Join(top, "base"))
	x.close()
	x = treeFixture(t, FormatKernel, filepath.Join(top, "base"))
	for i := range dirs {
		d := filepath.Join(x.upper, "d"+itoa(i/100), "d"+itoa(i))
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range files {
			if err := unix.Mknod(filepath.Join(d, itoa(j)), unix.S_IFREG|0o644, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	var known []Node
	for i := range dirs {
		for j := range files {
			known = append(known, x.hold(fmt.Sprintf("d%d/d%d/%d", i/100, i, j)))
		}
	}
	if got := openFDs(t); got > none+maxDirs+20 {
		t.Errorf("%d descriptors for %d nodes, %d before", got, len(known), none)
	}
	for _, n := range known { // those that are not cached are found again
		if a, err := x.Getattr(n.ID); err != nil || a != n.Attr {
			t.Fatalf("%+v, %v; was %+v", a, err, n.Attr)
		}
		x.forget(n)
	}
	wantForgotten(x)
	x.close()
	if got := openFDs(t); got != none {
		t.Errorf("%d descriptors after Close, %d before", got, none)
	}
}
