package fusefs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// errnoTable says which errno the kernel is told for errors that carry none.
// The first line that matches counts.
var errnoTable = []struct {
	err   error
	errno syscall.Errno
}{
	{context.Canceled, syscall.EINTR},
	{context.DeadlineExceeded, syscall.ETIMEDOUT},
	{fs.ErrNotExist, syscall.ENOENT},
	{fs.ErrExist, syscall.EEXIST},
	{fs.ErrPermission, syscall.EACCES},
	{fs.ErrInvalid, syscall.EINVAL},
	{fs.ErrClosed, syscall.EBADF},
	{errors.ErrUnsupported, syscall.EOPNOTSUPP},
}

// maxErrno is the largest errno that the kernel takes in a reply; it drops
// replies with a larger one, and the caller would hang.
const maxErrno = 511

// status turns what the overlay answered into what the kernel is told. What
// the table does not know becomes EIO, and a line in the log.
func (c *connection) status(op string, node uint64, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	errno, ok := err.(syscall.Errno)
	if !ok {
		ok = errors.As(err, &errno)
	}
	if ok && errno == syscall.ENOSYS {
		// In a reply it means "never ask me this again".
		errno = syscall.EOPNOTSUPP
	}
	if ok && errno > 0 && errno <= maxErrno {
		return fuse.Status(errno)
	}
	for _, line := range errnoTable {
		if errors.Is(err, line.err) {
			return fuse.Status(line.errno)
		}
	}
	c.log.Error("error without an errno becomes EIO", "op", op, "node", node, "err", err)
	return fuse.EIO
}
