package layerstore

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockPause is how long to wait before asking for a lock again. flock(2) can
// wait by itself, but not until a context is done.
const lockPause = 5 * time.Millisecond

// lockDir opens the directory at path and locks it, how being unix.LOCK_SH or
// unix.LOCK_EX. Closing the file gives the lock back, as does the end of the
// process, however it comes.
func lockDir(ctx context.Context, path string, how int) (*os.File, error) {
	for {
		dir, err := tryLockDir(path, how)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return dir, err
		}
		select {
		case <-ctx.Done():
			return nil, &fs.PathError{Op: "lock", Path: path, Err: ctx.Err()}
		case <-time.After(lockPause):
		}
	}
}

// tryLockDir is lockDir that fails with EWOULDBLOCK rather than wait.
func tryLockDir(path string, how int) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(dir.Fd()), how|unix.LOCK_NB)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		dir.Close()
		return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
	}
	return dir, nil
}
