package tree

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"pgregory.net/rapid"
)

func TestStackEqualsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var layers []Tree
		var models []*modelLayer
		for i := range rapid.IntRange(0, 6).Draw(rt, "layers") {
			b, m := build(rt, drawLayer(rt, i, false))
			layers, models = append(layers, b), append(models, m)
		}
		got := describeTree(rt, Stack(layers...))
		if d := diffLines(got, describeModel(mergeModel(models))); d != "" {
			rt.Fatalf("the stack differs from the model:%s", d)
		}
	})
}

// TestStackOfStack: a stack of some layers, taken as a layer, hides nothing of
// what a stack of all shows.
func TestStackOfStack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var layers []Tree
		var models []*modelLayer
		for i := range rapid.IntRange(1, 5).Draw(rt, "layers") {
			b, m := build(rt, drawLayer(rt, i, true))
			layers, models = append(layers, b), append(models, m)
		}
		at := rapid.IntRange(1, len(layers)).Draw(rt, "at")
		nested := Stack(append([]Tree{Stack(layers[:at]...)}, layers[at:]...)...)
		merged := mergeModel(models)
		for p, f := range merged {
			f.layer = max(0, f.layer-at+1)
			merged[p] = f
		}
		if d := diffLines(describeTree(rt, nested), describeModel(merged)); d != "" {
			rt.Fatalf("layers 0 to %d stacked before the others:%s", at-1, d)
		}
	})
}

func TestStackManyLayers(t *testing.T) {
	const count = 500
	var layers []Tree
	var models []*modelLayer
	r := rand.New(rand.NewPCG(1, 2))
	for i := range count {
		var ops []layerOp
		for j := range 20 {
			p := fmt.Sprintf("d%d/e%d/f%d", r.IntN(4), r.IntN(4), r.IntN(20))
			do := []string{"file", "file", "dir", "whiteout", "opaque"}[min(r.IntN(12), 4)]
			if do == "opaque" {
				do, p = "dir", dirOf(p)
				if r.IntN(20) == 0 {
					do = "opaque"
				}
			}
			ops = append(ops, layerOp{do: do, path: p, target: "x", n: i*100 + j})
		}
		b, m := build(t, ops)
		layers, models = append(layers, b), append(models, m)
	}
	if d := diffLines(describeTree(t, Stack(layers...)), describeModel(mergeModel(models))); d != "" {
		t.Fatalf("%d layers:%s", count, d)
	}
}

func TestStackHardLinks(t *testing.T) {
	base := []layerOp{
		{do: "file", path: "d/one", target: "x"}, {do: "link", path: "d/two", target: "d/one"},
		{do: "link", path: "e/three", target: "d/one"}, {do: "link", path: "f", target: "d/one"},
	}
	tests := []struct {
		name  string
		upper []layerOp
		want  []string
	}{
		{"nothing hidden", nil, []string{"d/one", "d/two", "e/three", "f"}},
		{"one whited out", []layerOp{{do: "whiteout", path: "d/one"}}, []string{"d/two", "e/three", "f"}},
		{"one replaced", []layerOp{{do: "file", path: "f", target: "y"}}, []string{"d/one", "d/two", "e/three"}},
		{"a directory whited out", []layerOp{{do: "whiteout", path: "d"}}, []string{"e/three", "f"}},
		{"a directory opaque", []layerOp{{do: "opaque", path: "d"}}, []string{"e/three", "f"}},
		{"a directory replaced by a file", []layerOp{{do: "file", path: "d"}}, []string{"e/three", "f"}},
		{"the same name in an opaque directory", []layerOp{{do: "file", path: "d/one"}, {do: "opaque", path: "d"}}, []string{"e/three", "f"}},
		{"all but one", []layerOp{{do: "whiteout", path: "d"}, {do: "whiteout", path: "e"}}, []string{"f"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lower, _ := build(t, base)
			upper, _ := build(t, tt.upper)
			for _, p := range tt.want { // each name is asked first once
				s := Stack(lower, upper)
				e, err := findPath(s, p)
				if err != nil {
					t.Fatalf("%s: %v", p, err)
				}
				a, err := s.Attr(e.ID)
				if err != nil || int(a.Nlink) != len(tt.want) {
					t.Errorf("%s: nlink %d, %v, want %d", p, a.Nlink, err, len(tt.want))
				}
				names, err := s.Names(e.ID)
				if err != nil || len(names) != len(tt.want) {
					t.Errorf("%s: names %v, %v, want %v", p, names, err, tt.want)
				}
			}
		})
	}
}

func TestStackSpaces(t *testing.T) {
	space := func(key, size uint64) Tree { return spaceTree{NewBuilder(nil), Space{key, size}} }
	s := Stack(space(0, 10), space(7, 100), space(0, 5), space(7, 200), space(8, 1))
	want := []uint64{0, 10, 210, 10, 215}
	if fmt.Sprint(s.bases) != fmt.Sprint(want) || s.Space() != (Space{0, 216}) {
		t.Fatalf("bases %v, space %v, want %v, {0 216}", s.bases, s.Space(), want)
	}
}

type spaceTree struct {
	Tree
	space Space
}

func (s spaceTree) Space() Space { return s.space }

func TestStackBadCalls(t *testing.T) {
	b, _ := build(t, []layerOp{{do: "file", path: "f", target: "x"}, {do: "dir", path: "d"}})
	checkBadCalls(t, Stack(b))
	checkBadCalls(t, b)
}

// checkBadCalls calls tr, which has a file f and a directory d, in ways that
// must be answered with an error.
func checkBadCalls(t *testing.T, tr Tree) {
	t.Helper()
	f, err1 := tr.Lookup(Root, "f")
	d, err2 := tr.Lookup(Root, "d")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for _, id := range []ID{None, 99, 1 << 40, ^ID(0)} {
		errs := allCalls(tr, id)
		for what, err := range errs {
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("%T.%s(%d): %v, want EINVAL", tr, what, id, err)
			}
		}
	}
	for _, what := range []string{"Lookup", "ReadDir", "Parent", "Opaque"} {
		if err := allCalls(tr, f.ID)[what]; !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("%T.%s(file): %v, want ENOTDIR", tr, what, err)
		}
	}
	for _, what := range []string{"Readlink", "Content", "Open"} {
		if err := allCalls(tr, d.ID)[what]; !errors.Is(err, syscall.EINVAL) {
			t.Errorf("%T.%s(directory): %v, want EINVAL", tr, what, err)
		}
	}
	for _, name := range []string{"", ".", "..", "x/y", "f/", "\x00", "absent"} {
		if _, err := tr.Lookup(Root, name); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("%T.Lookup(%q): %v, want ENOENT", tr, name, err)
		}
	}
	if _, err := tr.ReadDir(Root, -1, make([]Entry, 1)); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("%T.ReadDir from -1: %v, want EINVAL", tr, err)
	}
	if n, err := tr.ReadDir(Root, 1000, make([]Entry, 1)); n != 0 || err != nil {
		t.Errorf("%T.ReadDir beyond the end: %d, %v", tr, n, err)
	}
	if _, err := tr.Xattr(f.ID, "user.absent"); !errors.Is(err, syscall.ENODATA) {
		t.Errorf("%T.Xattr: %v, want ENODATA", tr, err)
	}
}

func allCalls(tr Tree, id ID) map[string]error {
	errs := map[string]error{}
	_, errs["Attr"] = tr.Attr(id)
	_, errs["Lookup"] = tr.Lookup(id, "x")
	_, errs["ReadDir"] = tr.ReadDir(id, 0, make([]Entry, 1))
	_, errs["Parent"] = tr.Parent(id)
	_, errs["Names"] = tr.Names(id)
	_, errs["Readlink"] = tr.Readlink(id)
	_, errs["Xattr"] = tr.Xattr(id, "user.x")
	_, errs["Xattrs"] = tr.Xattrs(id)
	_, errs["Opaque"] = tr.Opaque(id)
	_, errs["Content"] = tr.Content(id)
	f, err := tr.Open(id)
	if err == nil {
		f.Close()
	}
	errs["Open"] = err
	return errs
}

// inParallel walks tr from several goroutines at once, each in another order,
// and wants them to see the same.
func inParallel(t *testing.T, tr Tree) {
	t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]string{}
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 0))
			var walk func(dir ID, p string)
			walk = func(dir ID, p string) {
				entries := make([]Entry, 1000)
				n, err := tr.ReadDir(dir, 0, entries)
				if err != nil {
					t.Errorf("%s: %v", p, err)
					return
				}
				for _, i := range r.Perm(n) {
					e := entries[i]
					if e.Whiteout {
						continue
					}
					a, err := tr.Attr(e.ID)
					names, err2 := tr.Names(e.ID)
					got := fmt.Sprint(e, a, names, err, err2)
					mu.Lock()
					if old := seen[p+"/"+e.Name]; old != "" && old != got {
						t.Errorf("%s/%s: %s and then %s", p, e.Name, old, got)
					}
					seen[p+"/"+e.Name] = got
					mu.Unlock()
					if e.Type == ModeDir {
						walk(e.ID, p+"/"+e.Name)
					}
				}
			}
			walk(Root, "")
		})
	}
	wg.Wait()
	if len(seen) == 0 {
		t.Error("nothing was seen")
	}
}

func TestStackInParallel(t *testing.T) {
	var layers []Tree
	for i := range 8 {
		var ops []layerOp
		for j := range 100 {
			d := fmt.Sprintf("d%d/e%d", j%5, (i+j)%7)
			ops = append(ops, layerOp{do: "file", path: fmt.Sprintf("%s/f%d", d, j), target: "x", n: j},
				layerOp{do: "link", path: fmt.Sprintf("l%d/f%d", i%3, j), target: fmt.Sprintf("%s/f%d", d, j)})
			if j%11 == i {
				ops = append(ops, layerOp{do: "whiteout", path: fmt.Sprintf("%s/f%d", d, j+1)}, layerOp{do: "opaque", path: d})
			}
		}
		b, _ := build(t, ops)
		layers = append(layers, b)
	}
	inParallel(t, Stack(layers...))
}

// TestLookingUpAllocatesNothing: what is called for every request of a mount.
func TestLookingUpAllocatesNothing(t *testing.T) {
	lower, _ := build(t, []layerOp{{do: "file", path: "d/f", target: "x"}, {do: "file", path: "d/g"}, {do: "link", path: "d/h", target: "d/g"}})
	upper, _ := build(t, []layerOp{{do: "dir", path: "d"}, {do: "whiteout", path: "d/g"}})
	entries := make([]Entry, 10)
	for _, tr := range []Tree{lower, Stack(lower, upper)} {
		d, err := tr.Lookup(Root, "d")
		must(t, err)
		calls := func() {
			e, err := tr.Lookup(d.ID, "f")
			_, err1 := tr.Attr(e.ID)
			_, err2 := tr.Attr(d.ID)
			_, err3 := tr.ReadDir(d.ID, 0, entries)
			if _, absent := tr.Lookup(d.ID, "absent"); err != nil || err1 != nil || err2 != nil || err3 != nil || absent != syscall.ENOENT {
				t.Fatal(err, err1, err2, err3, absent)
			}
		}
		if n := testing.AllocsPerRun(100, calls); n != 0 {
			t.Errorf("%T: %v allocations", tr, n)
		}
	}
}
