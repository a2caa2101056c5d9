package tree

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// layerLines shows a layer: what is in it with its number, and what it says.
func layerLines(t failer, b Tree) string {
	t.Helper()
	var lines []string
	must(t, Walk(b, func(p string, e Entry, a *Attr) error {
		line := "/" + p
		switch {
		case e.Whiteout:
			lines = append(lines, line+" whiteout")
			return nil
		case e.Type == ModeDir:
			opaque, err := b.Opaque(e.ID)
			must(t, err)
			line += " dir"
			if a.Implicit {
				line += " implicit"
			}
			if opaque {
				line += " opaque"
			}
		default:
			line += " " + strings.Fields(kindName(e.Type))[0]
		}
		lines = append(lines, fmt.Sprintf("%s ino=%d nlink=%d", line, a.Ino, a.Nlink))
		return nil
	}))
	return strings.Join(lines, "\n")
}

func TestBuilder(t *testing.T) {
	file := func(p string) layerOp { return layerOp{do: "file", path: p, target: "x"} }
	dir := func(p string) layerOp { return layerOp{do: "dir", path: p} }
	link := func(p, target string) layerOp { return layerOp{do: "link", path: p, target: target} }
	whiteout := func(p string) layerOp { return layerOp{do: "whiteout", path: p} }
	opaque := func(p string) layerOp { return layerOp{do: "opaque", path: p} }
	tests := []struct {
		name string
		ops  []layerOp
		want string
	}{
		{"nothing", nil, "/ dir implicit ino=1 nlink=2"},
		{"the root has an entry", []layerOp{dir("")}, "/ dir ino=1 nlink=2"},
		{"missing parents", []layerOp{file("a/b/c")},
			"/ dir implicit ino=1 nlink=3\n/a dir implicit ino=2 nlink=3\n/a/b dir implicit ino=3 nlink=2\n/a/b/c regular ino=4 nlink=1"},
		{"a parent's entry comes late", []layerOp{file("a/b"), dir("a")},
			"/ dir implicit ino=1 nlink=3\n/a dir ino=2 nlink=2\n/a/b regular ino=3 nlink=1"},
		{"a directory again keeps what is in it", []layerOp{dir("a"), file("a/b"), dir("a")},
			"/ dir implicit ino=1 nlink=3\n/a dir ino=2 nlink=2\n/a/b regular ino=3 nlink=1"},
		{"a file takes a directory away", []layerOp{file("a/b"), whiteout("a/c"), file("a")},
			"/ dir implicit ino=1 nlink=2\n/a regular ino=2 nlink=1"},
		{"and the new directory is empty", []layerOp{file("a/b"), opaque("a"), file("a"), dir("a")},
			"/ dir implicit ino=1 nlink=3\n/a dir ino=2 nlink=2"},
		{"the last of two files", []layerOp{file("a"), {do: "fifo", path: "a"}},
			"/ dir implicit ino=1 nlink=2\n/a FIFO ino=2 nlink=1"},
		{"whiteout and then the file", []layerOp{whiteout("a"), file("a")},
			"/ dir implicit ino=1 nlink=2\n/a regular ino=2 nlink=1"},
		{"the file and then its whiteout", []layerOp{file("a"), whiteout("a")},
			"/ dir implicit ino=1 nlink=2\n/a regular ino=2 nlink=1"},
		{"whiteout and then the directory", []layerOp{whiteout("a"), dir("a"), file("a/b")},
			"/ dir implicit ino=1 nlink=3\n/a dir opaque ino=2 nlink=2\n/a/b regular ino=3 nlink=1"},
		{"the directory and then its whiteout", []layerOp{file("a/b"), whiteout("a")},
			"/ dir implicit ino=1 nlink=3\n/a dir opaque ino=2 nlink=2\n/a/b regular ino=3 nlink=1"},
		{"a whiteout, a directory and a file in its place", []layerOp{whiteout("a"), dir("a"), file("a")},
			"/ dir implicit ino=1 nlink=2\n/a regular ino=2 nlink=1"},
		{"whiteouts have no number", []layerOp{whiteout("a"), file("b"), whiteout("c")},
			"/ dir implicit ino=1 nlink=2\n/a whiteout\n/b regular ino=2 nlink=1\n/c whiteout"},
		{"an opaque mark after its siblings", []layerOp{file("a/b"), opaque("a"), file("a/c")},
			"/ dir implicit ino=1 nlink=3\n/a dir implicit opaque ino=2 nlink=2\n/a/b regular ino=3 nlink=1\n/a/c regular ino=4 nlink=1"},
		{"an opaque root", []layerOp{opaque("")}, "/ dir implicit opaque ino=1 nlink=2"},
		{"numbers follow the first name", []layerOp{file("z"), file("b"), link("a", "z")},
			"/ dir implicit ino=1 nlink=2\n/a regular ino=2 nlink=2\n/b regular ino=3 nlink=1\n/z regular ino=2 nlink=2"},
		{"a link stays when its target is replaced", []layerOp{file("a"), link("b", "a"), link("c", "b"), {do: "symlink", path: "a"}},
			"/ dir implicit ino=1 nlink=2\n/a symlink ino=2 nlink=1\n/b regular ino=3 nlink=2\n/c regular ino=3 nlink=2"},
		{"a link out of a directory that goes away", []layerOp{file("d/a"), link("b", "d/a"), file("d")},
			"/ dir implicit ino=1 nlink=2\n/b regular ino=2 nlink=1\n/d regular ino=3 nlink=1"},
		{"a link takes the place of its target's directory", []layerOp{file("d/a"), link("d", "d/a")},
			"/ dir implicit ino=1 nlink=2\n/d regular ino=2 nlink=1"},
		{"a link to itself", []layerOp{file("a"), link("a", "a")},
			"/ dir implicit ino=1 nlink=2\n/a regular ino=2 nlink=1"},
		{"bytes and not paths are sorted", []layerOp{file("a/x"), file("a-"), file("a.")},
			"/ dir implicit ino=1 nlink=3\n/a dir implicit ino=2 nlink=2\n/a/x regular ino=3 nlink=1\n/a- regular ino=4 nlink=1\n/a. regular ino=5 nlink=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, _ := build(t, tt.ops)
			if got := layerLines(t, b); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestBuilderErrors(t *testing.T) {
	base := []layerOp{{do: "file", path: "file"}, {do: "symlink", path: "link", target: "dir"}, {do: "dir", path: "dir"}, {do: "whiteout", path: "gone"}}
	tests := []struct {
		name string
		add  func(b *Builder) error
		want error
		says []string
	}{
		{"parent is a file", func(b *Builder) error { return b.AddFile("file/x/y", Meta{}, ObjectDigest{}, 0) },
			syscall.ENOTDIR, []string{`"file/x/y"`, `"file"`, "regular file"}},
		{"parent is a symlink", func(b *Builder) error { return b.AddDir("link/x", Meta{}) },
			syscall.ENOTDIR, []string{`"link/x"`, `"link"`, "symlink"}},
		{"whiteout below a symlink", func(b *Builder) error { return b.AddWhiteout("link/x") },
			syscall.ENOTDIR, []string{`"link/x"`, `"link"`}},
		{"opaque file", func(b *Builder) error { return b.AddOpaque("file") },
			syscall.ENOTDIR, []string{`"file"`, "regular file"}},
		{"link to nothing", func(b *Builder) error { return b.AddLink("x", "absent") },
			syscall.ENOENT, []string{`"x"`, `"absent"`}},
		{"link to a whiteout", func(b *Builder) error { return b.AddLink("x", "gone") },
			syscall.ENOENT, []string{`"x"`, `"gone"`}},
		{"link to a directory", func(b *Builder) error { return b.AddLink("x", "dir") },
			syscall.EPERM, []string{`"x"`, `"dir"`, "directory"}},
		{"link to the root", func(b *Builder) error { return b.AddLink("x", "") },
			syscall.EPERM, []string{`"x"`}},
		{"link through a symlink", func(b *Builder) error { return b.AddLink("x", "link/y") },
			syscall.ENOTDIR, []string{`"link/y"`}},
		{"a file as the root", func(b *Builder) error { return b.AddFile("", Meta{}, ObjectDigest{}, 0) },
			syscall.EINVAL, nil},
		{"whiteout of the root", func(b *Builder) error { return b.AddWhiteout("") }, syscall.EINVAL, nil},
		{"absolute path", func(b *Builder) error { return b.AddDir("/x", Meta{}) }, syscall.EINVAL, nil},
		{"absolute path, deeper", func(b *Builder) error { return b.AddDir("/x/y", Meta{}) }, syscall.EINVAL, nil},
		{"..", func(b *Builder) error { return b.AddDir("dir/..", Meta{}) }, syscall.EINVAL, nil},
		{".. in the middle", func(b *Builder) error { return b.AddDir("../x", Meta{}) }, syscall.EINVAL, nil},
		{"slash at the end", func(b *Builder) error { return b.AddDir("x/", Meta{}) }, syscall.EINVAL, nil},
		{"slash at the end of an opaque mark", func(b *Builder) error { return b.AddOpaque("dir/") }, syscall.EINVAL, nil},
		{"NUL", func(b *Builder) error { return b.AddDir("a\x00b", Meta{}) }, syscall.EINVAL, nil},
		{"a name of 256 bytes", func(b *Builder) error { return b.AddDir(strings.Repeat("n", 256), Meta{}) }, syscall.EINVAL, nil},
		{"too deep", func(b *Builder) error { return b.AddDir(strings.Repeat("d/", MaxDepth+1)+"d", Meta{}) }, syscall.ELOOP, nil},
		{"negative size", func(b *Builder) error { return b.AddFile("x", Meta{}, ObjectDigest{}, -1) }, syscall.EINVAL, nil},
		{"a special file of no special type", func(b *Builder) error { return b.AddSpecial("x", Meta{}, ModeRegular, 0) }, syscall.EINVAL, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := NewBuilder(nil)
			for _, o := range base {
				must(t, o.apply(b))
			}
			err := tt.add(b)
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not mention %s", err, s)
				}
			}
			must(t, b.Finish())
			want, _ := build(t, base)
			if got := layerLines(t, b); tt.name != "too deep" && got != layerLines(t, want) {
				t.Errorf("the error left something behind:\n%s", got)
			}
		})
	}
}

func TestBuilderFinished(t *testing.T) {
	b := NewBuilder(nil)
	if _, err := b.Attr(Root); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Attr before Finish: %v", err)
	}
	must(t, b.Finish())
	for what, err := range map[string]error{
		"AddDir":    b.AddDir("", Meta{Mode: 0o700}),
		"AddFile":   b.AddFile("x", Meta{}, ObjectDigest{}, 0),
		"AddOpaque": b.AddOpaque(""),
		"AddLink":   b.AddLink("x", "y"),
		"Finish":    b.Finish(),
	} {
		if err == nil {
			t.Errorf("%s works after Finish", what)
		}
	}
	if got, want := layerLines(t, b), "/ dir implicit ino=1 nlink=2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBuilderInodes(t *testing.T) {
	objects := objectsIn{"x": t.TempDir() + "/x"}
	must(t, os.WriteFile(objects["x"], []byte("x"), 0o444))
	b := NewBuilder(objects)
	m := Meta{Mode: ModeDir | 0o4755, UID: 1 << 31, GID: 7, Mtime: Time{-5, 999_999_999},
		Xattrs: []Xattr{{"user.b", []byte("1")}, {"user.a", nil}, {"user.b", []byte("2")}}}
	must(t, b.AddFile("f", m, digestOf("x"), 1))
	must(t, b.AddSpecial("whiteout-like", Meta{}, ModeChar, 0))
	must(t, b.AddSpecial("disk", Meta{}, ModeBlock, unix.Mkdev(8, 1<<19)))
	must(t, b.Finish())

	e, _ := b.Lookup(Root, "f")
	a, err := b.Attr(e.ID)
	want := Attr{Ino: uint64(e.ID), Mode: ModeRegular | 0o4755, UID: 1 << 31, GID: 7, Nlink: 1, Size: 1, Blocks: 8,
		Atime: m.Mtime, Mtime: m.Mtime, Ctime: m.Mtime, Xattrs: true}
	if a != want || err != nil {
		t.Errorf("attributes %+v, %v, want %+v", a, err, want)
	}
	names, _ := b.Xattrs(e.ID)
	v, _ := b.Xattr(e.ID, "user.b")
	if !slices.Equal(names, []string{"user.a", "user.b"}) || string(v) != "2" {
		t.Errorf("xattrs %v, user.b=%q", names, v)
	}
	f, err := b.Open(e.ID)
	must(t, err)
	f.Close()

	if e, _ := b.Lookup(Root, "whiteout-like"); e.Whiteout || e.Type != ModeChar {
		t.Errorf("a device 0:0 became %+v", e)
	}
	e, _ = b.Lookup(Root, "disk")
	if a, _ := b.Attr(e.ID); a.Rdev != unix.Mkdev(8, 1<<19) {
		t.Errorf("device number %#x", a.Rdev)
	}
}

type objectsIn map[string]string

func (o objectsIn) OpenObject(d ObjectDigest) (*os.File, error) {
	for contents, path := range o {
		if digestOf(contents) == d {
			return os.Open(path)
		}
	}
	return nil, syscall.ENOENT
}

// TestBuilderOrderMeansNothing: where no path has two entries, a layer is the
// same whatever the order of its entries, and so are its inode numbers.
func TestBuilderOrderMeansNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		paths := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-c](/[a-c]){0,2}`), 1, 12, rapid.ID).Draw(rt, "paths")
		var ops []layerOp
		for i, p := range paths {
			isParent := slices.ContainsFunc(paths, func(q string) bool { return strings.HasPrefix(q, p+"/") })
			do := rapid.SampledFrom([]string{"file", "whiteout", "dir", "opaque"}).Draw(rt, "do")
			if isParent && do == "file" {
				do = "dir"
			}
			ops = append(ops, layerOp{do: do, path: p, n: i})
		}
		one, _ := build(rt, ops)
		other, _ := build(rt, rapid.Permutation(ops).Draw(rt, "order"))
		if a, b := layerLines(rt, one), layerLines(rt, other); a != b {
			rt.Fatalf("in one order:\n%s\nin another:\n%s", a, b)
		}
	})
}

// TestBuilderMemory: a layer of very many entries fits.
func TestBuilderMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("slow: 200,000 entries")
	}
	const entries = 200_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b := NewBuilder(nil)
	for i := range entries {
		must(t, b.AddFile(fmt.Sprintf("usr/share/some/directory/d%d/file-%d", i/50, i), Meta{}, ObjectDigest{}, 1))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := (after.HeapAlloc - before.HeapAlloc) / entries; per > 300 {
		t.Errorf("%d bytes an entry while it is made, want at most 300", per)
	}
	must(t, b.Finish())
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := (after.HeapAlloc - before.HeapAlloc) / entries; per > 200 {
		t.Errorf("%d bytes an entry when finished, want at most 200", per)
	}
	runtime.KeepAlive(b)
}
