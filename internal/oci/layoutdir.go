package oci

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// layoutDir is a directory's regular files. Links are followed as long as they
// stay below the root. O_NONBLOCK because the opening of a FIFO would wait for
// its other end before anybody could see that it is one; for a regular file it
// means nothing.
type layoutDir struct{ root *os.Root }

// Open implements fs.FS.
func (d layoutDir) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errors.New("not a regular file")}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
