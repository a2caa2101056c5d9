package fusefs

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A POSIX lock is a process's, so these tests need several. Each is this test
// binary with lockerEnv set: a single thread that reads calls from its standard
// input, one a line, and answers each with a line of JSON.

const lockerEnv = "FUSEFS_TEST_LOCKER"

// lockerCall is a system call for a locker to make. It names descriptors by
// numbers of its own.
type lockerCall struct {
	Call  string // "open", "close", "dup", "lock", "test"
	FD    int
	To    int    `json:",omitempty"` // dup
	Path  string `json:",omitempty"` // open
	Flags int    `json:",omitempty"` // open

	Sort       lockSort `json:",omitempty"`
	Kind       lockKind
	Start, Len int64
	Wait       bool
}

type lockerAnswer struct {
	Errno syscall.Errno
	Found *unix.Flock_t `json:",omitempty"` // test: what is in the way
}

func serveLocker() {
	runtime.LockOSThread()
	fds := make(map[int]int)
	for i := range os.Getenv(lockerEnv) { // one letter for each that it inherits
		fds[i] = 3 + i
	}
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var c lockerCall
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			panic(err)
		}
		var answer lockerAnswer
		err := error(syscall.EBADF)
		fd, open := fds[c.FD]
		switch {
		case c.Call == "open":
			if fd, err = unix.Open(c.Path, c.Flags|unix.O_CLOEXEC, 0o644); err == nil {
				fds[c.FD] = fd
			}
		case !open:
		case c.Call == "close":
			err = unix.Close(fd)
			delete(fds, c.FD)
		case c.Call == "dup":
			if fd, err = unix.Dup(fd); err == nil {
				fds[c.To] = fd
			}
		case c.Call == "lock":
			err = kernelLock(fd, c.Sort, c.Kind, c.Start, c.Len, c.Wait)
		case c.Call == "test":
			var lk unix.Flock_t
			if lk, err = kernelTest(fd, c.Sort, c.Kind, c.Start, c.Len); lk.Type != unix.F_UNLCK {
				answer.Found = &lk
			}
		}
		if err != nil {
			answer.Errno = err.(syscall.Errno)
		}
		out.Encode(answer)
	}
}

// locker is such a process.
type locker struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// newLocker starts a locker that inherits files as its descriptors 0, 1, ...
func newLocker(t testing.TB, files ...*os.File) *locker {
	t.Helper()
	l := &locker{t: t, cmd: exec.Command("/proc/self/exe")}
	inherits := "-"
	if len(files) > 0 {
		inherits = fmt.Sprintf("%0*d", len(files), 0)
	}
	l.cmd.Env = append(os.Environ(), lockerEnv+"="+inherits)
	l.cmd.ExtraFiles = files
	l.cmd.Stderr = os.Stderr
	var err error
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := l.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.stdout = bufio.NewReader(stdout)
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.kill)
	return l
}

// kill kills the process and waits until nothing of it is left.
func (l *locker) kill() {
	l.cmd.Process.Kill()
	l.cmd.Wait()
}

// start begins a call.
func (l *locker) start(c lockerCall) {
	l.t.Helper()
	line, err := json.Marshal(c)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := l.stdin.Write(append(line, '\n')); err != nil {
		l.t.Fatal(err)
	}
}

// result waits for the answer to the call that was begun.
func (l *locker) result() lockerAnswer {
	l.t.Helper()
	killer := time.AfterFunc(20*time.Second, func() { l.cmd.Process.Kill() })
	defer killer.Stop()
	line, err := l.stdout.ReadBytes('\n')
	if err != nil {
		l.t.Fatalf("no answer from a process that locks: %v", err)
	}
	var answer lockerAnswer
	if err := json.Unmarshal(line, &answer); err != nil {
		l.t.Fatalf("%s: %v", line, err)
	}
	return answer
}

func (l *locker) do(c lockerCall) lockerAnswer {
	l.t.Helper()
	l.start(c)
	return l.result()
}

func (l *locker) open(fd int, path string, flags int) {
	l.t.Helper()
	l.want(lockerCall{Call: "open", FD: fd, Path: path, Flags: flags}, 0)
}

func (l *locker) close(fd int) {
	l.t.Helper()
	l.want(lockerCall{Call: "close", FD: fd}, 0)
}

// lock is a call that takes a lock of the whole file, or gives it back.
func (l *locker) lock(fd int, sort lockSort, kind lockKind, want syscall.Errno) {
	l.t.Helper()
	l.want(lockerCall{Call: "lock", FD: fd, Sort: sort, Kind: kind}, want)
}

func (l *locker) want(c lockerCall, want syscall.Errno) {
	l.t.Helper()
	if got := l.do(c); got.Errno != want {
		l.t.Errorf("%+v: %v, want %v", c, got.Errno, want)
	}
}

// blocks begins to wait for a lock of the whole file, and returns when the process
// sleeps in the call.
func (l *locker) blocks(fd int, sort lockSort, kind lockKind) {
	l.t.Helper()
	l.start(lockerCall{Call: "lock", FD: fd, Sort: sort, Kind: kind, Wait: true})
	l.untilInSyscall(map[bool]int{true: unix.SYS_FLOCK, false: unix.SYS_FCNTL}[sort == sortFlock])
}

// untilInSyscall returns when some thread of the process is in a system call and
// has been asleep in it for two looks in a row.
func (l *locker) untilInSyscall(number int) {
	l.t.Helper()
	want, seen := fmt.Sprint(number, " "), 0
	for range 2000 {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", l.cmd.Process.Pid))
		found := false
		for _, task := range tasks {
			call, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/syscall", l.cmd.Process.Pid, task.Name()))
			found = found || len(call) > len(want) && string(call[:len(want)]) == want
		}
		if found {
			seen++
		} else {
			seen = 0
		}
		if seen == 2 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	l.t.Fatalf("process %d does not wait in system call %d", l.cmd.Process.Pid, number)
}
