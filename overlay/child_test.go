package overlay

import (
	"crypto/sha256"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// The test binary runs itself for what must happen in another process or as
// another user: childEnv names the part to play.
const childEnv = "STRATA_OVERLAY_TEST_CHILD"

func TestMain(m *testing.M) {
	part := os.Getenv(childEnv)
	if part == "" {
		code := m.Run()
		os.RemoveAll(layersDir)
		os.Exit(code)
	}
	if err := children[part](os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "child %s: %v\n", part, err)
		os.Exit(1)
	}
}

var children = map[string]func(args []string) error{
	"hold":    childHold,
	"history": childHistory,
	"crash":   childCrash,
}

// child is the command that plays that part in another process.
func child(part string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childEnv+"="+part)
	cmd.Stderr = os.Stderr
	return cmd
}

// childTB reports the failures of a child, which has no testing.T.
type childTB struct {
	testing.TB
	errs []error
}

func (t *childTB) Helper()           {}
func (t *childTB) Error(args ...any) { t.errs = append(t.errs, errors.New(fmt.Sprint(args...))) }
func (t *childTB) Errorf(format string, args ...any) {
	t.errs = append(t.errs, fmt.Errorf(format, args...))
}
func (t *childTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (t *childTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// dirObjects keeps contents in files called by their digest.
type dirObjects string

func (d dirObjects) OpenObject(digest tree.ObjectDigest) (*os.File, error) {
	return os.Open(filepath.Join(string(d), digest.String()))
}

// digested is a tree whose contents go to a directory of objects as they are
// asked for.
type digested struct {
	tree.Tree
	objects dirObjects
}

func (d digested) Content(id tree.ID) (tree.Content, error) {
	f, err := d.Open(id)
	if err != nil {
		return tree.Content{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return tree.Content{}, err
	}
	c := tree.Content{Known: true, Digest: sha256.Sum256(data), Size: int64(len(data))}
	return c, os.WriteFile(filepath.Join(string(d.objects), c.Digest.String()), data, 0o644)
}

// writeTreeFile writes the stacked layers as top/tree and top/objects, as an image
// is kept.
func writeTreeFile(t testing.TB, top string, layers ...string) {
	t.Helper()
	var trees []tree.Tree
	for _, dir := range layers {
		h, err := tree.OpenHostDir(dir, tree.HostDirOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		trees = append(trees, h)
	}
	objects := dirObjects(filepath.Join(top, "objects"))
	f, err := os.Create(filepath.Join(top, "tree"))
	if err == nil {
		err = os.Mkdir(string(objects), 0o755)
	}
	if err == nil {
		err = tree.Write(f, digested{tree.Stack(trees...), objects})
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func openTreeFile(top string) (*tree.File, error) {
	return tree.OpenFile(filepath.Join(top, "tree"), dirObjects(filepath.Join(top, "objects")))
}

// childHold keeps an upper open until standard input ends.
func childHold(args []string) error {
	lower, err := tree.OpenHostDir(args[0], tree.HostDirOptions{})
	if err != nil {
		return err
	}
	f, err := Open(Options{Lower: lower, Upper: args[1], Work: args[2]})
	if err != nil {
		return err
	}
	fmt.Println("open")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return f.Close()
}

// report is what a child that ran a history found.
type report struct {
	Errnos        []syscall.Errno
	Before, After map[string]reported // the remount
	Errors        []string
}

type reported struct {
	Attr        tree.Attr
	Line, Inode string
}

func reportOf(dump map[string]dumped) map[string]reported {
	out := map[string]reported{}
	for path, d := range dump {
		out[path] = reported{d.attr, d.line, d.inode}
	}
	return out
}

func dumpOf(r map[string]reported) map[string]dumped {
	out := map[string]dumped{}
	for path, d := range r {
		out[path] = dumped{attr: d.Attr, line: d.Line, inode: d.Inode}
	}
	return out
}

// childHistory runs a history below a directory that writeTreeFile filled, on an
// upper of the user's format, and writes the report to standard output.
func childHistory(args []string) error {
	top := args[0]
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	steps, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	lower, err := openTreeFile(top)
	if err != nil {
		return err
	}
	o := Options{Lower: lower, Upper: top + "/upper", Work: top + "/work", Format: FormatUser}
	if err := Prepare(o); err != nil {
		return err
	}
	t := &childTB{}
	x := &fixture{t: t, format: FormatUser}
	var rep report
	if x.FS, err = Open(o); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for range steps {
		rep.Errnos = append(rep.Errnos, errnoOf(opFor(r.IntN).on(x)))
	}
	rep.Before = reportOf(x.dump())
	x.close()
	if x.FS, err = Open(o); err != nil {
		return err
	}
	rep.After = reportOf(x.dump())
	x.close()
	for _, err := range t.errs {
		rep.Errors = append(rep.Errors, err.Error())
	}
	return gob.NewEncoder(os.Stdout).Encode(rep)
}

// childCrash changes names and attributes, but no contents, until it is killed.
func childCrash(args []string) error {
	seed, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	lower, err := tree.OpenHostDir(args[2], tree.HostDirOptions{})
	if err != nil {
		return err
	}
	f, err := Open(Options{Lower: tree.Stack(lower), Upper: args[0] + "/upper", Work: args[0] + "/work"})
	if err != nil {
		return err
	}
	x := &fixture{t: &childTB{}, FS: f}
	fmt.Println("open")
	r := rand.New(rand.NewPCG(seed, 0))
	for {
		o := opFor(r.IntN)
		if o.changesData() {
			continue
		}
		switch err := errnoOf(o.on(x)); err {
		case unix.EIO, unix.ESTALE, unix.EBADF, unix.ENOSPC:
			return fmt.Errorf("%s: %w", o.name, err)
		}
	}
}
