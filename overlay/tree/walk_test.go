package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestWalkGoesInOrder(t *testing.T) {
	source := newFakeTree()
	source.dir("a")
	source.file("a/z", "")
	source.whiteout("a/m")
	source.file("a-b", "") // before a/z as a string, behind it in a walk
	source.file("B", "")
	source.dir("empty")
	for i := range 150 { // more than are read at once
		source.file(fmt.Sprintf("empty/%03d", i), "")
	}
	source.link("z", "a/z")
	var got []string
	err := Walk(source, func(path string, e Entry, a *Attr) error {
		if (a == nil) != e.Whiteout {
			t.Errorf("%q: attributes %v, entry %+v", path, a, e)
		}
		if e.Name != path[strings.LastIndexByte(path, '/')+1:] {
			t.Errorf("%q has entry %+v", path, e)
		}
		got = append(got, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"", "B", "a", "a/m", "a/z", "a-b", "empty"}
	for i := range 150 {
		want = append(want, fmt.Sprintf("empty/%03d", i))
	}
	want = append(want, "z")
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestWalkEndsWithTheFirstError(t *testing.T) {
	stop := errors.New("stop")
	for _, at := range []string{"", "etc", "etc/old", "sh"} {
		last := "nothing"
		err := Walk(exampleTree(), func(path string, _ Entry, _ *Attr) error {
			last = path
			if path == at {
				return stop
			}
			return nil
		})
		if err != stop || last != at {
			t.Errorf("error at %q: got %v, the last path was %q", at, err, last)
		}
	}
}

func TestDirectoriesThatContainThemselves(t *testing.T) {
	source := newFakeTree()
	source.dir("a")
	source.dir("a/b")
	source.nodes[source.find("a/b")].entries["up"] = source.find("a")
	if err := Walk(source, func(string, Entry, *Attr) error { return nil }); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("Walk: %v, want ELOOP", err)
	}
	if err := Write(new(strings.Builder), source); !errors.Is(err, syscall.ELOOP) || !strings.Contains(err.Error(), "/a/b/up: the directory is also /a") {
		t.Errorf("Write: %v, want ELOOP and both paths", err)
	}
}

func TestDepth(t *testing.T) {
	deep := func(n int) *fakeTree {
		source := newFakeTree()
		dir := Root
		for range n {
			source.add(ModeDir|0o755, nil)
			id := ID(len(source.nodes) - 1)
			source.nodes[dir].entries["d"] = id
			source.nodes[dir].attr.Nlink++
			source.nodes[id].names = []Name{{dir, "d"}}
			dir = id
		}
		return source
	}
	source := deep(MaxDepth)
	f, err := newFile("tree", encodeTree(t, source), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := Walk(f, func(string, Entry, *Attr) error { n++; return nil }); err != nil || n != MaxDepth+1 {
		t.Errorf("walk over %d directories: %v", n, err)
	}
	source = deep(MaxDepth + 1)
	if err := Walk(source, func(string, Entry, *Attr) error { return nil }); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("Walk one deeper: %v, want ELOOP", err)
	}
	if err := Write(new(strings.Builder), source); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("Write one deeper: %v, want ELOOP", err)
	}
}
