package histories

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Slots is how many files one process can have open.
const Slots = 4

// Where the path of a step begins. Any other number is one more than the slot of an
// open directory.
const (
	AtRoot = 0  // the root of the world
	AtCwd  = -1 // the process's working directory
)

// Step is one call of one process. It is plain data, so that it can be sent to
// another process, left out, and printed; a call uses only the fields that it needs.
type Step struct {
	Proc int    // who calls
	Call string // one of calls

	At   int    // where Path begins
	Path string // never empty where it is used
	ToAt int
	To   string // the new name, or what a symlink says

	FD, ToFD int // slots

	Flags    int
	Mode     uint32
	UID, GID int
	Off      int64
	ToOff    int64
	Len      int64
	Fill     string // data is this one letter, Len times
	Name     string // of an xattr
	Value    string // of an xattr
	Dev      int
	Atime    unix.Timespec
	Mtime    unix.Timespec
}

// Data is what a step writes.
func (s Step) Data() []byte { return []byte(strings.Repeat(s.Fill, int(s.Len))) }

// Answer is what a call returns.
type Answer struct {
	Errno syscall.Errno
	Text  string // what was read or found; the same in every world that is right

	Removed bool   // whether attributes were to be changed of what has no name left
	Ino     uint64 // of a file that was opened or written to; every world has its own
}

// Bad is an errno that no call returns: the harness itself could not go on.
const Bad = syscall.Errno(9999)

// Fail makes an answer of an error that is an errno at heart.
func Fail(err error) Answer {
	if err == nil {
		return Answer{}
	}
	if errno, ok := err.(syscall.Errno); ok {
		return Answer{Errno: errno}
	}
	return Answer{Errno: Bad, Text: err.Error()}
}

// NameOf is the name of an errno, "ok" for 0.
func NameOf(e syscall.Errno) string {
	switch {
	case e == 0:
		return "ok"
	case e == Bad:
		return "BAD"
	}
	return unix.ErrnoName(e)
}

func (a Answer) String() string {
	s := NameOf(a.Errno)
	switch {
	case a.Text == "":
	case len(a.Text) > 3000:
		s += " " + a.Text[:3000] + "..."
	default:
		s += " " + a.Text
	}
	return s
}

// World is a tree that processes change, one step at a time.
type World interface {
	// Do is one call. What a process opens stays open for its later steps.
	Do(Step) Answer

	// End closes all that is open and goes back from the working directories.
	End() error

	// Tree describes all that is there. Nobody changes it meanwhile.
	Tree() (Tree, error)
}
