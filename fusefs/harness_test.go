package fusefs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/internal/histories"
	"strata/internal/need"
	"strata/overlay"
	"strata/overlay/tree"
)

// A process that serves a mount and uses it too can hang, so the mounts of
// these tests are served by a child: this test binary with serveEnv set, which
// reads commands from its standard input, one a line, and answers each with a
// line of JSON.

const serveEnv = "FUSEFS_TEST_SERVE"

func TestMain(m *testing.M) {
	histories.ServeChild()
	if spec := os.Getenv(serveEnv); spec != "" {
		if err := serveChild(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(lockerEnv) != "" {
		serveLocker()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// mountSpec says what a child mounts.
type mountSpec struct {
	Lowers     []string // base first
	Upper      string   // with a directory "work" beside it; read-only if empty
	Format     overlay.Format
	Mountpoint string
	Options    Options
}

// counts is the child's answer to "counts".
type counts struct {
	Lookups, Getattrs, Opens, Reads, Writes, Readdirs, Creates, Flushes int64

	Nodes, Splits, Files, Dirs int  // state that is left, but for what is kept
	Kept                       int  // lower files kept open
	Locks, LockWaiters         int  // record locks and flocks
	FDs                        int  // descriptors of the process, all
	Passthrough                bool // whether the kernel grants it
}

// leftovers is the child's answer to "unmount".
type leftovers struct {
	Error                        string
	Users                        []User
	FDs, FDsBefore               []string // after and before
	Goroutines, GoroutinesBefore int
}

// counting counts the requests that reach us.
type counting struct {
	*connection
	lookups, getattrs, opens, reads, writes, readdirs, creates, flushes atomic.Int64
}

func (c *counting) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.lookups.Add(1)
	return c.connection.Lookup(cancel, h, name, out)
}

func (c *counting) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.getattrs.Add(1)
	return c.connection.GetAttr(cancel, in, out)
}

func (c *counting) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	c.opens.Add(1)
	return c.connection.Open(cancel, in, out)
}

func (c *counting) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	c.creates.Add(1)
	return c.connection.Create(cancel, in, name, out)
}

func (c *counting) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	c.reads.Add(1)
	return c.connection.Read(cancel, in, buf)
}

func (c *counting) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	c.writes.Add(1)
	return c.connection.Write(cancel, in, data)
}

func (c *counting) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	c.flushes.Add(1)
	return c.connection.Flush(cancel, in)
}

func (c *counting) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	c.readdirs.Add(1)
	return c.connection.ReadDirPlus(cancel, in, out)
}

func (c *counting) counts() counts {
	n := counts{
		Lookups: c.lookups.Load(), Getattrs: c.getattrs.Load(), Opens: c.opens.Load(), Reads: c.reads.Load(),
		Writes: c.writes.Load(), Readdirs: c.readdirs.Load(), Creates: c.creates.Load(),
		Flushes:     c.flushes.Load(),
		Passthrough: c.connection.passthrough.Load(),
	}
	c.nodes.mu.RLock()
	c.kept.mu.Lock()
	n.Kept = c.kept.nodes.Len()
	c.kept.mu.Unlock()
	n.Nodes, n.Splits = len(c.nodes.nodes)-n.Kept, len(c.nodes.splits)
	c.nodes.mu.RUnlock()
	c.locks.mu.RLock()
	for _, f := range c.locks.files {
		n.Locks += len(f.records) + len(f.flocks)
		n.LockWaiters += len(f.waiters)
	}
	c.locks.mu.RUnlock()
	c.files.mu.RLock()
	n.Files = len(c.files.slots) - len(c.files.free)
	c.files.mu.RUnlock()
	c.dirs.mu.RLock()
	n.Dirs = len(c.dirs.slots) - len(c.dirs.free)
	c.dirs.mu.RUnlock()
	fds, _ := os.ReadDir("/proc/self/fd")
	n.FDs = len(fds)
	return n
}

// openFDs lists what descriptors are open on, but for what is not the mount's:
// directories, of which the overlay keeps a few until it is closed itself, what
// the Go runtime waits with, and the one /dev/null that go-fuse drains pipes to.
func openFDs() []string { return openFDsBut(os.FileInfo.IsDir) }

func openFDsBut(left func(os.FileInfo) bool) []string {
	var open []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		path := "/proc/self/fd/" + e.Name()
		fi, err := os.Stat(path)
		if err != nil || left(fi) {
			continue
		}
		what, _ := os.Readlink(path)
		if !strings.HasPrefix(what, "anon_inode:") && what != os.DevNull {
			open = append(open, what)
		}
	}
	return open
}

// settled waits until count is at most want, and returns it.
func settled(want int, count func() int) int {
	n := count()
	for range 200 {
		if n <= want {
			break
		}
		time.Sleep(5 * time.Millisecond)
		n = count()
	}
	return n
}

func serveChild(arg string) error {
	var spec mountSpec
	if err := json.Unmarshal([]byte(arg), &spec); err != nil {
		return err
	}
	all := func() []string { return openFDsBut(func(os.FileInfo) bool { return false }) }
	allBefore := all()
	var layers []tree.Tree
	closeLayers := func() {}
	for _, dir := range spec.Lowers {
		h, err := tree.OpenHostDir(dir, tree.HostDirOptions{})
		if err != nil {
			return err
		}
		layers = append(layers, h)
		rest := closeLayers
		closeLayers = func() { h.Close(); rest() }
	}
	o := overlay.Options{Lower: tree.Stack(layers...), Format: spec.Format}
	if spec.Upper != "" {
		o.Upper, o.Work = spec.Upper, filepath.Join(filepath.Dir(spec.Upper), "work")
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	o.Logger, spec.Options.Logger = logger, logger
	ofs, err := overlay.Open(o)
	if err != nil {
		return err
	}
	defer ofs.Close()

	var left leftovers
	left.FDsBefore, left.GoroutinesBefore = openFDs(), runtime.NumGoroutine()
	spec.Options.fill()
	c := &counting{connection: newConnection(ofs, spec.Options)}
	s, err := serve(spec.Mountpoint, ofs.ReadOnly(), spec.Options, c)
	if err != nil {
		return err
	}
	fmt.Println("{}")
	answer := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "counts":
			answer.Encode(c.counts())
		case "unmount":
			left.Error, left.Users = "", nil
			if err := s.Unmount(); err != nil {
				left.Error = err.Error()
				var busy *BusyError
				if errors.As(err, &busy) {
					left.Users = busy.Users
				}
			} else {
				s.Wait()
				settled(len(left.FDsBefore), func() int { return len(openFDs()) })
				left.FDs = openFDs()
				left.Goroutines = settled(left.GoroutinesBefore, runtime.NumGoroutine)
			}
			answer.Encode(left)
		case "close": // after unmount: the overlay and its lower, too
			ofs.Close()
			closeLayers()
			answer.Encode(leftovers{FDs: all(), FDsBefore: allBefore, Goroutines: runtime.NumGoroutine(), GoroutinesBefore: left.GoroutinesBefore})
		default:
			return fmt.Errorf("unknown command %q", in.Text())
		}
	}
	if err := s.Unmount(); err != nil {
		if err := s.Detach(); err != nil {
			return err
		}
		s.Wait()
	}
	return nil
}

// mounted is a mount and the child that serves it.
type mounted struct {
	t       *testing.T
	dir     string // the mount point
	lower   string // the topmost lower
	upper   string
	spec    mountSpec
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
	stopped bool
}

func needRoot(t *testing.T) {
	t.Helper()
	need.Root(t)
	need.Fuse(t)
}

// newMount mounts an overlay of a fresh lower, which fill fills, and a fresh
// upper in the kernel's format.
func newMount(t *testing.T, o Options, fill func(lower string)) *mounted {
	t.Helper()
	return newMountAs(t, overlay.FormatKernel, o, fill)
}

func newMountAs(t *testing.T, format overlay.Format, o Options, fill func(lower string)) *mounted {
	t.Helper()
	needRoot(t)
	base := tempDir(t)
	spec := mountSpec{
		Lowers:     []string{filepath.Join(base, "lower")},
		Upper:      filepath.Join(base, "upper"),
		Format:     format,
		Mountpoint: filepath.Join(base, "merged"),
		Options:    o,
	}
	for _, dir := range []string{spec.Lowers[0], spec.Upper, filepath.Join(base, "work"), spec.Mountpoint} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if fill != nil {
		fill(spec.Lowers[0])
	}
	return startMount(t, spec, "/proc/self/exe")
}

// tempDir is a t.TempDir that other users can enter.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fusefs-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// startMount runs command, which runs this test binary, to serve a mount.
func startMount(t *testing.T, spec mountSpec, command ...string) *mounted {
	t.Helper()
	arg, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	m := &mounted{t: t, dir: spec.Mountpoint, lower: spec.Lowers[len(spec.Lowers)-1], upper: spec.Upper, spec: spec}
	m.cmd = exec.Command(command[0], command[1:]...)
	m.cmd.Env = append(os.Environ(), serveEnv+"="+string(arg))
	m.cmd.Stderr = os.Stderr
	if m.stdin, err = m.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.stdout = bufio.NewReader(stdout)
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.stop)
	m.read(&struct{}{})
	return m
}

// copyOfTestBinary makes a copy that every user can run: the go command keeps
// the one that is running to itself.
func copyOfTestBinary(t *testing.T, dir string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "fusefs.test")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func (m *mounted) read(answer any) {
	m.t.Helper()
	killer := time.AfterFunc(20*time.Second, func() { m.cmd.Process.Kill() })
	defer killer.Stop()
	line, err := m.stdout.ReadBytes('\n')
	if err != nil {
		m.t.Fatalf("the process that serves the mount has died: %v", err)
	}
	if err := json.Unmarshal(line, answer); err != nil {
		m.t.Fatalf("%s: %v", line, err)
	}
}

func (m *mounted) counts() counts {
	m.t.Helper()
	var n counts
	fmt.Fprintln(m.stdin, "counts")
	m.read(&n)
	return n
}

func (m *mounted) unmount() leftovers {
	m.t.Helper()
	var l leftovers
	fmt.Fprintln(m.stdin, "unmount")
	m.read(&l)
	return l
}

func (m *mounted) stop() {
	if m.stopped {
		return
	}
	m.stopped = true
	m.stdin.Close()
	killer := time.AfterFunc(20*time.Second, func() { m.cmd.Process.Kill() })
	defer killer.Stop()
	if err := m.cmd.Wait(); err != nil {
		m.t.Errorf("the process that served the mount: %v", err)
		syscall.Unmount(m.dir, syscall.MNT_DETACH)
	}
}

// close unmounts and closes all, and tells what is left of it in the process.
func (m *mounted) close() leftovers {
	m.t.Helper()
	if l := m.unmount(); l.Error != "" {
		m.t.Fatal(l.Error)
	}
	var l leftovers
	fmt.Fprintln(m.stdin, "close")
	m.read(&l)
	return l
}

// again unmounts and mounts the same.
func (m *mounted) again() *mounted {
	m.t.Helper()
	if l := m.unmount(); l.Error != "" {
		m.t.Fatal(l.Error)
	}
	m.stop()
	return startMount(m.t, m.spec, "/proc/self/exe")
}

func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

// run runs a shell script in the mount as some user and returns its output.
func (m *mounted) run(uid uint32, script string) string {
	m.t.Helper()
	return shellAs(m.t, uid, m.dir, script)
}

func shell(t *testing.T, dir, script string) string {
	t.Helper()
	return shellAs(t, uint32(os.Geteuid()), dir, script)
}

func shellAs(t *testing.T, uid uint32, dir, script string) string {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", script)
	cmd.Dir = dir
	if uid != uint32(os.Geteuid()) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	} else if string(got) != want {
		t.Errorf("%s holds %.60q, want %.60q", path, got, want)
	}
}
