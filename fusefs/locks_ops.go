package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

func (c *connection) GetLk(cancel <-chan struct{}, in *fuse.LkIn, out *fuse.LkOut) fuse.Status {
	h := c.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	r, ok := lockRequestOf(in, h, false)
	if !ok {
		return fuse.EINVAL
	}
	out.Lk = in.Lk
	out.Lk.Typ = syscall.F_UNLCK
	if l, found := c.locks.test(cancel, h.node.id, r); found {
		out.Lk = fuse.FileLock{Start: l.start, End: l.end, Typ: uint32(l.kind), Pid: l.pid}
	}
	return fuse.OK
}

func (c *connection) SetLk(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return c.setLock(cancel, in, false)
}

func (c *connection) SetLkw(cancel <-chan struct{}, in *fuse.LkIn) fuse.Status {
	return c.setLock(cancel, in, true)
}

func (c *connection) setLock(cancel <-chan struct{}, in *fuse.LkIn, wait bool) fuse.Status {
	h := c.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	r, ok := lockRequestOf(in, h, wait)
	if !ok {
		return fuse.EINVAL
	}
	return c.status("setlk", in.NodeId, c.locks.set(cancel, h.node.id, r))
}

func lockRequestOf(in *fuse.LkIn, h *fileHandle, wait bool) (lockRequest, bool) {
	r := lockRequest{
		lock: lock{
			start: in.Lk.Start, end: in.Lk.End, kind: lockKind(in.Lk.Typ),
			owner: in.Owner, pid: in.Lk.Pid, thread: in.Pid, holder: &h.locks,
		},
		flock: in.LkFlags&fuse.LK_FLOCK != 0,
		wait:  wait,
	}
	return r, r.start <= r.end && r.end <= lockEnd && in.Lk.Typ <= syscall.F_UNLCK
}

// dropLocks takes away the locks that were asked for through a handle of which
// RELEASE comes. Whatever request is read after that finds them gone.
func (c *connection) dropLocks(fh uint64) {
	if h := c.files.get(fh); h != nil {
		c.locks.released(h.node.id, &h.locks)
	}
}

// Flush is asked before close(2) returns, for each descriptor. The kernel does
// not ask it for handles that were opened with FOPEN_NOFLUSH.
func (c *connection) Flush(cancel <-chan struct{}, in *fuse.FlushIn) fuse.Status {
	h := c.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	c.locks.closed(h.node.id, &h.locks, in.LockOwner)
	return fuse.OK
}

// wantsFlush tells whether a handle that is opened now must hear of each close.
//
// A FLUSH costs a round trip, which is too much for every file that is opened,
// read and closed. Programs that lock mostly open O_RDWR, which POSIX asks for
// where both kinds of locks are wanted, or lock a file that has been locked
// before.
func (c *connection) wantsFlush(n *node, acc access) bool {
	return acc == syscall.O_RDWR || c.locks.seen(n.id)
}
