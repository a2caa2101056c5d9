package overlay

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// copyChunk is how many bytes are copied between two looks at the context.
const copyChunk = 8 << 20

// bytes is how many of size bytes are wanted.
func (w dataWanted) bytes(size int64) int64 {
	if w >= 0 {
		return min(size, int64(w))
	}
	return size
}

// stageData copies what is wanted of a lower file's data to the staged inode.
func (f *FS) stageData(ctx context.Context, lower tree.ID, a *tree.Attr, to inode, keep dataWanted) error {
	n := keep.bytes(a.Size)
	if n == 0 {
		return nil
	}
	fd, err := to.open(unix.O_WRONLY)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(fd), to.name)
	defer dst.Close()
	if err := dst.Truncate(n); err != nil {
		return err
	}
	if err := f.copyData(ctx, lower, a, dst, n); err != nil {
		return err
	}
	return dst.Close() // a failed close is a failed write
}

// leaveData makes the staged inode one that has everything but its data.
func (f *FS) leaveData(a *tree.Attr, to inode) error {
	fd, err := to.open(unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, a.Size); err != nil {
		return err
	}
	return to.setxattr(f.up.format.namespace()+xMetacopy, nil, 0)
}

// bringData fetches what is wanted of the data of a node that was copied up
// without. It can be interrupted at any point: until the data is all there nobody
// looks at it; a file that is then shorter than the lower one has its data though
// the mark says that it has none (readMetacopy), and the mark goes last. The
// caller holds no lock.
func (f *FS) bringData(ctx context.Context, n *node, keep dataWanted) error {
	if keep == metadataOnly || !n.lacksData() {
		return nil
	}
	n.copyMu.Lock()
	defer n.copyMu.Unlock()
	if !n.lacksData() {
		return nil
	}
	w := f.watch()
	lower, err := f.lower.Attr(n.lower)
	if err != nil {
		return err
	}
	f.renameMu.RLock()
	at, err := f.at(n)
	if err != nil {
		f.renameMu.RUnlock()
		return err
	}
	fd, err := at.open(unix.O_RDWR) // which is n, whatever becomes of its names
	f.done(at)
	f.renameMu.RUnlock()
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	to := inode{fd: fd}
	a, err := f.up.attr(to)
	if err != nil {
		return err
	}
	size := keep.bytes(a.Size)
	if size > 0 {
		err := f.fillIn(ctx, n.lower, &lower, file, size)
		n.xattrsChanged() // capabilities were gone for a moment
		if err != nil {
			return errors.Join(err, to.utimes(&a.Atime, &a.Mtime))
		}
	}
	if size < a.Size {
		if err := file.Truncate(size); err != nil {
			return errors.Join(err, to.utimes(&a.Atime, &a.Mtime))
		}
	}
	if err := to.utimes(&a.Atime, &a.Mtime); err != nil {
		return err
	}
	if err := f.fixIno(n, to); err != nil { // the redirect goes, too
		return err
	}
	ns := f.up.format.namespace()
	if err := to.removexattr(ns + xMetacopy); err != nil && err != errNoXattr {
		return err
	}
	f.brought.Add(1) // while n is still in the tables
	n.mu.Lock()
	n.noData = false
	n.mu.Unlock()
	if err := to.removexattr(ns + xRedirect); err != nil && err != errNoXattr {
		return err
	}
	if w.on() {
		w.tell(Event{Op: OpCopyUp, Path: f.pathOf(n.id), Layer: LayerUpper, Bytes: size}, nil)
	}
	return nil
}

// fillIn copies data to a file that has its attributes already. Writing takes
// capabilities away, but nobody has written yet.
func (f *FS) fillIn(ctx context.Context, lower tree.ID, a *tree.Attr, dst *os.File, n int64) error {
	const capability = "security.capability"
	i := inode{fd: int(dst.Fd())}
	caps, capsErr := i.xattr(capability)
	err := f.copyData(ctx, lower, a, dst, n)
	if capsErr == nil {
		err = errors.Join(err, i.setxattr(capability, caps, 0))
	}
	return err
}

// copyData copies the first n bytes of a lower file to a file that has holes there
// and, unless the FS is volatile, waits until they are on disk: on ext4 and its
// like a name that was moved in place can otherwise survive a power cut that its
// data does not.
func (f *FS) copyData(ctx context.Context, lower tree.ID, a *tree.Attr, dst *os.File, n int64) error {
	src, err := f.lower.Open(lower)
	if err != nil {
		return err
	}
	defer src.Close()
	if is, err := src.Stat(); err != nil {
		return err
	} else if is.Size() < n {
		return unix.EIO // it is shorter than the lower says: not to be filled up with zeros
	}
	fd := int(dst.Fd())
	if n < a.Size || unix.IoctlFileClone(fd, int(src.Fd())) != nil {
		if err := copyRanges(ctx, dst, src, n); err != nil {
			return err
		}
	}
	if f.volatile {
		return nil
	}
	return unix.Fdatasync(fd)
}

// copyRanges copies n bytes to a file that is as long and leaves holes holes.
func copyRanges(ctx context.Context, dst, src *os.File, n int64) error {
	c := copier{dst: dst, src: src, size: n}
	for off := int64(0); off < n; {
		data, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // only a hole is left
		}
		if err != nil {
			data = off // no such seek here: all is data
		}
		hole, err := unix.Seek(int(src.Fd()), data, unix.SEEK_HOLE)
		if err != nil {
			hole = n
		}
		if off = data; off >= n {
			break
		}
		for end := min(hole, n); off < end; {
			if err := ctx.Err(); err != nil {
				return err
			}
			k, err := c.copy(off, int(min(end-off, copyChunk)))
			if err != nil {
				return err
			}
			if k == 0 {
				return unix.EIO // it was cut short meanwhile
			}
			off += int64(k)
		}
	}
	return nil
}

// copier copies ranges of a file to another, within the kernel if it can.
type copier struct {
	dst, src *os.File
	size     int64  // of all that is to be copied
	buf      []byte // it cannot: what it takes then
}

// copyBuffer is long enough for the system calls not to count.
const copyBuffer = 1 << 20

// copy copies up to n bytes at off.
func (c *copier) copy(off int64, n int) (int, error) {
	if c.buf == nil {
		from, to := off, off
		k, err := unix.CopyFileRange(int(c.src.Fd()), &from, int(c.dst.Fd()), &to, n, 0)
		switch err {
		case nil:
			return k, nil
		case unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM:
			c.buf = make([]byte, min(c.size, copyBuffer))
		default:
			return 0, err
		}
	}
	k, err := c.src.ReadAt(c.buf[:min(n, len(c.buf))], off)
	if err == io.EOF {
		err = nil // for the caller to see that nothing came
	}
	if k == 0 {
		return 0, err
	}
	return c.dst.WriteAt(c.buf[:k], off)
}
