package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/need"
)

// scribbleHere makes this program scribble instead of testing: DIR:SEED. It does
// so behind chroot(2), because an image's symlinks are absolute or climb, and
// what is written through them would otherwise hit the machine that tests.
const scribbleHere = "STRATA_TEST_SCRIBBLE"

func init() {
	where := os.Getenv(scribbleHere)
	if where == "" {
		return
	}
	if err := scribbleMain(where); err != nil {
		fmt.Fprintln(os.Stderr, "scribble:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// scribbled is what became of the changes.
type scribbled struct {
	Done    map[string]int // how many of each kind were made
	Trouble []string       // errors that a filesystem must not give
}

func scribbleMain(where string) error {
	dir, number, _ := strings.Cut(where, ":")
	seed, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return err
	}
	if err := unix.Chroot(dir); err != nil {
		return &os.PathError{Op: "chroot", Path: dir, Err: err}
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	s := scribbler{rand: rand.New(rand.NewPCG(seed, 0))}
	err = filepath.WalkDir("/", func(file string, _ os.DirEntry, err error) error {
		if err == nil && file != "/" {
			s.names = append(s.names, file)
		}
		return err
	})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s.scribble(400))
}

// scribbler makes random changes everywhere below its root directory.
type scribbler struct {
	rand  *rand.Rand
	names []string // that were there at first
}

func (s *scribbler) name() string { return s.names[s.rand.IntN(len(s.names))] }

func (s *scribbler) newName() string {
	return filepath.Join(filepath.Dir(s.name()), fmt.Sprintf("new-%d", s.rand.Uint32()))
}

// in opens a file and calls a function with it.
func (s *scribbler) in(flags int, do func(*os.File) error) error {
	f, err := os.OpenFile(s.name(), flags|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	return errors.Join(do(f), f.Close())
}

func (s *scribbler) changes() map[string]func() error {
	return map[string]func() error{
		"overwrite": func() error {
			return s.in(os.O_WRONLY|os.O_TRUNC, func(f *os.File) error { _, err := f.WriteString("overwritten"); return err })
		},
		"append": func() error {
			return s.in(os.O_WRONLY|os.O_APPEND, func(f *os.File) error { _, err := f.WriteString("more"); return err })
		},
		"write within": func() error {
			return s.in(os.O_RDWR, func(f *os.File) error { _, err := f.WriteAt([]byte("within"), s.rand.Int64N(10000)); return err })
		},
		"store in a mapping": func() error { return s.in(os.O_RDWR, storeInMapping) },
		"truncate":           func() error { return os.Truncate(s.name(), s.rand.Int64N(5000)) },
		"chmod":              func() error { return os.Chmod(s.name(), os.FileMode(s.rand.Uint32N(0o1000))) },
		"chown":              func() error { return os.Lchown(s.name(), int(s.rand.Uint32N(1000)), int(s.rand.Uint32N(1000))) },
		"set an xattr":       func() error { return unix.Lsetxattr(s.name(), "trusted.test", []byte("value"), 0) },
		"remove":             func() error { return removeAll(s.name()) },
		"create":             func() error { return os.WriteFile(s.newName(), []byte("new"), 0o644) },
		"mkdir":              func() error { return os.Mkdir(s.newName(), 0o755) },
		"symlink":            func() error { return os.Symlink("target", s.newName()) },
		"link":               func() error { return os.Link(s.name(), s.newName()) },
		"rename":             func() error { return os.Rename(s.name(), s.newName()) },
		"replace":            func() error { return os.Rename(s.name(), s.name()) },
	}
}

// removeAll is os.RemoveAll that does not open what is above, which may be a FIFO by now
// and would wait for a writer.
func removeAll(name string) error {
	info, err := os.Stat(filepath.Dir(name))
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(name)
}

func storeInMapping(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return errors.New("nothing to map")
	}
	data, err := unix.Mmap(int(f.Fd()), 0, 1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	data[0] ^= 0xff
	return unix.Munmap(data)
}

func (s *scribbler) scribble(steps int) scribbled {
	result := scribbled{Done: map[string]int{}}
	changes := s.changes()
	kinds := slices.Sorted(maps.Keys(changes))
	for range steps {
		kind := kinds[s.rand.IntN(len(kinds))]
		// Much is refused for good reasons: a directory is no file, a name is
		// gone by now.
		switch err := changes[kind](); {
		case err == nil:
			result.Done[kind]++
		case errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOTCONN) || errors.Is(err, unix.ENOSYS):
			result.Trouble = append(result.Trouble, fmt.Sprintf("%s: %v", kind, err))
		}
	}
	return result
}

// scribbleIn has program, a copy of this one, scribble in dir, which has files enough
// that every kind of change is made.
func scribbleIn(t *testing.T, program, dir string) {
	t.Helper()
	result := scribbleSome(t, program, dir)
	for kind := range (&scribbler{}).changes() {
		if result.Done[kind] == 0 {
			t.Errorf("not once could the test %s", kind)
		}
	}
}

func scribbleSome(t *testing.T, program, dir string) scribbled {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	cmd := exec.Command(program)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d", scribbleHere, dir, seed))
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("scribble: %v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var result scribbled
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatal(err)
	}
	t.Logf("done: %v", result.Done)
	for _, trouble := range result.Trouble {
		t.Error(trouble)
	}
	return result
}

// What is scribbled does not get out, though symlinks lead there.
func TestScribbleStaysInside(t *testing.T) {
	need.Root(t)
	base := t.TempDir()
	inside, outside := filepath.Join(base, "in"), filepath.Join(base, "out")
	for _, dir := range []string{inside, outside} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(outside, "f")
	if err := os.WriteFile(file, []byte("untouched"), 0o640); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		if err := errors.Join(
			os.Symlink(file, filepath.Join(inside, fmt.Sprint("absolute", i))),
			os.Symlink("../out/f", filepath.Join(inside, fmt.Sprint("climbs", i))),
			os.Symlink(outside, filepath.Join(inside, fmt.Sprint("dir", i))),
		); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s:%d", scribbleHere, inside, 1))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	entries, err := os.ReadDir(outside)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if string(data) != "untouched" || info.Mode() != 0o640 || len(entries) != 1 {
		t.Errorf("outside there are %v, and the file has mode %v and holds %q (%v)", entries, info.Mode(), data, err)
	}
}
