package tree

import (
	"testing"

	"pgregory.net/rapid"
)

// flat copies what a tree shows into one of a single layer, so that two that show
// the same are equal.
func flat(t failer, tr Tree) *Builder {
	b := NewBuilder(nil)
	first := map[ID]string{}
	err := Walk(tr, func(path string, e Entry, a *Attr) error {
		meta, err := MetaOf(tr, e.ID, a)
		if err != nil {
			return err
		}
		if a.IsDir() {
			return b.AddDir(path, meta)
		}
		if other, ok := first[e.ID]; ok {
			return b.AddLink(path, other)
		}
		first[e.ID] = path
		switch {
		case a.IsRegular():
			c, err := tr.Content(e.ID)
			if err != nil {
				return err
			}
			return b.AddFile(path, meta, c.Digest, c.Size)
		case a.IsSymlink():
			target, err := tr.Readlink(e.ID)
			if err != nil {
				return err
			}
			return b.AddSymlink(path, meta, target)
		}
		return b.AddSpecial(path, meta, a.Mode&ModeType, a.Rdev)
	})
	if err == nil {
		err = b.Finish()
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return b
}

// TestBetween: the layer between two trees, laid over the one, shows the other; and
// comparing them afterwards finds nothing.
func TestBetween(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var layers []Tree
		for i := range rapid.IntRange(0, 4).Draw(rt, "layers") {
			b, _ := build(rt, drawLayer(rt, i, false))
			layers = append(layers, b)
		}
		below := rapid.IntRange(0, len(layers)).Draw(rt, "below")
		lower := Stack(layers[:below]...)
		merged := Stack(layers...)
		if rapid.Bool().Draw(rt, "unrelated") {
			merged = Stack(layers[below:]...)
		}
		between, err := Between(lower, merged, nil)
		if err != nil {
			rt.Fatal(err)
		}
		got := Stack(lower, between)
		if is, want := listTree(t, flat(rt, got)), listTree(t, flat(rt, merged)); is != want {
			rt.Fatalf("it shows\n%s\nwant\n%s\nthe layer is\n%s", is, want, listTree(t, between))
		}
		if left, err := Compare(got, merged, CompareOptions{}); err != nil || len(left) > 0 {
			rt.Fatalf("they differ: %+v (%v)", left, err)
		}
		if again, err := Between(got, merged, nil); err != nil || len(again.entries) > 0 {
			rt.Fatalf("between equal trees is a layer of\n%s (%v)", listTree(t, again), err)
		}
	})
}

// TestCompare: what is told of two trees.
func TestCompare(t *testing.T) {
	was, is := newFakeTree(), newFakeTree()
	for _, tr := range []*fakeTree{was, is} {
		tr.dir("d")
		tr.dir("d/same")
		tr.file("d/same/f", "x")
		tr.symlink("link", "there")
		tr.dir("dir")
		tr.file("dir/f", "y")
		tr.file("content", "one")
		tr.file("mode", "x")
		tr.file("kind", "x")
	}
	was.file("gone", "1234")
	is.dir("new")
	is.file("new/f", "12")
	is.file("d/added", "")
	is.symlink("link", "elsewhere")
	is.file("content", "two")
	is.put("kind", ModeFIFO|0o644, nil)
	is.xattr("mode", "user.x", "1")
	is.nodes[is.find("mode")].attr.Mode ^= 0o111
	is.nodes[is.find("mode")].attr.UID++
	list, err := Compare(was, is, CompareOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]What{"content": ContentDiffers, "d": 0, "d/added": 0, "gone": 0, "kind": KindDiffers, "link": ContentDiffers,
		"mode": ModeDiffers | OwnerDiffers | XattrDiffers, "new": 0, "new/f": 0}
	for _, d := range list {
		what, ok := want[d.Path]
		if !ok || d.What&^TimeDiffers != what {
			t.Errorf("%s: %b", d.Path, d.What)
		}
		delete(want, d.Path)
		if (d.Old == None) != (d.Path == "new" || d.Path == "new/f" || d.Path == "d/added") || (d.New == None) != (d.Path == "gone") {
			t.Errorf("%s: old %d, new %d", d.Path, d.Old, d.New)
		}
	}
	for path := range want {
		t.Errorf("%s is not listed", path)
	}
}
