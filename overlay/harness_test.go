package overlay

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/need"
	"strata/overlay/tree"
)

// needRoot fails where a test cannot do its work: uppers in the kernel's format
// and overlayfs itself need root.
func needRoot(t testing.TB) {
	t.Helper()
	need.Overlayfs(t)
}

// inMemory is a directory that is kept in memory, if there is one with room that
// takes all we need (user xattrs: since Linux 6.6): what is copied up waits for
// the disk, and most tests need none. Else it is empty.
var inMemory = sync.OnceValue(func() string {
	const shm = "/dev/shm"
	var st unix.Statfs_t
	if err := unix.Statfs(shm, &st); err != nil || st.Type != unix.TMPFS_MAGIC || st.Bavail*uint64(st.Bsize) < 1<<30 {
		return ""
	}
	probe, err := os.MkdirTemp(shm, "strata-overlay-test-")
	if err != nil {
		return ""
	}
	defer os.Remove(probe)
	if unix.Setxattr(probe, "user.probe", nil, 0) != nil {
		return ""
	}
	return shm
})

// tempDir is like t.TempDir, in memory where possible, and not below a directory
// that other users may not enter.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(inMemory(), "strata-overlay-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// shell runs a script in a new directory and returns that.
func shell(t testing.TB, script string) string {
	t.Helper()
	dir := tempDir(t)
	run(t, dir, script)
	return dir
}

// run runs a script in a directory.
func run(t testing.TB, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// guardLowers wants, at the end of the test, the layers as they are now.
func guardLowers(t testing.TB, layers ...string) {
	t.Helper()
	var before []map[string]dumped
	for _, dir := range layers {
		before = append(before, dumpDir(t, dir))
	}
	t.Cleanup(func() {
		for i, dir := range layers {
			after := dumpDir(t, dir)
			compare(t, "lower "+dir, before[i], after, true)
			for path, b := range before[i] {
				if a := after[path]; a.attr.Ctime != b.attr.Ctime {
					t.Errorf("lower %s: %q was changed", dir, path)
				}
			}
		}
	})
}

// fixture is an FS over host directories, with what is needed to open it again.
type fixture struct {
	t      testing.TB
	layers []string // base first
	upper  string
	work   string
	format Format
	lowers []*tree.HostDir
	*FS
}

// newFixture makes an FS over the given layers, base first.
func newFixture(t testing.TB, format Format, layers ...string) *fixture {
	t.Helper()
	return newFixtureAt(t, tempDir(t), format, layers...)
}

// newFixtureAt puts upper and work below top.
func newFixtureAt(t testing.TB, top string, format Format, layers ...string) *fixture {
	t.Helper()
	x := &fixture{t: t, layers: layers, format: format, upper: filepath.Join(top, "upper"), work: filepath.Join(top, "work")}
	for _, dir := range []string{x.upper, x.work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	x.open()
	t.Cleanup(x.close)
	return x
}

func (x *fixture) options() Options {
	var trees []tree.Tree
	for _, dir := range x.layers {
		h, err := tree.OpenHostDir(dir, tree.HostDirOptions{})
		if err != nil {
			x.t.Fatal(err)
		}
		x.lowers = append(x.lowers, h)
		trees = append(trees, h)
	}
	return Options{Lower: tree.Stack(trees...), Upper: x.upper, Work: x.work, Format: x.format}
}

func (x *fixture) open() {
	x.t.Helper()
	f, err := Open(x.options())
	if err != nil {
		x.t.Fatal(err)
	}
	x.FS = f
}

func (x *fixture) close() {
	if x.FS != nil {
		if err := x.FS.Close(); err != nil {
			x.t.Error(err)
		}
		x.FS = nil
	}
	for _, h := range x.lowers {
		h.Close()
	}
	x.lowers = nil
}

// openWith opens the fixture's upper again with other options.
func (x *fixture) openWith(change func(o *Options)) {
	x.t.Helper()
	x.close()
	o := x.options()
	change(&o)
	f, err := Open(o)
	x.must(err)
	x.FS = f
}

// hasXattr tells whether a path in the upper, or of the host, carries a mark.
func (x *fixture) hasXattr(path, mark string) bool {
	x.t.Helper()
	_, err := inode{dir: unix.AT_FDCWD, name: filepath.Join(x.upper, path)}.hostXattr(x.format.namespace() + mark)
	if err != nil && err != errNoXattr {
		x.t.Fatal(err)
	}
	return err == nil
}

// hostXattr is xattr of a path of the host.
func (i inode) hostXattr(name string) ([]byte, error) {
	fd, err := unix.Open(i.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return inode{fd: fd}.xattr(name)
}

// reopen is an unmount and a mount.
func (x *fixture) reopen() {
	x.t.Helper()
	x.close()
	x.open()
}

// walk resolves a path and leaves no reference behind but the last, which the
// caller forgets.
func (x *fixture) walk(path string) (Node, error) {
	n := Node{ID: Root}
	for _, part := range strings.Split(path, "/") {
		if part == "" || part == "." {
			continue
		}
		child, err := x.Lookup(n.ID, part)
		x.forget(n)
		if err != nil {
			return Node{}, err
		}
		n = child
	}
	return n, nil
}

func (x *fixture) forget(n Node) {
	if n.ID != Root {
		x.Forget(n.ID, 1)
	}
}

// in resolves the directory of path and calls fn with it.
func (x *fixture) in(path string, fn func(dir ID, name string) error) error {
	dir, err := x.walk(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer x.forget(dir)
	if dir.ID != Root && !dir.Attr.IsDir() {
		return unix.ENOTDIR
	}
	return fn(dir.ID, filepath.Base(path))
}

func (x *fixture) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *fixture) on(path string, fn func(id ID) error) error {
	n, err := x.walk(path)
	if err != nil {
		return err
	}
	defer x.forget(n)
	return fn(n.ID)
}

func (x *fixture) write(path, data string, flags int) error {
	return x.on(path, func(id ID) error {
		h, err := x.Open(context.Background(), id, flags|unix.O_WRONLY)
		if err != nil {
			return err
		}
		_, err = h.WriteAt([]byte(data), 0)
		return errors.Join(err, h.Close())
	})
}

func (x *fixture) create(path, data string) error {
	return x.in(path, func(dir ID, name string) error {
		n, h, err := x.Create(Caller{}, dir, name, 0o644, unix.O_RDWR)
		if err != nil {
			return err
		}
		defer x.forget(n)
		_, err = h.WriteAt([]byte(data), 0)
		return errors.Join(err, h.Close())
	})
}

func (x *fixture) read(path string) (data string, err error) {
	err = x.on(path, func(id ID) error {
		h, err := x.Open(context.Background(), id, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer h.Close()
		b, err := io.ReadAll(io.NewSectionReader(h, 0, 1<<30))
		data = string(b)
		return err
	})
	return data, err
}

// The calls by path, with no reference left behind.

func (x *fixture) mkdir(path string) error {
	return x.in(path, func(dir ID, name string) error {
		n, err := x.Mkdir(Caller{}, dir, name, 0o755)
		if err == nil {
			x.forget(n)
		}
		return err
	})
}

func (x *fixture) link(path, newPath string) error {
	return x.on(path, func(id ID) error {
		return x.in(newPath, func(dir ID, name string) error {
			n, err := x.Link(context.Background(), id, dir, name)
			if err == nil {
				x.forget(n)
			}
			return err
		})
	})
}

func (x *fixture) rename(path, newPath string, flags uint32) error {
	return x.in(path, func(dir ID, name string) error {
		return x.in(newPath, func(newDir ID, newName string) error {
			return x.Rename(context.Background(), dir, name, newDir, newName, flags)
		})
	})
}

func (x *fixture) chmod(path string, mode uint32) error {
	return x.setattr(path, SetAttr{Mode: &mode})
}

func (x *fixture) setattr(path string, s SetAttr) error {
	return x.on(path, func(id ID) error {
		_, err := x.Setattr(context.Background(), id, s)
		return err
	})
}

// stat returns the attributes of a path that must be there.
func (x *fixture) stat(path string) tree.Attr {
	x.t.Helper()
	var a tree.Attr
	x.must(x.on(path, func(id ID) (err error) {
		a, err = x.Getattr(id)
		return err
	}))
	return a
}

// hold looks a path up, which must be there, and keeps the reference.
func (x *fixture) hold(path string) Node {
	x.t.Helper()
	n, err := x.walk(path)
	x.must(err)
	return n
}

// names lists a directory.
func (x *fixture) names(path string) []string {
	x.t.Helper()
	var names []string
	x.must(x.on(path, func(id ID) error {
		d, err := x.OpenDir(id)
		if err != nil {
			return err
		}
		defer d.Close()
		names, err = listDir(d)
		return err
	}))
	return names
}

// listDir returns the names in an open directory, sorted.
func listDir(d *Dir) ([]string, error) {
	names := []string{}
	batch := make([]DirEntry, 5)
	for {
		k, err := d.ReadDir(len(names), batch)
		for _, e := range batch[:k] {
			names = append(names, e.Name)
		}
		if err != nil || k < len(batch) {
			sort.Strings(names)
			return names, err
		}
	}
}

// upperStat is lstat(2) of a path in the upper, which must be there.
func (x *fixture) upperStat(path string) unix.Stat_t {
	x.t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(x.upper, path), &st); err != nil {
		x.t.Fatalf("upper %s: %v", path, err)
	}
	return st
}

func (x *fixture) inUpper(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(filepath.Join(x.upper, path), &st) == nil
}

func (x *fixture) isWhiteout(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(filepath.Join(x.upper, path), &st) == nil && isWhiteout(&st)
}

// staged lists what stands in the work directory; the whiteout that is kept
// there to be linked does not count.
func (x *fixture) staged() []string {
	x.t.Helper()
	entries, err := os.ReadDir(filepath.Join(x.work, "work"))
	x.must(err)
	var names []string
	for _, e := range entries {
		if e.Type()&os.ModeCharDevice == 0 {
			names = append(names, e.Name())
		}
	}
	return names
}

func wantErrno(t testing.TB, what string, err error, want syscall.Errno) {
	t.Helper()
	if got := errnoOf(err); got != want {
		t.Errorf("%s: %v (%v), want %s", what, nameOf(got), err, nameOf(want))
	}
}

func wantNames(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) || !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// dumped describes one path: all that must be equal.
type dumped struct {
	attr  tree.Attr
	line  string
	inode string // which inode, for comparing which names share one
}

// dump describes the merged tree as FS shows it, and checks what can be checked
// on the way: that listing and lookup agree.
func (x *fixture) dump() map[string]dumped {
	x.t.Helper()
	out := map[string]dumped{}
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
		out[path] = describe(n.Attr, body, xattrs)
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

// dumpDir describes a directory of the host in the same way.
func dumpDir(t testing.TB, root string) map[string]dumped {
	t.Helper()
	out := map[string]dumped{}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		a := attrOf(&st)
		xattrs := map[string]string{}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		i := inode{fd: fd}
		names, err := i.xattrs()
		if err != nil {
			return err
		}
		for _, name := range names {
			v, err := i.xattr(name)
			if err != nil {
				return err
			}
			xattrs[name] = string(v)
		}
		var body []byte
		switch {
		case a.IsRegular():
			if body, err = os.ReadFile(path); err != nil {
				return err
			}
		case a.IsSymlink():
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			body = []byte(target)
		}
		rel, _ := filepath.Rel(root, path)
		if rel == "." {
			rel = ""
		}
		out[rel] = describe(a, string(body), xattrs)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func describe(a tree.Attr, body string, xattrs map[string]string) dumped {
	var b strings.Builder
	fmt.Fprintf(&b, "mode %06o owner %d:%d rdev %x", a.Mode, a.UID, a.GID, a.Rdev)
	if !a.IsDir() {
		fmt.Fprintf(&b, " nlink %d size %d body %.8x", a.Nlink, a.Size, sha256.Sum256([]byte(body)))
	}
	keys := make([]string, 0, len(xattrs))
	for k := range xattrs {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, " %s=%q", k, xattrs[k])
	}
	return dumped{attr: a, line: b.String(), inode: fmt.Sprint(a.Ino)}
}

// compare reports where two dumps differ; times tells whether mtimes count.
func compare(t testing.TB, what string, want, got map[string]dumped, times bool) {
	t.Helper()
	shared := map[string]string{} // inode in want -> inode in got
	names := map[string]string{}  // inode in want -> a path
	for path, w := range want {
		g, ok := got[path]
		switch {
		case !ok:
			t.Errorf("%s: %q is missing (want %s)", what, path, w.line)
			continue
		case w.line != g.line:
			t.Errorf("%s: %q\n want %s\n got  %s", what, path, w.line, g.line)
		case times && w.attr.Mtime != g.attr.Mtime:
			t.Errorf("%s: %q: mtime %v, want %v", what, path, g.attr.Mtime, w.attr.Mtime)
		}
		if other, ok := shared[w.inode]; ok && other != g.inode && !w.attr.IsDir() {
			t.Errorf("%s: %q (%s) is no longer the same inode as %q (%s)", what, path, g.line, names[w.inode], got[names[w.inode]].line)
		}
		shared[w.inode], names[w.inode] = g.inode, path
	}
	for path, g := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: %q is too much: %s", what, path, g.line)
		}
	}
}

// errnoOf is 0 for nil.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	errno, ok := asErrno(err)
	if !ok {
		return syscall.Errno(9999)
	}
	return errno
}

// openFDs counts this process's descriptors.
func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func itoa(i int) string { return strconv.Itoa(i) }
