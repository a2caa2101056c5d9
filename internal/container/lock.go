package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lockDir takes an exclusive flock on a directory; closing the file gives it
// back. Without wait, a lock that is taken is EWOULDBLOCK.
func lockDir(dir string, wait bool) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	how := unix.LOCK_EX
	if !wait {
		how |= unix.LOCK_NB
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
	}
	return f, nil
}

// lock makes sure that the container is there and that nobody mounts or
// removes it; closing the file gives the lock back. If a mount has it, that is
// a *MountedError at once, unless the mount is ending. Who has it otherwise is about
// to leave a record of a mount, or to give the lock back, as the kernel does for a
// process that was killed, only a moment after that is seen to be dead; so it waits
// a little.
func (ct *Container) lock(ctx context.Context) (*os.File, error) {
	for start := time.Now(); ; {
		f, err := lockDir(ct.dir, false)
		if err == nil {
			return ct.checkLocked(f)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("it has just been removed: %w", err)
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
		record, err := ct.all.run.read(string(ct.ID))
		if err != nil {
			return nil, err
		}
		holder, patience := Record{Name: ct.Name}, lostPatience
		if record != nil && record.Alive() {
			holder, patience = *record, record.patience()
		}
		if time.Since(start) >= patience {
			return nil, &MountedError{Record: holder}
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// checkLocked finds out whether the container was moved away, or given other
// layers, before its directory could be locked, and tidies up behind who died while
// he had the lock.
func (ct *Container) checkLocked(f *os.File) (*os.File, error) {
	config, err := readConfig(ct.dir)
	if err != nil {
		f.Close()
		if errors.Is(err, errNoContainer) {
			err = fmt.Errorf("it has just been removed: %w", os.ErrNotExist)
		}
		return nil, err
	}
	if !reflect.DeepEqual(config, ct.Config) {
		ct.Config = config
	}
	if err := ct.sweep(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// sweep removes uppers that no snapshot or rollback got away from, or to, and configs
// that were not finished.
func (ct *Container) sweep() error {
	entries, err := os.ReadDir(ct.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == filepath.Base(ct.UpperDir()) || name == filepath.Base(ct.WorkDir()):
		case strings.HasPrefix(name, upperName) || strings.HasPrefix(name, workName) || strings.HasPrefix(name, "."+configFile):
			if err := os.RemoveAll(filepath.Join(ct.dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
