package fusefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		err  error
		want syscall.Errno
		logs bool
	}{
		{nil, 0, false},
		{syscall.ENOENT, syscall.ENOENT, false},
		{&fs.PathError{Op: "open", Path: "p", Err: syscall.ENOSPC}, syscall.ENOSPC, false},
		{fmt.Errorf("read layer: %w", syscall.EIO), syscall.EIO, false},
		{fmt.Errorf("copy up: %w", context.Canceled), syscall.EINTR, false},
		{fs.ErrNotExist, syscall.ENOENT, false},
		{fs.ErrClosed, syscall.EBADF, false},
		{syscall.ENOSYS, syscall.EOPNOTSUPP, false}, // the kernel would never ask again
		{errors.ErrUnsupported, syscall.EOPNOTSUPP, false},
		{syscall.Errno(0), syscall.EIO, true},
		{syscall.Errno(512), syscall.EIO, true}, // the kernel drops a reply with it
		{errors.New("strange"), syscall.EIO, true},
	} {
		var log strings.Builder
		c2 := &connection{log: slog.New(slog.NewTextHandler(&log, nil))}
		if got := c2.status("lookup", 7, c.err); got != fuse.Status(c.want) {
			t.Errorf("%v becomes %v, want %v", c.err, got, c.want)
		}
		logged := strings.Contains(log.String(), "op=lookup node=7")
		if logged != c.logs {
			t.Errorf("%v: log is %q", c.err, log.String())
		}
	}
}
