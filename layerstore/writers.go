package layerstore

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// writersWatch finds out whether a file that is being read is being written.
type writersWatch struct {
	f    *os.File
	size int64
	st   unix.Stat_t
	open bool // for writing, at the beginning
}

func watchWriters(f *os.File) (*writersWatch, error) {
	w := &writersWatch{f: f, open: openForWriting(f)}
	if err := unix.Fstat(int(f.Fd()), &w.st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	w.size = w.st.Size
	return w, nil
}

// wrote tells whether somebody has or had the file open for writing or mapped
// so, or has changed it.
func (w *writersWatch) wrote() (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(w.f.Fd()), &st); err != nil {
		return false, &fs.PathError{Op: "stat", Path: w.f.Name(), Err: err}
	}
	return w.open || st.Size != w.st.Size || st.Mtim != w.st.Mtim || openForWriting(w.f), nil
}

// openForWriting asks the kernel, which gives a read lease only on a file that
// nobody has open for writing, in whatever process and through whatever mount, a
// shared mapping included. Where it gives none for other reasons, that is not
// known, and false.
func openForWriting(f *os.File) bool {
	fd := int(f.Fd())
	for {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
		switch {
		case err == unix.EINTR:
			continue
		case err == nil: // who opens it meanwhile waits until this is given back
			unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
			return false
		}
		return errors.Is(err, unix.EAGAIN)
	}
}
