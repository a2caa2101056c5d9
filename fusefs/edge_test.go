package fusefs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"strata/internal/need"
)

// What becomes of handles that have the lower open when somebody copies it up:
// a table of cases (edge_cases_test.go) with the answers of a plain directory,
// of the kernel's overlayfs, and of a mount in each mode. With -v it is printed.

// edgeWorld is where a case runs, and which of a case's answers counts there.
type edgeWorld int

const (
	onPlain edgeWorld = iota
	onOverlayfs
	onPassthrough
	onCached
	onCoherent
	edgeWorlds
)

func (w edgeWorld) String() string {
	return [...]string{"plain", "overlayfs", "passthrough", "cached", "coherent"}[w]
}

// answers are what a case comes to: one for each edgeWorld, or fewer, and the
// last holds for the rest.
type answers []string

func (a answers) of(w edgeWorld) string { return a[min(int(w), len(a)-1)] }

// edgeCase is a line of the table. Do runs with the files f and g, two names of
// one inode with oldData in it, and the programs p (/bin/true) and s (/bin/sleep).
type edgeCase struct {
	name string
	do   func(e *edge) string
	want answers
}

const edgeSize = 8192

var oldData = strings.Repeat("old.", edgeSize/4)

// edge is one case in one world.
type edge struct {
	t   *testing.T
	dir string
}

func (e *edge) path(name string) string { return filepath.Join(e.dir, name) }

func (e *edge) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *edge) open(name string, flags int) *os.File {
	e.t.Helper()
	path := name
	if !filepath.IsAbs(name) {
		path = e.path(name)
	}
	return openFile(e.t, path, flags)
}

// reader opens f to read, and reads from it, so that what can be cached is.
func (e *edge) reader() *os.File {
	e.t.Helper()
	r := e.open("f", os.O_RDONLY)
	if got := pread(e.t, r, 4); got != "old." {
		e.t.Fatalf("f begins with %q", got)
	}
	return r
}

// change opens f to write, which copies it up, and changes its first bytes. The
// descriptor stays open until the case ends.
func (e *edge) change() *os.File {
	e.t.Helper()
	w := e.open("f", os.O_RDWR)
	_, err := w.WriteAt([]byte("new."), 0)
	e.must(err)
	return w
}

// split is a reader of f, and f changed since.
func (e *edge) split() (r, w *os.File) {
	e.t.Helper()
	r = e.reader()
	return r, e.change()
}

// show is what the first bytes of a file are, or why they cannot be had.
func show(f *os.File, err error) string {
	if err != nil {
		return failure(err)
	}
	defer f.Close()
	return first(f)
}

func first(f *os.File) string {
	buf := make([]byte, 4)
	n, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return failure(err)
	}
	return word(buf[:n])
}

// word tells what data is: old or new.
func word(data []byte) string {
	switch s := string(data); {
	case s == "":
		return "nothing"
	case strings.HasPrefix(s, "old."):
		return "old"
	case strings.HasPrefix(s, "new."):
		return "new"
	default:
		return fmt.Sprintf("%.8q", s)
	}
}

// failure names the errno of err.
func failure(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

func outcome(err error) string {
	if err != nil {
		return failure(err)
	}
	return "ok"
}

// self is the path by which the process's own descriptor f can be opened again.
func self(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// mapFile maps the first page of f, and reads from it.
func (e *edge) mapFile(f *os.File, prot, flags int) []byte {
	e.t.Helper()
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, prot, flags)
	e.must(err)
	e.t.Cleanup(func() { unix.Munmap(mem) })
	_ = word(mem)
	return mem
}

// fillEdge makes the files of all cases below dir.
func fillEdge(t *testing.T, dir string) {
	t.Helper()
	program, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Fatal(err)
	}
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	for i := range edgeCases {
		d := filepath.Join(dir, fmt.Sprint(i))
		err := errors.Join(
			os.Mkdir(d, 0o755),
			os.WriteFile(filepath.Join(d, "f"), []byte(oldData), 0o644),
			os.Link(filepath.Join(d, "f"), filepath.Join(d, "g")),
			os.WriteFile(filepath.Join(d, "p"), program, 0o755),
			os.WriteFile(filepath.Join(d, "s"), sleep, 0o755),
		)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// edgeDirs returns a directory with the files of all cases for each world.
func edgeDirs(t *testing.T) [edgeWorlds]string {
	need.Overlayfs(t)
	var dirs [edgeWorlds]string
	dirs[onPlain] = tempDir(t)
	fillEdge(t, dirs[onPlain])

	base := tempDir(t)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	fillEdge(t, filepath.Join(base, "lower"))
	dirs[onOverlayfs] = filepath.Join(base, "merged")
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work,index=on", base)
	if err := unix.Mount("overlay", dirs[onOverlayfs], "overlay", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dirs[onOverlayfs], 0); err != nil {
			t.Error(err)
			unix.Unmount(dirs[onOverlayfs], unix.MNT_DETACH)
		}
	})

	for world, o := range map[edgeWorld]Options{
		onPassthrough: {},
		onCached:      {Passthrough: PassthroughOff},
		onCoherent:    {Coherent: true},
	} {
		o.SUID = true
		m := newMount(t, o, func(lower string) { fillEdge(t, lower) })
		if world == onPassthrough {
			m.requirePassthrough()
		}
		before := hash(t, m.lower)
		t.Cleanup(func() {
			if hash(t, m.lower) != before {
				t.Errorf("%v: the lower has changed", world)
			}
		})
		dirs[world] = m.dir
	}
	return dirs
}

func TestEdge(t *testing.T) {
	needRoot(t)
	dirs := edgeDirs(t)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "\nwhile the lower is open, and copied up since")
	for world := range edgeWorlds {
		fmt.Fprintf(w, "\t%v", world)
	}
	fmt.Fprintln(w)
	for i, c := range edgeCases {
		fmt.Fprint(w, c.name)
		for world := range edgeWorlds {
			t.Run(fmt.Sprintf("%s/%v", c.name, world), func(t *testing.T) {
				got := c.do(&edge{t, filepath.Join(dirs[world], fmt.Sprint(i))})
				fmt.Fprintf(w, "\t%s", got)
				if want := c.want.of(world); got != want {
					t.Errorf("%s, want %s", got, want)
				}
			})
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	t.Log(table.String())
}

// inAnotherProcess is what the first bytes of a file are to another process.
func inAnotherProcess(path string) string {
	out, err := exec.Command("head", "-c", "4", path).Output()
	if err != nil {
		return err.Error()
	}
	return word(out)
}

// runs tells whether a program runs, and which: /bin/true is old, /bin/false new.
func runs(cmd *exec.Cmd) string {
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "old"
	case errors.As(err, &exit) && exit.ExitCode() == 1:
		return "new"
	}
	return failure(err)
}
