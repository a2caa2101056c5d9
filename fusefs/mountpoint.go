package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// CheckMountpoint tells why dir cannot be mounted on, nil if it can.
func CheckMountpoint(dir string) error {
	fi, err := os.Stat(dir)
	if err == nil {
		// A dead mount may still show the attributes that the kernel kept, but
		// statfs always asks.
		err = syscall.Statfs(dir, new(syscall.Statfs_t))
	}
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("mount %s: the process that served what is mounted there is gone; unmount it with `%s`: %w",
			dir, unmountCommand(dir, os.Geteuid() == 0), syscall.ENOTCONN)
	case err != nil:
		return fmt.Errorf("mount %s: %w", dir, err)
	case !fi.IsDir():
		return fmt.Errorf("mount %s: %w", dir, syscall.ENOTDIR)
	}
	return nil
}

func unmountCommand(dir string, root bool) string {
	if root {
		return "umount " + dir
	}
	return "fusermount3 -u " + dir
}

// explainMount says what to do about a mount that failed.
func explainMount(err error, root bool) error {
	switch {
	case root && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO)):
		return fmt.Errorf("is there a /dev/fuse, and the kernel's module fuse? %w", err)
	case root && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES)):
		return fmt.Errorf("may this process open /dev/fuse and mount (CAP_SYS_ADMIN)? %w", err)
	case !root && strings.HasPrefix(err.Error(), "fusermount exited"):
		return errors.New("fusermount3 refused; it said why on standard error")
	}
	return err
}

// BusyError is returned by Server.Unmount when somebody uses the mount. It wraps
// EBUSY.
type BusyError struct {
	Dir     string
	Holders []Holder // as far as this process may see them
}

// Holder is a process that uses a mount, and one path that it uses.
type Holder struct {
	PID     int
	Command string
	Path    string
}

func (e *BusyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "unmount %s: %v", e.Dir, syscall.EBUSY)
	for i, h := range e.Holders {
		sep := ", "
		if i == 0 {
			sep = ": in use by "
		}
		fmt.Fprintf(&b, "%s%s (pid %d, %s)", sep, h.Command, h.PID, h.Path)
	}
	return b.String()
}

func (e *BusyError) Unwrap() error { return syscall.EBUSY }

// Unmount unmounts and waits until nothing of the mount is left in this
// process. It is nil if the mount was gone already, and a *BusyError while
// somebody uses it.
func (s *Server) Unmount() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return nil
	default:
	}
	err := s.conn.Unmount()
	if err == nil {
		<-s.done
		return nil
	}
	if errors.Is(err, syscall.EINVAL) { // somebody else has unmounted it, perhaps lazily
		select {
		case <-s.done:
			return nil
		case <-time.After(time.Second):
			return fmt.Errorf("unmount %s: it was detached and is still in use: %w", s.dir, syscall.EBUSY)
		}
	}
	// fusermount3 says it in words.
	if errors.Is(err, syscall.EBUSY) || strings.Contains(err.Error(), "resource busy") {
		return &BusyError{Dir: s.dir, Holders: holders(s.dir)}
	}
	return fmt.Errorf("unmount %s: %w", s.dir, err)
}

// holders finds who has something below dir open, by the paths in /proc: to
// look at the files themselves would ask the very mount.
func holders(dir string) []Holder {
	var found []Holder
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		if path := usedBelow(pid, dir); path != "" {
			comm, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "comm"))
			found = append(found, Holder{PID: pid, Command: strings.TrimSpace(string(comm)), Path: path})
		}
	}
	return found
}

// usedBelow returns one path at or below dir that process pid uses, "" if there
// is none.
func usedBelow(pid int, dir string) string {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	below := func(path string) bool {
		return path == dir || strings.HasPrefix(path, dir+"/")
	}
	links := []string{"cwd", "root", "exe"}
	if fds, err := os.ReadDir(filepath.Join(proc, "fd")); err == nil {
		for _, fd := range fds {
			links = append(links, filepath.Join("fd", fd.Name()))
		}
	}
	for _, link := range links {
		if path, err := os.Readlink(filepath.Join(proc, link)); err == nil && below(path) {
			return path
		}
	}
	maps, _ := os.ReadFile(filepath.Join(proc, "maps"))
	for line := range strings.Lines(string(maps)) {
		if i := strings.IndexByte(line, '/'); i >= 0 {
			if path := strings.TrimSpace(line[i:]); below(path) {
				return path
			}
		}
	}
	return ""
}

// Detach unmounts at once for everybody who comes, and goes on serving those who
// use the mount; Wait returns when the last of them has left.
func (s *Server) Detach() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return nil
	default:
	}
	return s.detach()
}

func (s *Server) detach() error {
	if s.root {
		if err := syscall.Unmount(s.dir, syscall.MNT_DETACH); err != nil {
			return fmt.Errorf("detach %s: %w", s.dir, err)
		}
		return nil
	}
	out, err := exec.Command("fusermount3", "-u", "-z", "--", s.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("detach %s: %s: %w", s.dir, strings.TrimSpace(string(out)), err)
	}
	return nil
}
