package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"strata/fusefs"
)

// server is a process that serves a mount and ends with it.
type server struct {
	cmd  *exec.Cmd
	dir  string
	done chan struct{} // closed when the process has ended
	err  error         // how; set before done is closed

	mu     sync.Mutex // guards stderr, which is read while the process lives
	stderr bytes.Buffer
}

func (s *server) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stderr.Write(p)
}

func (s *server) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return lastLine(s.stderr.String())
}

const (
	mountPatience   = 30 * time.Second
	unmountPatience = 30 * time.Second
)

// serveView starts a program that stays in the foreground and serves dir, and
// returns the view when the mount is usable.
func serveView(ctx context.Context, dir string, cmd *exec.Cmd) (*View, error) {
	parent, err := device(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	s := &server{cmd: cmd, dir: dir, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s, s
	// Asked to end when we die by whatever means, it unmounts.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	go func() {
		s.err = cmd.Wait()
		close(s.done)
	}()
	for {
		if dev, err := device(dir); err == nil && dev != parent {
			break
		}
		switch {
		case s.ended():
			return nil, fmt.Errorf("%s: ended without a mount (%v): %s", cmd.Args[0], s.err, s.said())
		case ctx.Err() != nil:
			return nil, errors.Join(ctx.Err(), s.abort())
		case time.Since(start) > mountPatience:
			return nil, errors.Join(fmt.Errorf("%s: no mount after %s: %s", cmd.Args[0], mountPatience, s.said()), s.abort())
		}
		time.Sleep(50 * time.Microsecond)
	}
	return &View{Dir: dir, Servers: []int{cmd.Process.Pid}, Took: time.Since(start), close: s.stop}, nil
}

func (s *server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// stop unmounts and waits for the process.
func (s *server) stop() error {
	return errors.Join(unmount(s.dir), s.wait())
}

// abort ends a process that may or may not have mounted yet.
func (s *server) abort() error {
	err := s.cmd.Process.Signal(syscall.SIGTERM)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	err = errors.Join(err, s.wait())
	if mounted(s.dir) {
		err = errors.Join(err, detach(s.dir))
	}
	return err
}

// wait returns when the process has ended. One that does not end is killed.
func (s *server) wait() error {
	select {
	case <-s.done:
		return nil
	case <-time.After(unmountPatience):
	}
	err := fmt.Errorf("%s: process %d does not end, and was killed", s.cmd.Args[0], s.cmd.Process.Pid)
	if kill := s.cmd.Process.Kill(); kill != nil && !errors.Is(kill, os.ErrProcessDone) {
		return errors.Join(err, kill)
	}
	<-s.done
	if mounted(s.dir) {
		err = errors.Join(err, detach(s.dir))
	}
	return err
}

// device is the number of the filesystem that a directory shows.
func device(dir string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return 0, &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return st.Dev, nil
}

// unmount takes the mount at dir away, if there is one. What still uses it for
// longer than a moment loses it.
func unmount(dir string) error {
	const patience = 10 * time.Second
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := unmountOnce(dir)
		switch {
		case err == nil || !mounted(dir):
			return nil
		case time.Now().Before(end):
			continue
		}
		return errors.Join(fmt.Errorf("unmount %s: %w; it was detached", dir, err), detach(dir))
	}
}

func unmountOnce(dir string) error {
	if os.Geteuid() != 0 {
		return exec.Command("fusermount3", "-u", "--", dir).Run()
	}
	return unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
}

// detach takes a mount away that is in use, or that nobody serves.
func detach(dir string) error {
	if os.Geteuid() != 0 {
		return exec.Command("fusermount3", "-uz", "--", dir).Run()
	}
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH); err != nil {
		return &os.PathError{Op: "umount", Path: dir, Err: err}
	}
	return nil
}

// mounted tells whether dir is a mount point. No mount is asked, for its server
// may be dead.
func mounted(dir string) bool {
	list, err := fusefs.Mountpoints()
	return err != nil || slices.Contains(list, dir)
}

// mountsBelow lists the mount points in a directory, the latest first.
func mountsBelow(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	list, err := fusefs.Mountpoints()
	if err != nil {
		return nil, err
	}
	var below []string
	for _, at := range slices.Backward(list) {
		if strings.HasPrefix(at, dir+"/") {
			below = append(below, at)
		}
	}
	return below, nil
}
