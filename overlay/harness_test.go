package overlay

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

// fixture is an FS over host directories, with what is needed to open it again.
type fixture struct {
	t      testing.TB
	layers []string // base first
	upper  string
	work   string
	format Format
	lowers []io.Closer // closed with the FS
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
