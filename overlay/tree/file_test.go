package tree

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestFileShowsTheTreeThatWasWritten(t *testing.T) {
	for name, source := range map[string]*fakeTree{
		"empty": newFakeTree(), "example": exampleTree(), "rich": richTree(), "several blocks": bigTree(3000),
	} {
		t.Run(name, func(t *testing.T) {
			data := encodeTree(t, source)
			f := mustOpenBytes(t, data)
			if got, want := listTree(t, f), listTree(t, source); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if err := f.Check(); err != nil {
				t.Errorf("Check: %v", err)
			}
			if again := encodeTree(t, f); !bytes.Equal(again, data) {
				t.Errorf("written again from the file it has %d bytes, not the same %d", len(again), len(data))
			}
			checkLookups(t, f)
		})
	}
}

// checkLookups holds Lookup and Parent against ReadDir for every directory.
func checkLookups(t *testing.T, f *File) {
	t.Helper()
	dirs := []ID{Root}
	for len(dirs) > 0 {
		dir := dirs[0]
		dirs = dirs[1:]
		entries := make([]Entry, 1000)
		n, err := f.ReadDir(dir, 0, entries)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range entries[:n] {
			if got, err := f.Lookup(dir, want.Name); got != want || err != nil {
				t.Errorf("Lookup %q = %+v, %v; ReadDir has %+v", want.Name, got, err, want)
			}
			for _, missing := range []string{want.Name + "\x00", want.Name[1:], want.Name[:len(want.Name)-1], want.Name + "x"} {
				if _, listed := f.Lookup(dir, missing); listed != syscall.ENOENT && !hasName(entries[:n], missing) {
					t.Errorf("Lookup of missing %q: %v", missing, listed)
				}
			}
			one := make([]Entry, 1)
			if got, err := f.ReadDir(dir, i, one); got != 1 || err != nil || one[0] != want {
				t.Errorf("ReadDir from %d = %+v, %d, %v; want %+v", i, one[0], got, err, want)
			}
			if want.Type != ModeDir {
				continue
			}
			dirs = append(dirs, want.ID)
			if parent, err := f.Parent(want.ID); parent != dir || err != nil {
				t.Errorf("Parent of %q = %d, %v; want %d", want.Name, parent, err, dir)
			}
		}
	}
}

func hasName(entries []Entry, name string) bool {
	for _, e := range entries {
		if e.Name == name {
			return true
		}
	}
	return false
}

func TestFileAnswersWrongQuestionsWithErrors(t *testing.T) {
	source := richTree()
	f := mustOpenBytes(t, encodeTree(t, source))
	find := func(path string) ID {
		id := Root
		for name := range strings.SplitSeq(path, "/") {
			e, err := f.Lookup(id, name)
			if err != nil {
				t.Fatal(err)
			}
			id = e.ID
		}
		return id
	}
	dash, sh, usr := find("bin/dash"), find("bin/sh"), find("usr")
	one := make([]Entry, 1)
	for _, test := range []struct {
		name string
		call func() error
		want error
	}{
		{"attributes of no inode", func() error { _, err := f.Attr(None); return err }, syscall.EINVAL},
		{"attributes past the last inode", func() error { _, err := f.Attr(ID(len(source.nodes))); return err }, syscall.EINVAL},
		{"attributes far past it", func() error { _, err := f.Attr(1<<64 - 1); return err }, syscall.EINVAL},
		{"lookup in a file", func() error { _, err := f.Lookup(dash, "x"); return err }, syscall.ENOTDIR},
		{"lookup of an empty name", func() error { _, err := f.Lookup(Root, ""); return err }, syscall.ENOENT},
		{"lookup of dot", func() error { _, err := f.Lookup(Root, "."); return err }, syscall.ENOENT},
		{"lookup of a path", func() error { _, err := f.Lookup(Root, "usr/bin"); return err }, syscall.ENOENT},
		{"readdir of a symlink", func() error { _, err := f.ReadDir(sh, 0, one); return err }, syscall.ENOTDIR},
		{"readdir from before the start", func() error { _, err := f.ReadDir(Root, -1, one); return err }, syscall.EINVAL},
		{"readdir past the end", func() error { _, err := f.ReadDir(Root, 1000, one); return err }, nil},
		{"parent of a file", func() error { _, err := f.Parent(dash); return err }, syscall.ENOTDIR},
		{"names of no inode", func() error { _, err := f.Names(None); return err }, syscall.EINVAL},
		{"target of a file", func() error { _, err := f.Readlink(dash); return err }, syscall.EINVAL},
		{"target of a directory", func() error { _, err := f.Readlink(Root); return err }, syscall.EINVAL},
		{"xattr that is not there", func() error { _, err := f.Xattr(dash, "user.no"); return err }, syscall.ENODATA},
		{"xattr where there is none", func() error { _, err := f.Xattr(sh, "user.no"); return err }, syscall.ENODATA},
		{"opaque mark of a file", func() error { _, err := f.Opaque(dash); return err }, syscall.ENOTDIR},
		{"contents of a directory", func() error { _, err := f.Content(usr); return err }, syscall.EINVAL},
		{"opening a symlink", func() error { _, err := f.Open(sh); return err }, syscall.EINVAL},
		{"opening without objects", func() error { _, err := f.Open(dash); return err }, syscall.ENOTSUP},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.call(); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Attr(Root); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Attr after Close: %v", err)
	}
	if err := f.Check(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Check after Close: %v", err)
	}
	if err := f.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

// objectFiles keeps each object in a file of its own in a directory.
type objectFiles string

func (dir objectFiles) OpenObject(d ObjectDigest) (*os.File, error) {
	return os.Open(string(dir) + "/" + d.String())
}

func TestFileOpensObjects(t *testing.T) {
	dir := t.TempDir()
	source := exampleTree()
	motd := source.nodes[source.find("etc/motd")].content.Digest
	if err := os.WriteFile(dir+"/"+motd.String(), []byte("hello\n"), 0o400); err != nil {
		t.Fatal(err)
	}
	f, err := newFile("tree", encodeTree(t, source), objectFiles(dir))
	if err != nil {
		t.Fatal(err)
	}
	etc, _ := f.Lookup(Root, "etc")
	e, err := f.Lookup(etc.ID, "motd")
	if err != nil {
		t.Fatal(err)
	}
	osFile, err := f.Open(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer osFile.Close()
	b := make([]byte, 100)
	if n, _ := osFile.Read(b); string(b[:n]) != "hello\n" {
		t.Errorf("read %q", b[:n])
	}
}

func TestHotCallsDoNotAllocate(t *testing.T) {
	f := mustOpenBytes(t, encodeTree(t, bigTree(1000)))
	dir, err := f.Lookup(Root, "package-0003")
	if err != nil {
		t.Fatal(err)
	}
	e, err := f.Lookup(dir.ID, "some-file-name.333")
	if err != nil {
		t.Fatal(err)
	}
	entries := make([]Entry, 128)
	for _, test := range []struct {
		name string
		want float64
		call func()
	}{
		{"lookup", 0, func() { _, _ = f.Lookup(dir.ID, "some-file-name.377") }},
		{"lookup of a missing name", 0, func() { _, _ = f.Lookup(dir.ID, "some-file") }},
		{"attributes", 0, func() { _, _ = f.Attr(e.ID) }},
		{"parent", 0, func() { _, _ = f.Parent(dir.ID) }},
		{"contents", 0, func() { _, _ = f.Content(e.ID) }},
		{"missing xattr", 0, func() { _, _ = f.Xattr(e.ID, "security.capability") }},
		{"no xattrs", 0, func() { _, _ = f.Xattrs(e.ID) }},
		{"100 entries", 1, func() { _, _ = f.ReadDir(dir.ID, 0, entries) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := testing.AllocsPerRun(100, test.call); got != test.want {
				t.Errorf("%v allocations, want %v", got, test.want)
			}
		})
	}
}

func TestFileIsReadByManyAtOnce(t *testing.T) {
	f := mustOpenBytes(t, encodeTree(t, bigTree(2000)))
	want := listTree(t, bigTree(2000))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got := listTree(t, f); got != want {
				t.Error("a walk beside others saw another tree")
			}
		})
	}
	wg.Wait()
}
