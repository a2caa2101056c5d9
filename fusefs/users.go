package fusefs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A BusyError says that a mount cannot be unmounted because it is in use. It
// wraps EBUSY.
type BusyError struct {
	Dir   string
	Users []User
}

// User is one process that keeps a mount busy.
type User struct {
	PID     int // 0: no process, but a mount on top
	Command string
	How     string // such as: its working directory is /mnt/etc
}

func (u User) String() string {
	switch u.PID {
	case 0:
		return u.How
	case os.Getpid():
		return "this command itself: " + u.How
	}
	return fmt.Sprintf("process %d (%s): %s", u.PID, u.Command, u.How)
}

func (e *BusyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is in use", e.Dir)
	if len(e.Users) == 0 {
		b.WriteString(", by processes that cannot be seen from here")
	}
	const most = 5
	for i, u := range e.Users {
		if i == most {
			fmt.Fprintf(&b, "\n  and %d more", len(e.Users)-most)
			break
		}
		fmt.Fprintf(&b, "\n  %s", u)
	}
	return b.String()
}

func (e *BusyError) Unwrap() error { return syscall.EBUSY }

// usersOf looks for what keeps the mount at dir busy: working and root
// directories, open files, mappings, and mounts on top of it. It only reads
// links and lists in /proc, never the mount, which might not answer.
func usersOf(dir string) []User {
	var users []User
	if list, err := mounts(); err == nil {
		if m := topMount(list, dir); m != nil {
			for _, sub := range list {
				if sub.parent == m.id {
					users = append(users, User{How: "another mount lies on it at " + sub.dir})
				}
			}
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range processes {
		if how := howUsed(proc, dir); how != "" {
			pid, _ := strconv.Atoi(filepath.Base(proc))
			command, _ := os.ReadFile(filepath.Join(proc, "comm"))
			users = append(users, User{PID: pid, Command: strings.TrimSpace(string(command)), How: how})
		}
	}
	return users
}

// howUsed names the first way in which a process uses what is at or below dir.
func howUsed(proc, dir string) string {
	for _, l := range []struct{ link, how string }{
		{"cwd", "its working directory is "},
		{"root", "its root directory is "},
		{"exe", "runs "},
	} {
		if target, err := os.Readlink(filepath.Join(proc, l.link)); err == nil && within(target, dir) {
			return l.how + target
		}
	}
	fds, _ := os.ReadDir(filepath.Join(proc, "fd"))
	for _, fd := range fds {
		if target, err := os.Readlink(filepath.Join(proc, "fd", fd.Name())); err == nil && filepath.IsAbs(target) && within(target, dir) {
			return "has open " + target
		}
	}
	maps, _ := os.ReadFile(filepath.Join(proc, "maps"))
	for line := range bytes.Lines(maps) {
		if i := bytes.IndexByte(line, '/'); i >= 0 {
			if target := strings.TrimSpace(string(line[i:])); within(target, dir) {
				return "has mapped " + target
			}
		}
	}
	return ""
}
