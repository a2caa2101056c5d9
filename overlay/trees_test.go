package overlay

import (
	"slices"
	"strata/internal/histories"
	"strata/overlay/tree"
	"strings"
	"syscall"
	"testing"
)

// dump describes the merged tree as FS shows it, and checks what can be checked
// on the way: that listing and lookup agree.
func (x *fixture) dump() histories.Tree {
	x.t.Helper()
	out := histories.Tree{}
	var visit func(path string, n Node)
	visit = func(path string, n Node) {
		xattrs := map[string]string{}
		names, err := x.Listxattr(n.ID)
		x.must(err)
		for _, name := range names {
			v, err := x.Getxattr(n.ID, name)
			x.must(err)
			xattrs[name] = string(v)
		}
		body := ""
		switch {
		case n.Attr.IsRegular():
			body, err = x.read(path)
			x.must(err)
		case n.Attr.IsSymlink():
			body, err = x.Readlink(n.ID)
			x.must(err)
		}
		out[path] = described(n.Attr, body, xattrs)
		if !n.Attr.IsDir() {
			return
		}
		d, err := x.OpenDir(n.ID)
		x.must(err)
		defer d.Close()
		entries := make([]DirEntry, 7)
		subdirs := 0
		for pos := 0; ; {
			k, err := d.ReadDir(pos, entries)
			x.must(err)
			for _, e := range entries[:k] {
				child, err := x.Lookup(n.ID, e.Name)
				if err != nil {
					x.t.Fatalf("%s lists %q, which cannot be looked up: %v", path, e.Name, err)
				}
				if child.Attr.Ino != e.Ino || child.Attr.Mode&tree.ModeType != e.Type {
					x.t.Errorf("%s/%s: listed as inode %d type %o, found as %d mode %o", path, e.Name, e.Ino, e.Type, child.Attr.Ino, child.Attr.Mode)
				}
				if child.Attr.IsDir() {
					subdirs++
				}
				visit(strings.TrimPrefix(path+"/"+e.Name, "/"), child)
				x.forget(child)
			}
			if pos += k; k < len(entries) {
				break
			}
		}
		if int(n.Attr.Nlink) != 2+subdirs {
			x.t.Errorf("%q has %d subdirectories and nlink %d", path, subdirs, n.Attr.Nlink)
		}
	}
	root, err := x.Getattr(Root)
	x.must(err)
	visit("", Node{ID: Root, Attr: root})
	return out
}

// described is what a tree of histories says of a node.
func described(a tree.Attr, body string, xattrs map[string]string) histories.Node {
	return histories.Node{
		Ino: a.Ino, Mode: a.Mode, UID: a.UID, GID: a.GID, Nlink: a.Nlink, Size: a.Size, Rdev: a.Rdev,
		Atime: histories.Time(a.Atime), Mtime: histories.Time(a.Mtime), Ctime: histories.Time(a.Ctime),
	}.Describe(body, xattrs)
}

// dumpDir describes a directory of the host in the same way.
func dumpDir(t testing.TB, root string) histories.Tree {
	t.Helper()
	out, err := histories.ReadTree(root)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// report fails the test for each thing that is wrong.
func report(t testing.TB, wrong []string) {
	t.Helper()
	for _, w := range wrong {
		t.Error(w)
	}
}

// compare reports where two dumps differ; times tells whether mtimes count.
func compare(t testing.TB, what string, want, got histories.Tree, times bool) {
	t.Helper()
	which := histories.NoTimes
	if times {
		which = histories.SameTime
	}
	report(t, histories.Compare(what, want, got, which))
}

// wantSameInodes wants every path to have the number that it had.
func wantSameInodes(t testing.TB, before, after histories.Tree) {
	t.Helper()
	report(t, histories.CompareInodes("after remount", before, after))
}

// guardLowers wants, at the end of the test, the layers as they are now.
func guardLowers(t testing.TB, layers ...string) {
	t.Helper()
	var before []histories.Tree
	for _, dir := range layers {
		before = append(before, dumpDir(t, dir))
	}
	t.Cleanup(func() {
		for i, dir := range layers {
			after := dumpDir(t, dir)
			compare(t, "lower "+dir, before[i], after, true)
			for path, b := range before[i] {
				if a := after[path]; a.Ctime != b.Ctime {
					t.Errorf("lower %s: %q was changed", dir, path)
				}
			}
		}
	})
}

func wantErrno(t testing.TB, what string, err error, want syscall.Errno) {
	t.Helper()
	if got := errnoOf(err); got != want {
		t.Errorf("%s: %v (%v), want %s", what, histories.NameOf(got), err, histories.NameOf(want))
	}
}

func wantNames(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) || !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}
