package fusefs

import (
	"errors"
	"io"
	"math"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/overlay"
)

// overlayFlags are the flags of open(2) that the overlay is told. The kernel
// does the rest itself: it knows where O_APPEND writes go, and asks for FSYNC
// after O_SYNC ones.
const overlayFlags = syscall.O_ACCMODE | syscall.O_TRUNC

// Open opens a regular file. When it asks for a file that the kernel cannot
// have open besides what it has open on the node (the upper's, after a copy-up,
// while somebody reads the lower through passthrough), then the inode gets
// another node id: ESTALE makes the kernel look the name up again, and find it.
func (c *connection) Open(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	again := c.stale.take(in.Pid, in.NodeId)
	st := c.open(cancel, in, again, out)
	// Without any flag it is the kernel's own, for lsattr(1), and not tried again.
	if st == fuse.Status(syscall.ESTALE) && !again && in.Flags != 0 {
		c.stale.put(in.Pid, in.NodeId)
	}
	return st
}

// open answers an OPEN; again says that the process came by a descriptor, so
// that there is nothing but this node to open.
func (c *connection) open(cancel <-chan struct{}, in *fuse.OpenIn, again bool, out *fuse.OpenOut) fuse.Status {
	acc := accessOf(in.Flags)
	pin := c.nodes.pin
	if again {
		pin = c.nodes.pinAny
	}
	n := pin(in.NodeId, acc)
	if n == nil {
		return fuse.Status(syscall.ESTALE)
	}
	writes := acc.writes() || in.Flags&syscall.O_TRUNC != 0
	if !writes && !again {
		if f := c.takeKept(n); f != nil {
			return c.addHandle(n, f, acc, out)
		}
	}
	f, err := c.fs.Open(newRequest(cancel, &in.InHeader), n.id, int(in.Flags&overlayFlags))
	if err == nil && writes {
		err = c.opened(newRequest(cancel, &in.InHeader), n, in)
		if err != nil {
			f.Close()
		}
	}
	if err != nil {
		c.nodes.unpin(n, acc)
		return c.status("open", in.NodeId, err)
	}
	if again && !writes {
		f = c.asOpen(n, f)
	}
	return c.addHandle(n, f, acc, out)
}

// asOpen takes over f, which is to be opened on n once more, and returns it or,
// if n is open on the lower in passthrough mode, the lower's file: whoever opens
// a descriptor again to read sees what it shows.
func (c *connection) asOpen(n *node, f *overlay.File) *overlay.File {
	if !n.passesLower() || f.OnLower() {
		return f
	}
	lower, err := c.fs.OpenLower(n.id)
	if err != nil {
		c.log.Warn("a descriptor cannot be opened again", "op", "open", "node", n.nid, "err", err)
		return f
	}
	c.closeFile(n.nid, f)
	return lower
}

// opened does what opening for writing or with O_TRUNC needs done.
func (c *connection) opened(ctx request, n *node, in *fuse.OpenIn) error {
	if err := c.markPrivileged(n); err != nil {
		return err
	}
	if in.Flags&syscall.O_TRUNC == 0 || !n.privileged.Load() {
		return nil
	}
	var s overlay.SetAttr
	if err := c.killPrivileges(ctx, n.id, in.Mode&fuse.OPEN_KILL_SUIDGID != 0, &s); err != nil || s.Mode == nil {
		return err
	}
	_, err := c.fs.Setattr(ctx, n.id, s)
	c.kernel.dropAttr(n.nid)
	return err
}

// addHandle takes over f and n's pin and answers an open.
func (c *connection) addHandle(n *node, f *overlay.File, acc access, out *fuse.OpenOut) fuse.Status {
	flags, backing, ok := c.join(n, f, acc)
	if !ok {
		c.nodes.split(n)
		c.notes.send(note{n.nid, noteAttr})
		c.closeFile(n.nid, f)
		c.nodes.unpin(n, acc)
		return fuse.Status(syscall.ESTALE)
	}
	h := &fileHandle{node: n, file: f, lower: f.OnLower(), acc: acc}
	h.locks.announced = flags&fuse.FOPEN_NOFLUSH == 0
	fh, ok := c.files.add(h)
	if !ok {
		c.leave(n, f, acc)
		return fuse.Status(syscall.ENFILE)
	}
	if acc.maps() && flags&fuse.FOPEN_PASSTHROUGH != 0 {
		// From now on the file can change through a mapping, of which nobody
		// hears; what the kernel knows already must not count for good.
		c.kernel.dropAttr(n.nid)
	}
	out.Fh, out.OpenFlags, out.BackingID = fh, flags, backing
	return fuse.OK
}

func (c *connection) Create(cancel <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	mode, acl, err := c.inherit(overlay.ID(in.NodeId), in.Mode, in.Umask)
	if err != nil {
		return c.status("create", in.NodeId, err)
	}
	node, f, err := c.fs.Create(caller(&in.InHeader), overlay.ID(in.NodeId), name, mode)
	if err != nil {
		return c.status("create", in.NodeId, err)
	}
	return c.created(cancel, in, node, f, acl, out)
}

func (c *connection) Tmpfile(cancel <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	mode, acl, err := c.inherit(overlay.ID(in.NodeId), in.Mode, in.Umask)
	if err != nil {
		return c.status("tmpfile", in.NodeId, err)
	}
	node, f, err := c.fs.Tmpfile(caller(&in.InHeader), overlay.ID(in.NodeId), mode)
	if err != nil {
		return c.status("tmpfile", in.NodeId, err)
	}
	return c.created(cancel, in, node, f, acl, out)
}

// created takes over a new node and its open file and answers the request that
// made them.
func (c *connection) created(cancel <-chan struct{}, in *fuse.CreateIn, node overlay.Node, f *overlay.File, acl inheritance, out *fuse.CreateOut) fuse.Status {
	if st := c.applyACL(newRequest(cancel, &in.InHeader), &node, acl); !st.Ok() {
		f.Close()
		return st
	}
	c.entry(&node, &out.EntryOut)
	acc := accessOf(in.Flags)
	n := c.nodes.pin(out.NodeId, acc)
	if n == nil { // opened by somebody else and split since
		f.Close()
		c.Forget(out.NodeId, 1)
		return fuse.Status(syscall.ESTALE)
	}
	if acc.maps() {
		out.AttrValid = 0
	}
	if node.Attr.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0 {
		n.privileged.Store(true)
	}
	if st := c.addHandle(n, f, acc, &out.OpenOut); !st.Ok() {
		c.Forget(out.NodeId, 1)
		return st
	}
	return fuse.OK
}

// Release closes a handle. Nobody hears of an error: close(2) has returned.
func (c *connection) Release(cancel <-chan struct{}, in *fuse.ReleaseIn) {
	h := c.files.remove(in.Fh)
	if h == nil {
		return
	}
	c.leave(h.node, h.file, h.acc)
}

func (c *connection) closeFile(nid uint64, f *overlay.File) {
	if err := f.Close(); err != nil {
		c.log.Warn("close failed", "op", "release", "node", nid, "err", err)
	}
}

func (c *connection) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h := c.files.get(in.Fh)
	if h == nil {
		return nil, fuse.EBADF
	}
	n, err := h.source().ReadAt(buf, int64(in.Offset))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, c.status("read", in.NodeId, err)
	}
	return inPlace(buf[:n]), fuse.OK
}

// inPlace is data that stands in the answer already. fuse.ReadResultData would be
// copied over itself.
type inPlace []byte

func (d inPlace) Bytes([]byte) ([]byte, fuse.Status) { return d, fuse.OK }
func (d inPlace) Readv([][]byte) (int, fuse.Status)  { return len(d), fuse.OK }
func (d inPlace) Size() int                          { return len(d) }
func (d inPlace) Done()                              {}

func (c *connection) Write(cancel <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	h := c.files.get(in.Fh)
	if h == nil {
		return 0, fuse.EBADF
	}
	if st := c.written(newRequest(cancel, &in.InHeader), h.node, in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0); !st.Ok() {
		return 0, st
	}
	n, err := h.file.WriteAt(data, int64(in.Offset))
	if n == 0 && err != nil {
		return 0, c.status("write", in.NodeId, err)
	}
	return uint32(n), fuse.OK
}

func (c *connection) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	h := c.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	off, err := h.source().Lseek(int64(in.Offset), int(in.Whence))
	out.Offset = uint64(off)
	return c.status("lseek", in.NodeId, err)
}

func (c *connection) Fallocate(cancel <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	h := c.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	if st := c.written(newRequest(cancel, &in.InHeader), h.node, in.Uid != 0); !st.Ok() {
		return st
	}
	err := h.file.Fallocate(int64(in.Offset), int64(in.Length), in.Mode)
	return c.status("fallocate", in.NodeId, err)
}

// maxCopy is how much one COPY_FILE_RANGE moves at most: the reply has 32 bits
// for it, and an interrupt should not wait for long.
const maxCopy = 1 << 30

func (c *connection) CopyFileRange(cancel <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	from, to := c.files.get(in.FhIn), c.files.get(in.FhOut)
	if from == nil || to == nil {
		return 0, fuse.EBADF
	}
	if in.OffIn > math.MaxInt64 || in.OffOut > math.MaxInt64 {
		return 0, fuse.EINVAL
	}
	if st := c.written(newRequest(cancel, &in.InHeader), to.node, in.Uid != 0); !st.Ok() {
		return 0, st
	}
	n, err := from.source().CopyRange(int64(in.OffIn), to.file, int64(in.OffOut), int64(min(in.Len, maxCopy)))
	if n == 0 && err != nil {
		return 0, c.status("copy_file_range", in.NodeId, err)
	}
	return uint32(n), fuse.OK
}

// fsyncData is set in FsyncIn.FsyncFlags for fdatasync(2).
const fsyncData = 1

func (c *connection) Fsync(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h := c.files.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	return c.status("fsync", in.NodeId, h.file.Sync(in.FsyncFlags&fsyncData != 0))
}

// Ioctl knows no ioctl. ENOSYS would be told to processes as it is.
func (c *connection) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	return fuse.Status(syscall.ENOTTY)
}
