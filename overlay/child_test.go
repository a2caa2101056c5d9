package overlay

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strata/internal/histories"
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

// childReport is what a child that ran a history found.
type childReport struct {
	Errnos        []syscall.Errno
	Before, After histories.Tree // the remount
	Errors        []string
}

// childHistory runs a history below a directory that histories.WriteTreeFile filled, on an
// upper of the user's format, and writes the childReport to standard output.
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
	lower, err := histories.OpenTreeFile(top)
	if err != nil {
		return err
	}
	o := Options{Lower: lower, Upper: top + "/upper", Work: top + "/work", Format: FormatUser}
	if err := Prepare(o); err != nil {
		return err
	}
	t := &childTB{}
	x := &fixture{t: t, format: FormatUser}
	var rep childReport
	if x.FS, err = Open(o); err != nil {
		return err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for range steps {
		rep.Errnos = append(rep.Errnos, errnoOf(x.do(histories.DrawNameStep(r.IntN))))
	}
	rep.Before = x.dump()
	x.close()
	if x.FS, err = Open(o); err != nil {
		return err
	}
	rep.After = x.dump()
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
		s := histories.DrawNameStep(r.IntN)
		if s.ChangesData() {
			continue
		}
		switch err := errnoOf(x.do(s)); err {
		case unix.EIO, unix.ESTALE, unix.EBADF, unix.ENOSPC:
			return fmt.Errorf("%v: %w", s, err)
		}
	}
}
