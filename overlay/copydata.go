package overlay

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// copyChunk is how many bytes are copied between two looks at the context.
const copyChunk = 8 << 20

// copyData copies the first keep bytes (all if negative) of a lower file to the
// staged inode and, unless the FS is volatile, waits until they are on disk: on
// ext4 and its like a name that was moved in place can otherwise survive a power
// cut that its data does not.
func (f *FS) copyData(ctx context.Context, lower tree.ID, a *tree.Attr, to inode, keep int64) error {
	n := a.Size
	if keep >= 0 {
		n = min(n, keep)
	}
	if n == 0 {
		return nil
	}
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
	fd, err := to.open(unix.O_WRONLY)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(fd), to.name)
	defer dst.Close()
	if n < a.Size || unix.IoctlFileClone(fd, int(src.Fd())) != nil {
		if err := copyRanges(ctx, dst, src, n); err != nil {
			return err
		}
	}
	if !f.volatile {
		if err := unix.Fdatasync(fd); err != nil {
			return err
		}
	}
	return dst.Close() // a failed close is a failed write
}

// copyRanges copies n bytes and keeps holes holes.
func copyRanges(ctx context.Context, dst, src *os.File, n int64) error {
	if err := dst.Truncate(n); err != nil {
		return err
	}
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
			k, err := copyRange(dst, src, off, int(min(end-off, copyChunk)))
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

// copyRange copies up to n bytes at off, within the kernel if it can.
func copyRange(dst, src *os.File, off int64, n int) (int, error) {
	from, to := off, off
	k, err := unix.CopyFileRange(int(src.Fd()), &from, int(dst.Fd()), &to, n, 0)
	switch err {
	case nil:
		return k, nil
	case unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM:
	default:
		return 0, err
	}
	buf := make([]byte, min(n, 256<<10))
	k, err = src.ReadAt(buf, off)
	if err == io.EOF {
		err = nil // for the caller to see that nothing came
	}
	if k == 0 {
		return 0, err
	}
	return dst.WriteAt(buf[:k], off)
}
