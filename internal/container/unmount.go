package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"strata/fusefs"
)

// UnmountOptions say how a mount is ended.
type UnmountOptions struct {
	// Lazy takes a mount that is in use away from its directory at once. Its
	// process ends with its last user, and is not waited for.
	Lazy bool
}

// errNotMounted is returned for what is not mounted.
var errNotMounted = errors.New("is not mounted")

// Unmount ends the container's mount, whichever process serves it, and returns
// when everything written is in the upper and the process is gone. A
// *fusefs.BusyError tells who still uses the mount. A dead mount is cleared away.
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
		if mounted, _, err := fusefs.At(at); err == nil && mounted {
			return fmt.Errorf("%s is a mount of strata, but %s knows nothing of it: was it made with another STRATA_RUN or another store? umount(8) takes it away, too", dir, run)
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
	err = fusefs.Unmount(record.Mountpoint, o.Lazy)
	if errors.Is(err, fusefs.ErrNotMounted) {
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
