package overlay

import (
	"context"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// File is an open regular file. What it reads and writes stays the same file for
// as long as it is open: a File on the lower goes on showing the lower after
// somebody else copied the file up.
type File struct {
	f     *FS
	id    ID
	node  *node // held; nil on the lower
	file  *os.File
	lower bool
}

// Open opens regular file id. A flag that asks for writing, or O_TRUNC, copies it
// up first; with O_TRUNC no data is copied.
func (f *FS) Open(ctx context.Context, id ID, flags int) (*File, error) {
	if flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0 {
		keep := int64(-1)
		if flags&unix.O_TRUNC != 0 {
			keep = 0
		}
		n, err := f.copyUp(ctx, id, keep)
		if err != nil {
			return nil, err
		}
		defer f.unref(n, 1)
		return f.openUpper(n, flags)
	}
	n, err := f.lookupNode(id)
	if err != nil {
		return nil, err
	}
	if n != nil && n.hasUpper() {
		return f.openUpper(n, flags)
	}
	lower, err := f.lower.Open(tree.ID(id))
	if err != nil {
		return nil, err
	}
	return &File{f: f, id: id, file: lower, lower: true}, nil
}

// openUpper opens a node that is in the upper.
func (f *FS) openUpper(n *node, flags int) (*File, error) {
	switch n.typ {
	case tree.ModeRegular:
	case tree.ModeDir:
		return nil, unix.EISDIR
	case tree.ModeSymlink:
		return nil, unix.ELOOP
	default:
		return nil, unix.ENXIO
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	at, err := f.at(n)
	if err != nil {
		return nil, err
	}
	defer f.done(at)
	// Callers give offsets, which a file opened for appending would ignore, and
	// buffers that lie anywhere, which O_DIRECT refuses.
	flags &= unix.O_ACCMODE | unix.O_TRUNC | unix.O_SYNC | unix.O_DSYNC
	if flags&unix.O_ACCMODE == unix.O_WRONLY {
		flags = flags&^unix.O_ACCMODE | unix.O_RDWR // half a page of a mapping must be read first
	}
	fd, err := at.open(flags)
	if err != nil {
		return nil, err
	}
	f.ref(n)
	return &File{f: f, id: n.id, node: n, file: os.NewFile(uintptr(fd), path.Base(at.procPath()))}, nil
}

// Close closes the file.
func (h *File) Close() error {
	err := h.file.Close()
	if h.node != nil {
		h.f.unref(h.node, 1)
	}
	return err
}

// Fd is the descriptor of the file that holds the data. It is the File's own and
// closed with it.
func (h *File) Fd() int { return int(h.file.Fd()) }

// OnLower tells whether the data is the lower's; such a File cannot be written.
func (h *File) OnLower() bool { return h.lower }

// ID is that of the open inode.
func (h *File) ID() ID { return h.id }

// ReadAt reads as pread(2) does; io.EOF at the end.
func (h *File) ReadAt(p []byte, off int64) (int, error) {
	n, err := unix.Pread(h.Fd(), p, off)
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return max(n, 0), err
}

// WriteAt writes as pwrite(2) does, all of p or an error.
func (h *File) WriteAt(p []byte, off int64) (int, error) {
	if h.lower {
		return 0, unix.EBADF
	}
	return h.file.WriteAt(p, off)
}

// Fallocate is fallocate(2).
func (h *File) Fallocate(off, length int64, mode uint32) error {
	if h.lower {
		return unix.EBADF
	}
	return unix.Fallocate(h.Fd(), mode, off, length)
}

// Lseek finds data and holes: SEEK_DATA and SEEK_HOLE.
func (h *File) Lseek(off int64, whence int) (int64, error) {
	return unix.Seek(h.Fd(), off, whence)
}

// CopyRange copies up to n bytes to another File, within the kernel.
func (h *File) CopyRange(off int64, to *File, toOff, n int64) (int64, error) {
	if to.lower {
		return 0, unix.EBADF
	}
	k, err := unix.CopyFileRange(h.Fd(), &off, to.Fd(), &toOff, int(min(n, 1<<30)), 0)
	return int64(max(k, 0)), err
}

// Sync makes what was written durable; with dataOnly as fdatasync(2) does.
func (h *File) Sync(dataOnly bool) error {
	switch {
	case h.lower:
		return nil
	case dataOnly:
		return unix.Fdatasync(h.Fd())
	}
	return unix.Fsync(h.Fd())
}
