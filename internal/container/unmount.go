package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// UnmountOptions say how a mount is ended.
type UnmountOptions struct {
	// Lazy takes a mount that is in use away from its directory at once. Its
	// process ends with its last user, and is not waited for.
	Lazy bool
}

// errNotHere is returned for a mount that this process does not see.
var errNotHere = errors.New("is not mounted where this command runs: it was unmounted lazily and is still in use, or it was mounted in another mount namespace")

// errNotMounted is returned for what is not mounted.
var errNotMounted = errors.New("is not mounted")

// Unmount ends the container's mount, whichever process serves it, and returns
// when everything written is in the upper and the process is gone. A
// *BusyError tells who still uses the mount. A dead mount is cleared away.
func (ct *Container) Unmount(ctx context.Context, o UnmountOptions) error {
	err := unmountRecorded(ctx, ct.all.run, string(ct.ID), o)
	switch {
	case errors.Is(err, errNotMounted):
		return fmt.Errorf("container %s %w", ct.Name, err)
	case err != nil:
		return fmt.Errorf("unmount container %s: %w", ct.Name, err)
	}
	return nil
}

// At finds the container that is mounted at dir; nil if there is none.
func (c *Containers) At(dir string) (*Container, error) {
	dir, err := resolveDir(dir)
	if err != nil {
		return nil, fmt.Errorf("find the mount at a directory: %w", err)
	}
	list, err := c.List()
	if err != nil {
		return nil, err
	}
	for _, ct := range list {
		record, err := c.run.read(string(ct.ID))
		if err == nil && record != nil && record.Mountpoint == dir {
			return ct, nil
		}
	}
	return nil, nil
}

// UnmountPlain ends a mount of plain directories.
func UnmountPlain(ctx context.Context, dir string, o UnmountOptions, runBase string) error {
	run, err := plainRun(runBase)
	if err != nil {
		return err
	}
	at, err := resolveDir(dir)
	if err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	err = unmountRecorded(ctx, run, hashName(at), o)
	switch {
	case errors.Is(err, errNotMounted):
		if list, err := mounts(); err == nil {
			if m := topMount(list, at); m != nil && m.fsType == fsType {
				return fmt.Errorf("%s is a mount of strata, but %s knows nothing of it: was it made with another STRATA_RUN or another store? umount(8) takes it away, too", dir, run)
			}
		}
		return fmt.Errorf("%s is no mount of strata", dir)
	case err != nil:
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// unmountRecorded ends the mount that the record speaks of and waits for its
// process.
func unmountRecorded(ctx context.Context, run runDir, key string, o UnmountOptions) error {
	record, err := run.read(key)
	if err != nil {
		return err
	}
	if record == nil {
		return errNotMounted
	}
	if !record.Alive() {
		return clearDead(run, key, slog.New(slog.DiscardHandler)) // as was asked for
	}
	// A handle on the process from before it can end: its number may be given
	// out again at any time.
	process, err := unix.PidfdOpen(record.PID, 0)
	if err == nil {
		defer unix.Close(process)
	} else if !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("watch process %d: %w", record.PID, err)
	}
	gone := err != nil
	wait := func(ctx context.Context) error {
		switch {
		case gone:
			return nil
		case record.Exits:
			return waitProcess(ctx, process, record.PID)
		}
		return run.waitGone(ctx, key, record)
	}
	err = unmountDir(record.Mountpoint, o.Lazy)
	if errors.Is(err, errNotHere) {
		// Unless it is elsewhere, somebody else was faster, and it is about to end.
		const patience = 2 * time.Second
		short, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		if wait(short) == nil {
			return nil
		}
	}
	if err != nil || o.Lazy {
		return err
	}
	return wait(ctx)
}

// waitProcess returns when the process behind the pidfd has ended.
func waitProcess(ctx context.Context, pidfd, pid int) error {
	const patience = 30 * time.Second
	const pause = 100 // milliseconds between looks at ctx
	for end := time.Now().Add(patience); time.Now().Before(end); {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, pause)
		switch {
		case n > 0:
			return nil
		case err != nil && err != unix.EINTR:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
	return fmt.Errorf("the mount is gone, but process %d has not ended within %s", pid, patience)
}

// unmountDir takes the mount at dir away. If it is in use, that is a
// *BusyError, unless lazy lets it go on for those who use it.
func unmountDir(dir string, lazy bool) error {
	err := unmountOnce(dir, lazy)
	// Whoever has just looked at a mount may hold it for a moment.
	for range 10 {
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if users := mountUsers(dir); len(users) > 0 {
			return &BusyError{Dir: dir, Users: users}
		}
		time.Sleep(10 * time.Millisecond)
		err = unmountOnce(dir, lazy)
	}
	if errors.Is(err, unix.EBUSY) {
		return &BusyError{Dir: dir, Users: mountUsers(dir)}
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
			return fmt.Errorf("%s %w", dir, errNotHere)
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
