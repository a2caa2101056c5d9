package histories

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ChildEnv makes a test binary a child: its value is the index of a User.
const ChildEnv = "STRATA_HISTORIES_CHILD"

// A child is asked one thing at a time, and answers each. It goes from world to world:
// starting a process for every history would be most of the work.
type request struct {
	Enter string // a directory, which becomes its root
	Leave bool
	Close bool // all that is open, and back to the root
	Step  *Step
	Where *Step // tells the inode of the file that the step would be about
	Tree  bool
}

type response struct {
	Answer Answer
	Tree   Tree
	Failed string // the harness could not go on
}

// ServeChild is the child's program. Call it first in TestMain: when the process is
// a child it does not return.
func ServeChild() {
	user := os.Getenv(ChildEnv)
	if user == "" {
		return
	}
	i, err := strconv.Atoi(user)
	if err == nil {
		err = serveChild(Users[i], os.Stdin, os.Stdout)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(os.Stderr, "child of a history:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serveChild(u User, in io.Reader, out io.Writer) error {
	runtime.LockOSThread() // whose rights and files are those of the process
	host, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p := &Process{root: -1, proc: proc}
	p.forget()
	requests, answers := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var req request
		if err := requests.Decode(&req); err != nil {
			return err
		}
		var res response
		var err error
		switch {
		case req.Enter != "":
			err = p.enter(u, host, req.Enter)
		case req.Leave:
			err = p.leave(host)
		case req.Close:
			err = p.goHome(u)
		case req.Step != nil:
			res.Answer = p.Do(*req.Step)
		case req.Where != nil:
			res.Answer.Ino = p.stat(*req.Where).Ino
		case req.Tree:
			res.Tree, err = ReadTree("/")
		}
		if err != nil {
			res.Failed = err.Error()
		}
		if err := answers.Encode(res); err != nil {
			return err
		}
	}
}

// enter makes dir the root and becomes the user. The calls are those of this thread
// alone: the wrappers would ask all threads.
func (p *Process) enter(u User, host int, dir string) error {
	if err := p.leave(host); err != nil {
		return err
	}
	if err := errors.Join(unix.Chdir(dir), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("enter %s: %w", dir, err)
	}
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.root = root
	unix.Umask(u.Umask)
	groups := make([]uint32, len(u.Groups)+1)
	for i, g := range u.Groups {
		groups[i] = uint32(g)
	}
	_, _, e1 := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(u.Groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	_, _, e2 := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(u.GID), uintptr(u.GID), uintptr(u.GID))
	_, _, e3 := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.UID), uintptr(u.UID), 0) // the way back
	return errors.Join(errnoOf(e1), errnoOf(e2), errnoOf(e3))
}

// goHome closes all and goes back to the root, which the user may not be allowed.
func (p *Process) goHome(u User) error {
	p.CloseFiles()
	_, _, e1 := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
	err := unix.Fchdir(p.root)
	_, _, e2 := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(u.UID), uintptr(u.UID), 0)
	return errors.Join(errnoOf(e1), err, errnoOf(e2))
}

// leave becomes root again, with the host's root directory.
func (p *Process) leave(host int) error {
	p.CloseFiles()
	if p.root >= 0 {
		unix.Close(p.root)
		p.root = -1
	}
	_, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
	return errors.Join(errnoOf(e), unix.Fchdir(host), unix.Chroot("."))
}

// Child is a process that makes calls for a history.
type Child struct {
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	requests *gob.Encoder
	answers  *gob.Decoder
}

// StartChild runs this program again as a child.
func StartChild(user int) (*Child, error) {
	c := &Child{cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), ChildEnv+"="+strconv.Itoa(user), "GOMAXPROCS=1")
	c.cmd.Stderr = os.Stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.requests, c.answers = gob.NewEncoder(c.stdin), gob.NewDecoder(stdout)
	return c, c.cmd.Start()
}

// stuck is how long one answer may take.
const stuck = time.Minute

func (c *Child) ask(req request) (response, error) {
	killer := time.AfterFunc(stuck, func() { c.cmd.Process.Kill() })
	defer killer.Stop()
	var res response
	err := c.requests.Encode(req)
	if err == nil {
		err = c.answers.Decode(&res)
	}
	if err != nil {
		return res, fmt.Errorf("a child does not answer %+v: %w", req, err)
	}
	if res.Failed != "" {
		return res, errors.New(res.Failed)
	}
	return res, nil
}

// Stop ends the process.
func (c *Child) Stop() error {
	c.stdin.Close()
	killer := time.AfterFunc(stuck, func() { c.cmd.Process.Kill() })
	defer killer.Stop()
	return c.cmd.Wait()
}

// Children are one process for each of Users.
type Children []*Child

// StartChildren starts them; they are in no world yet.
func StartChildren() (Children, error) {
	var all Children
	for user := range Users {
		c, err := StartChild(user)
		if err != nil {
			return nil, errors.Join(err, all.Stop())
		}
		all = append(all, c)
	}
	return all, nil
}

// Stop ends them.
func (c Children) Stop() error {
	var err error
	for _, child := range c {
		err = errors.Join(err, child.Stop())
	}
	return err
}

// Enter makes a directory of the host their world.
func (c Children) Enter(dir string) error { return c.all(request{Enter: dir}) }

// Do is one step, by the process that it says.
func (c Children) Do(s Step) Answer {
	res, err := c[s.Proc].ask(request{Step: &s})
	if err != nil {
		return Answer{Errno: Bad, Text: err.Error()}
	}
	return res.Answer
}

// Where tells the inode of the file that a step would be about.
func (c Children) Where(s Step) uint64 {
	res, err := c[s.Proc].ask(request{Where: &s})
	if err != nil {
		return 0
	}
	return res.Answer.Ino
}

func (c Children) End() error { return c.all(request{Close: true}) }

// Leave leaves the world, so that it can be unmounted.
func (c Children) Leave() error { return c.all(request{Leave: true}) }

func (c Children) all(req request) error {
	for _, child := range c {
		if _, err := child.ask(req); err != nil {
			return err
		}
	}
	return nil
}

// Tree is what root sees.
func (c Children) Tree() (Tree, error) {
	res, err := c[0].ask(request{Tree: true})
	return res.Tree, err
}

var (
	_ Oracle = Children(nil)
	_ Oracle = (*Directory)(nil)
)
