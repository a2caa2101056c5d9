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
	node  *node // held; nil for a lower-only inode
	file  *os.File
	lower bool
	data  tree.ID // whose data it is; valid if lower
}

func (f *FS) openFile(ctx context.Context, id ID, flags int) (*File, error) {
	typ, err := f.typeOf(id)
	if err != nil {
		return nil, err
	}
	if err := canOpen(typ); err != nil {
		return nil, err
	}
	if flags&unix.O_ACCMODE != unix.O_RDONLY || flags&unix.O_TRUNC != 0 {
		keep := allData
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
	n, err := f.holdNode(id)
	if err != nil {
		return nil, err
	}
	data := tree.ID(id)
	if n != nil {
		defer f.unref(n, 1)
		if n.hasUpper() {
			if !n.lacksData() {
				return f.openUpper(n, flags)
			}
			data = n.lower
		}
	}
	return f.openLower(id, n, data)
}

// OpenLower opens, to read, what an inode of the lower showed before it was
// copied up: the file that those have open who opened it before.
func (f *FS) OpenLower(id ID) (*File, error) {
	n, err := f.holdNode(id)
	if err != nil {
		return nil, err
	}
	data := tree.ID(id)
	if n != nil {
		defer f.unref(n, 1)
		data = n.lower
	}
	if data == tree.None {
		return nil, unix.ENOENT
	}
	return f.openLower(id, n, data)
}

// openLower opens data of the lower as that of inode id, whose node n is nil if
// it has none.
func (f *FS) openLower(id ID, n *node, data tree.ID) (*File, error) {
	lower, err := f.lower.Open(data)
	if err != nil {
		return nil, err
	}
	if n != nil {
		f.ref(n)
	}
	return &File{f: f, id: id, node: n, file: lower, lower: true, data: data}, nil
}

// canOpen refuses what is no regular file.
func canOpen(typ uint32) error {
	switch typ {
	case tree.ModeRegular:
		return nil
	case tree.ModeDir:
		return unix.EISDIR
	case tree.ModeSymlink:
		return unix.ELOOP
	}
	return unix.ENXIO
}

// openUpper opens a regular file that is in the upper.
func (f *FS) openUpper(n *node, flags int) (*File, error) {
	// Callers give offsets, which a file opened for appending would ignore, and
	// buffers that lie anywhere, which O_DIRECT refuses.
	flags &= unix.O_ACCMODE | unix.O_TRUNC | unix.O_SYNC | unix.O_DSYNC
	if flags&unix.O_ACCMODE == unix.O_WRONLY {
		flags = flags&^unix.O_ACCMODE | unix.O_RDWR // half a page of a mapping must be read first
	}
	file, err := f.openUpperFile(n, flags)
	if err != nil {
		return nil, err
	}
	f.ref(n)
	return &File{f: f, id: n.id, node: n, file: file}, nil
}

// openUpperFile opens the data of a node that is held.
func (f *FS) openUpperFile(n *node, flags int) (*os.File, error) {
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	at, err := f.at(n)
	if err != nil {
		return nil, err
	}
	defer f.done(at)
	fd, err := at.open(flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path.Base(at.procPath())), nil
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

// Current tells whether who opens the inode now, to read, gets the same data.
func (h *File) Current() bool {
	if !h.lower {
		return true
	}
	n, err := h.f.lookupNode(h.id)
	return err == nil && (n == nil || !n.hasUpper() || n.lacksData())
}

// Again tells whether the File is Current; then it stands for one more open and is
// told as such.
func (h *File) Again() bool {
	w := h.f.watch()
	current := h.Current()
	if current && w.on() {
		w.tell(Event{Op: OpOpen, Path: h.f.pathOf(h.id), To: flagString(unix.O_RDONLY), Layer: h.f.layerOfFile(h)}, nil)
	}
	return current
}

// ReadAt reads as pread(2) does; io.EOF at the end.
func (h *File) ReadAt(p []byte, off int64) (int, error) {
	w := h.f.watch()
	n, err := unix.Pread(h.Fd(), p, off)
	if w.on() {
		w.tell(Event{Op: OpRead, Path: h.f.pathOf(h.id), Layer: h.f.layerOfFile(h), Bytes: int64(max(n, 0))}, err)
	}
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
	w := h.f.watch()
	n, err := h.file.WriteAt(p, off)
	if w.on() {
		w.tell(Event{Op: OpWrite, Path: h.f.pathOf(h.id), Layer: LayerUpper, Bytes: int64(n)}, err)
	}
	return n, err
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
	if h.lower {
		return nil
	}
	w := h.f.watch()
	sync := unix.Fsync
	if dataOnly {
		sync = unix.Fdatasync
	}
	err := sync(h.Fd())
	if w.on() {
		w.tell(Event{Op: OpFsync, Path: h.f.pathOf(h.id), Layer: LayerUpper}, err)
	}
	return err
}
