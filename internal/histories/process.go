package histories

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process makes calls on a directory of the host. It is what a process has: files
// that are open, and where it is.
type Process struct {
	root  int // O_PATH descriptor of the world's root
	proc  int // of /proc, for /proc/self/fd
	files [Slots]int
}

// open lets a process of this program's rights work on a directory of the host.
func (p *Process) open(dir string) error {
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	p.root, p.proc = root, -1
	p.forget()
	return nil
}

func (p *Process) forget() {
	for i := range p.files {
		p.files[i] = -1
	}
}

// CloseFiles closes all that steps have opened.
func (p *Process) CloseFiles() {
	for _, fd := range p.files {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	p.forget()
}

// close lets the directory go.
func (p *Process) close() error {
	p.CloseFiles()
	return unix.Close(p.root)
}

// call is the system call, or a few, behind a step.
type call func(p *Process, s Step) (text string, err error)

// calls are all that steps can do, in files by what they are about.
var calls = map[string]call{}

func register(some map[string]call) {
	for name, c := range some {
		calls[name] = c
	}
}

// Do is one step.
func (p *Process) Do(s Step) Answer {
	c := calls[s.Call]
	if c == nil {
		return Answer{Errno: Bad, Text: "no such call: " + s.Call}
	}
	text, err := c(p, s)
	a := Fail(err)
	if changesAttributes[s.Call] {
		st := p.stat(s)
		a.Removed = st.Ino != 0 && st.Nlink == 0
	}
	if err != nil {
		return a
	}
	a.Text = text
	switch s.Call {
	case "openat", "open file":
		a.Ino = p.stat(Step{FD: s.FD}).Ino
	case "open a descriptor":
		a.Ino = p.stat(Step{FD: s.ToFD}).Ino
	case "truncate", "overwrite", "resize":
		a.Ino = p.stat(s).Ino
	}
	return a
}

// changesAttributes are the calls that make an overlay copy something up though it was
// removed, and is still open or somebody's working directory.
var changesAttributes = map[string]bool{
	"fchown": true, "fchmod": true, "futimens": true, "fsetxattr": true, "fremovexattr": true,
	"fchownat": true, "fchmodat": true, "utimensat": true, "lsetxattr": true, "lremovexattr": true,
}

// stat looks at what a step is about; zero if there is nothing.
func (p *Process) stat(s Step) (st unix.Stat_t) {
	var err error
	if s.Path == "" {
		err = unix.Fstat(p.files[s.FD], &st)
	} else {
		err = unix.Fstatat(p.at(s.At), s.Path, &st, 0)
	}
	if err != nil {
		return unix.Stat_t{}
	}
	return st
}

// at is the directory in which a path begins.
func (p *Process) at(at int) int {
	switch at {
	case AtRoot:
		return p.root
	case AtCwd:
		return unix.AT_FDCWD
	}
	return p.files[at-1]
}

// self is a path, relative to proc, of an open file.
func (p *Process) self(slot int) string { return "self/fd/" + strconv.Itoa(p.files[slot]) }

// put makes a new descriptor the slot's.
func (p *Process) put(slot, fd int) {
	if old := p.files[slot]; old >= 0 {
		unix.Close(old)
	}
	p.files[slot] = fd
}

// pathAt turns a path from a directory into one for calls that take no directory.
// It can be used as long as that is open.
func (p *Process) pathAt(at int, path string) string {
	if at == AtCwd {
		return path
	}
	if p.proc < 0 { // not in a root of its own
		return fmt.Sprintf("/proc/self/fd/%d/%s", p.at(at), path)
	}
	return "/" + path
}

// looks is what stat says, as far as it is the same in all worlds.
func looks(st *unix.Stat_t) string {
	n := nodeOf(st)
	s := fmt.Sprintf("mode %o owner %d:%d rdev %x mtime %s", n.Mode, n.UID, n.GID, n.Rdev, n.When())
	if !n.IsDir() {
		s += fmt.Sprintf(" size %d nlink %d", n.Size, n.Nlink)
	}
	return s
}

// sorted joins names that a call lists in an order of its own.
func sorted(names []string) string {
	sort.Strings(names)
	return strings.Join(names, " ")
}

func errnoOf(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
