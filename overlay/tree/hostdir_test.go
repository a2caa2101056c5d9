package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestHostDirXattrWhiteoutWithoutMark: here the kernel lists a name that it
// then does not find; a HostDir keeps to the documentation, by which the
// directory must have the mark.
func TestHostDirXattrWhiteoutWithoutMark(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	must(t, unix.Setxattr(filepath.Join(dir, "f"), "trusted.overlay.whiteout", nil, 0))
	h := openHostDir(t, dir, HostDirOptions{})
	defer h.Close()
	if e, err := h.Lookup(Root, "f"); e.Whiteout || err != nil {
		t.Errorf("%+v, %v: want a file", e, err)
	}
}

func TestHostDirOverrideStat(t *testing.T) {
	tests := []struct {
		name, path, value string
		want              string // mode owner size rdev, or an error
	}{
		{"owner and mode", "f", "7:8:04755", "104755 7:8 6 0"},
		{"type file", "f", "7:8:0600:file", "100600 7:8 6 0"},
		{"directory", "d", "0:5:01777:dir", "41777 0:5 0 0"},
		{"symlink", "f", "0:0:0777:symlink", "120777 0:0 6 0"},
		{"device 0:0 is no whiteout", "f", "0:0:0600:char-0-0", "20600 0:0 0 0"},
		{"device", "f", "0:0:0600:block-8-1", "60600 0:0 0 2049"},
		{"FIFO", "f", "0:0:0600:pipe", "10600 0:0 0 0"},
		{"socket", "f", "0:0:0600:socket", "140600 0:0 0 0"},
		{"not a number", "f", "a:0:0600:file", "input/output error"},
		{"too few fields", "f", "0:0", "input/output error"},
		{"a file that says directory", "f", "0:0:0755:dir", "input/output error"},
		{"a directory that says file", "d", "0:0:0755:file", "input/output error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("target"), 0o644))
			must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
			must(t, unix.Setxattr(filepath.Join(dir, tt.path), OverrideStatXattr, []byte(tt.value), 0))
			h := openHostDir(t, dir, HostDirOptions{XattrPrefix: "user.", OverrideStat: true})
			defer h.Close()
			e, err := h.Lookup(Root, tt.path)
			must(t, err)
			a, err := h.Attr(e.ID)
			got := fmt.Sprintf("%o %d:%d %d %d", a.Mode, a.UID, a.GID, a.Size, a.Rdev)
			if err != nil {
				got = err.Error()
				if !errors.Is(err, syscall.EIO) || !strings.Contains(got, dir) || !strings.Contains(got, tt.value) {
					t.Errorf("error %v: not EIO with the directory and the value", err)
				}
				got = "input/output error"
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if err == nil && e.Type != a.Mode&ModeType {
				t.Errorf("entry has type %o", e.Type)
			}
			if a.Xattrs {
				t.Error("the xattr shows")
			}
			if target, err := h.Readlink(e.ID); a.IsSymlink() && (target != "target" || err != nil) {
				t.Errorf("Readlink: %q, %v", target, err)
			}
		})
	}
}

func TestHostDirHide(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Setxattr(dir, "user.strata.ino", []byte("1"), 0))
	must(t, unix.Setxattr(dir, "user.other", []byte("2"), 0))
	h := openHostDir(t, dir, HostDirOptions{XattrPrefix: "user.", Hide: []string{"user.strata."}})
	defer h.Close()
	names, err := h.Xattrs(Root)
	if err != nil || fmt.Sprint(names) != "[user.other]" {
		t.Errorf("names %v, %v", names, err)
	}
	if _, err := h.Xattr(Root, "user.strata.ino"); !errors.Is(err, syscall.ENODATA) {
		t.Errorf("a hidden xattr: %v", err)
	}
}

func TestHostDirBadCalls(t *testing.T) {
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), nil, 0o644))
	must(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	h := openHostDir(t, dir, HostDirOptions{})
	defer h.Close()
	checkBadCalls(t, h)
}

func TestOpenHostDirErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o644))
	for path, want := range map[string]error{
		file:                       syscall.ENOTDIR,
		filepath.Join(dir, "none"): syscall.ENOENT,
		"":                         syscall.ENOENT,
	} {
		_, err := OpenHostDir(path, HostDirOptions{})
		if !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("OpenHostDir(%q): %v, want %v", path, err, want)
		}
	}
}

// TestHostDirRefusesWrites: whatever is done with a descriptor that Open gave,
// the host's file stays.
func TestHostDirRefusesWrites(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("old"), 0o666))
	h := openHostDir(t, dir, HostDirOptions{})
	defer h.Close()
	e, err := h.Lookup(Root, "f")
	must(t, err)
	f, err := h.Open(e.ID)
	must(t, err)
	defer f.Close()
	if _, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), os.O_RDWR, 0); !errors.Is(err, syscall.EROFS) {
		t.Errorf("reopening for writing: %v, want EROFS", err)
	}
	if err := unix.Fchmod(int(f.Fd()), 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("fchmod: %v, want EROFS", err)
	}
	if err := os.Truncate(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), 0); !errors.Is(err, syscall.EROFS) {
		t.Errorf("truncate: %v, want EROFS", err)
	}
}

func TestHostDirStaysInside(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	root, outside := filepath.Join(dir, "root"), filepath.Join(dir, "outside")
	for _, d := range []string{"moved/sub", "mounted", "kept"} {
		must(t, os.MkdirAll(filepath.Join(root, d), 0o755))
	}
	must(t, os.MkdirAll(filepath.Join(outside, "sub"), 0o755))
	for _, f := range []string{"root/moved/f", "root/kept/f", "root/fifo", "root/gone"} {
		must(t, os.WriteFile(filepath.Join(dir, f), []byte("inside"), 0o644))
	}
	must(t, os.WriteFile(filepath.Join(outside, "f"), []byte("secret"), 0o644))
	must(t, os.WriteFile(filepath.Join(outside, "sub/f"), []byte("secret"), 0o644))
	must(t, unix.Mount(outside, filepath.Join(root, "mounted"), "", unix.MS_BIND, ""))
	defer unix.Unmount(filepath.Join(root, "mounted"), unix.MNT_DETACH)

	h := openHostDir(t, root, HostDirOptions{})
	defer h.Close()
	find := func(p string) ID {
		e, err := findPath(h, p)
		if err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		return e.ID
	}
	mounted, moved, keptFile, fifo, gone, movedFile := find("mounted"), find("moved"), find("kept/f"), find("fifo"), find("gone"), find("moved/f")
	sub := find("moved/sub")
	if n, err := h.ReadDir(mounted, 0, make([]Entry, 1)); n != 0 || err != nil {
		t.Errorf("what is mounted below shows: %d entries, %v", n, err)
	}
	// Against the rule, the directory changes.
	must(t, os.Rename(filepath.Join(root, "moved"), filepath.Join(dir, "elsewhere")))
	must(t, os.Symlink(outside, filepath.Join(root, "moved")))
	must(t, os.Remove(filepath.Join(root, "kept/f")))
	must(t, os.Symlink(filepath.Join(outside, "f"), filepath.Join(root, "kept/f")))
	must(t, os.Remove(filepath.Join(root, "fifo")))
	must(t, unix.Mkfifo(filepath.Join(root, "fifo"), 0o644))
	must(t, os.Remove(filepath.Join(root, "gone")))
	h.fds.forget()
	tests := []struct {
		what string
		err  error
		want error
	}{
		{"a directory that is now a symlink", second(h.ReadDir(sub, 0, make([]Entry, 1))), syscall.ESTALE},
		{"a file below it", second(h.Open(movedFile)), syscall.ESTALE},
		{"xattrs below it", second(h.Xattrs(movedFile)), syscall.ESTALE},
		{"a file that is now a symlink", second(h.Open(keptFile)), syscall.ESTALE},
		{"a file that is now a FIFO", second(h.Open(fifo)), syscall.ESTALE},
		{"a file that is gone", second(h.Open(gone)), syscall.ENOENT},
		{"a listing that was read", second(h.Lookup(moved, "f")), nil},
	}
	for _, tt := range tests {
		if !errors.Is(tt.err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, tt.err, tt.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// forget closes all directories that are not in use.
func (c *dirFDs) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.recent.Len() > 0 {
		c.putOutLocked(c.recent.Back().Value.(*dirFD))
	}
}

// TestHostDirDeep: paths longer than the kernel takes in one call, with a
// bounded number of descriptors.
func TestHostDirDeep(t *testing.T) {
	dir := t.TempDir()
	const depth = 100
	name := strings.Repeat("n", 200)
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	must(t, err)
	for range depth {
		must(t, unix.Mkdirat(fd, name, 0o755))
		next, err := unix.Openat(fd, name, unix.O_DIRECTORY, 0)
		must(t, err)
		unix.Close(fd)
		fd = next
	}
	file, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY, 0o644)
	must(t, err)
	_, err = unix.Write(file, []byte("deep"))
	must(t, err)
	unix.Close(file)
	must(t, unix.Fsetxattr(fd, "user.deep", []byte("x"), 0))
	unix.Close(fd)

	h := openHostDir(t, dir, HostDirOptions{})
	defer h.Close()
	s := Stack(h)
	deepest, err := findPath(s, strings.Repeat(name+"/", depth-1)+name)
	must(t, err)
	h.fds.forget()
	if v, err := s.Xattr(deepest.ID, "user.deep"); string(v) != "x" || err != nil {
		t.Errorf("xattr: %q, %v", v, err)
	}
	e, err := s.Lookup(deepest.ID, "f")
	must(t, err)
	f, err := s.Open(e.ID)
	must(t, err)
	defer f.Close()
	if data, err := io.ReadAll(f); string(data) != "deep" || err != nil {
		t.Errorf("contents: %q, %v", data, err)
	}
	if n := h.fds.recent.Len(); n > 64 {
		t.Errorf("%d directories are open, want at most 64", n)
	}
}

func TestHostDirDescriptors(t *testing.T) {
	dir := t.TempDir()
	for i := range 200 {
		d := filepath.Join(dir, fmt.Sprint(i%20), fmt.Sprint(i))
		must(t, os.MkdirAll(d, 0o755))
		must(t, os.WriteFile(filepath.Join(d, "f"), nil, 0o644))
		must(t, os.Link(filepath.Join(d, "f"), filepath.Join(dir, fmt.Sprint("l", i))))
	}
	before := countFDs(t)
	h := openHostDir(t, dir, HostDirOptions{OpenDirs: 10})
	inParallel(t, Stack(h, h))
	inParallel(t, h)
	if n := countFDs(t) - before; n > 11 {
		t.Errorf("%d descriptors are open after a walk, want at most 11", n)
	}
	must(t, h.Close())
	must(t, h.Close())
	if n := countFDs(t) - before; n != 0 {
		t.Errorf("%d descriptors are open after Close", n)
	}
	if _, err := h.Open(2); err == nil {
		t.Error("Open works after Close")
	}
}

func countFDs(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

func TestHostDirHardLinks(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "in/d"), 0o755))
	must(t, os.WriteFile(filepath.Join(dir, "in/a"), nil, 0o644))
	for _, l := range []string{"in/b", "in/d/c", "outside"} {
		must(t, os.Link(filepath.Join(dir, "in/a"), filepath.Join(dir, l)))
	}
	h := openHostDir(t, filepath.Join(dir, "in"), HostDirOptions{})
	defer h.Close()
	a, err := findPath(h, "a")
	must(t, err)
	c, err := findPath(h, "d/c")
	must(t, err)
	if a.ID != c.ID {
		t.Errorf("two names of one inode have the IDs %d and %d", a.ID, c.ID)
	}
	attr, err := h.Attr(a.ID)
	if attr.Nlink != 4 || err != nil {
		t.Errorf("before the names are known: nlink %d, %v, want the host's 4", attr.Nlink, err)
	}
	names, err := h.Names(c.ID)
	if len(names) != 3 || err != nil {
		t.Errorf("names %v, %v, want 3", names, err)
	}
	if attr, err = h.Attr(a.ID); attr.Nlink != 3 || err != nil {
		t.Errorf("after: nlink %d, %v, want 3", attr.Nlink, err)
	}
}

func TestHostDirInodeNumbers(t *testing.T) {
	h := &HostDir{dev: 5}
	for _, tt := range []struct {
		key  hostKey
		same bool
	}{
		{hostKey{5, 1}, true},
		{hostKey{5, 1<<40 - 1}, true},
		{hostKey{5, 1 << 40}, false},
		{hostKey{5, ^uint64(0)}, false},
		{hostKey{5, 0}, false},
		{hostKey{6, 1}, false},
	} {
		n := h.inodeNumber(tt.key)
		if n < 1 || n > hostInodes || (n == tt.key.ino) != tt.same {
			t.Errorf("%+v: %d", tt.key, n)
		}
	}
}

func TestHostDirUnprivileged(t *testing.T) {
	needRoot(t)
	// What a process without privileges gets, by the same function.
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644))
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, os.Mkdir(filepath.Join(dir, "m"), 0o755))
	must(t, unix.Mount("tmpfs", filepath.Join(dir, "m"), "tmpfs", 0, ""))
	defer unix.Unmount(filepath.Join(dir, "m"), unix.MNT_DETACH)
	if _, err := openBeneath(fd, "m", unix.O_PATH|unix.O_DIRECTORY); !errors.Is(err, unix.EXDEV) {
		t.Errorf("a mount point below: %v, want EXDEV", err)
	}
	unix.Close(fd)
}
