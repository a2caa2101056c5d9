package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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
	switch err := Unmount(s.dir, false); {
	case errors.Is(err, ErrNotMounted): // somebody else has unmounted it, perhaps lazily
		select {
		case <-s.done:
			return nil
		case <-time.After(time.Second):
			return fmt.Errorf("unmount %s: it was detached and is still in use: %w", s.dir, syscall.EBUSY)
		}
	case err != nil:
		return fmt.Errorf("unmount: %w", err)
	}
	<-s.done
	return nil
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
	return Unmount(s.dir, true)
}

// ErrNotMounted is returned by Unmount for a mount that this process does not see.
var ErrNotMounted = errors.New("is not mounted where this command runs: it was unmounted lazily and is still in use, or it was mounted in another mount namespace")

// Unmount takes the mount at dir away, whichever process serves it. If it is in
// use, that is a *BusyError, unless lazy lets it go on for those who use it.
func Unmount(dir string, lazy bool) error {
	err := unmountOnce(dir, lazy)
	// Whoever has just looked at a mount may hold it for a moment.
	for range 10 {
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if users := usersOf(dir); len(users) > 0 {
			return &BusyError{Dir: dir, Users: users}
		}
		time.Sleep(10 * time.Millisecond)
		err = unmountOnce(dir, lazy)
	}
	if errors.Is(err, unix.EBUSY) {
		return &BusyError{Dir: dir, Users: usersOf(dir)}
	}
	return err
}

func unmountOnce(dir string, lazy bool) error {
	if os.Geteuid() != 0 {
		return fusermount(dir, lazy)
	}
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	if err := unix.Unmount(dir, flags); err != nil {
		if err == unix.EINVAL || err == unix.ENOENT { // the default mount point goes with the mount
			return fmt.Errorf("%s %w", dir, ErrNotMounted)
		}
		return &os.PathError{Op: "umount", Path: dir, Err: err}
	}
	return nil
}

// fusermount unmounts on behalf of a user who may not.
func fusermount(dir string, lazy bool) error {
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	out, err := exec.Command("fusermount3", append(args, "--", dir)...).CombinedOutput()
	if err == nil {
		return nil
	}
	message := strings.TrimSpace(string(out))
	// Its exit status is the same for every failure; LANG is not obeyed.
	if strings.Contains(message, "busy") {
		return &os.PathError{Op: "umount", Path: dir, Err: unix.EBUSY}
	}
	return fmt.Errorf("fusermount3: %w: %s", err, message)
}
