package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"strata/overlay"
	"strata/overlay/tree"
)

// forever is a timeout in seconds for what does not change but through this
// mount.
const forever = 1 << 32

// blockSize is st_blksize of every file.
const blockSize = 4096

// entry fills the reply that gives the kernel a reference to node.
func (c *connection) entry(node *overlay.Node, out *fuse.EntryOut) {
	nid, volatile := c.nodes.hand(node.ID)
	out.NodeId = nid
	out.Generation = node.Generation
	if !c.opts.Observe {
		out.EntryValid = forever
		if !volatile {
			out.AttrValid = forever
		}
	}
	fillAttr(&node.Attr, &out.Attr)
}

// attr fills the reply that gives the attributes of nid.
func (c *connection) attr(nid uint64, a *tree.Attr, out *fuse.AttrOut) {
	if !c.opts.Observe && !c.nodes.volatile(nid) {
		out.AttrValid = forever
	}
	fillAttr(a, &out.Attr)
}

func fillAttr(a *tree.Attr, out *fuse.Attr) {
	*out = fuse.Attr{
		Ino:       a.Ino,
		Size:      uint64(a.Size),
		Blocks:    a.Blocks,
		Atime:     uint64(a.Atime.Sec),
		Atimensec: a.Atime.Nsec,
		Mtime:     uint64(a.Mtime.Sec),
		Mtimensec: a.Mtime.Nsec,
		Ctime:     uint64(a.Ctime.Sec),
		Ctimensec: a.Ctime.Nsec,
		Mode:      a.Mode,
		Nlink:     a.Nlink,
		Owner:     fuse.Owner{Uid: a.UID, Gid: a.GID},
		// The kernel's 32-bit encoding is the low half of the C library's for
		// every device number that the kernel knows.
		Rdev:    uint32(a.Rdev),
		Blksize: blockSize,
	}
}

func (c *connection) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	id, ok := c.nodes.id(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	a, err := c.fs.Getattr(id)
	if err != nil {
		return c.status("getattr", in.NodeId, err)
	}
	c.attr(in.NodeId, &a, out)
	return fuse.OK
}

// Statx is what the kernel asks instead of GETATTR when a process wants to know
// when a file was made; it remembers the answer, also that nobody knows.
func (c *connection) Statx(cancel <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	id, ok := c.nodes.id(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	a, err := c.fs.Getattr(id)
	if err != nil {
		return c.status("statx", in.NodeId, err)
	}
	if !c.opts.Observe && !c.nodes.volatile(in.NodeId) {
		out.AttrValid = forever
	}
	out.Statx = fuse.Statx{
		Mask:      unix.STATX_BASIC_STATS,
		Ino:       a.Ino,
		Size:      uint64(a.Size),
		Blocks:    a.Blocks,
		Blksize:   blockSize,
		Mode:      uint16(a.Mode),
		Nlink:     a.Nlink,
		Uid:       a.UID,
		Gid:       a.GID,
		Atime:     fuse.SxTime{Sec: uint64(a.Atime.Sec), Nsec: a.Atime.Nsec},
		Mtime:     fuse.SxTime{Sec: uint64(a.Mtime.Sec), Nsec: a.Mtime.Nsec},
		Ctime:     fuse.SxTime{Sec: uint64(a.Ctime.Sec), Nsec: a.Ctime.Nsec},
		RdevMajor: unix.Major(a.Rdev),
		RdevMinor: unix.Minor(a.Rdev),
	}
	if born, known := c.fs.Btime(id); known {
		out.Mask |= unix.STATX_BTIME
		out.Btime = fuse.SxTime{Sec: uint64(born.Sec), Nsec: born.Nsec}
	}
	return fuse.OK
}

func (c *connection) SetAttr(cancel <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	id, ok := c.nodes.id(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	var s overlay.SetAttr
	if mode, ok := in.GetMode(); ok {
		s.Mode = &mode
	}
	if uid, ok := in.GetUID(); ok {
		s.UID = &uid
	}
	if gid, ok := in.GetGID(); ok {
		s.GID = &gid
	}
	if size, ok := in.GetSize(); ok {
		n := int64(size)
		s.Size = &n
	}
	s.Atime = setTime(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec)
	s.Mtime = setTime(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec)

	if s == (overlay.SetAttr{}) {
		if err := c.chownToNobody(in.NodeId, id, &s); err != nil {
			return c.status("setattr", in.NodeId, err)
		}
	}
	chown := s.UID != nil || s.GID != nil
	if chown || s.Size != nil {
		if err := c.killPrivileges(newRequest(cancel, &in.InHeader), id, chown || in.Valid&fuse.FATTR_KILL_SUIDGID != 0, &s); err != nil {
			return c.status("setattr", in.NodeId, err)
		}
	}
	a, err := c.fs.Setattr(newRequest(cancel, &in.InHeader), id, s)
	if err == nil && s.Mode != nil {
		err = c.chmodACL(newRequest(cancel, &in.InHeader), id, &a)
	}
	if err != nil {
		return c.status("setattr", in.NodeId, err)
	}
	c.changed(in.NodeId, &a, s.Size != nil)
	c.attr(in.NodeId, &a, out)
	return fuse.OK
}

// setTime reads one time of a SETATTR request; nil if it is to stay.
func setTime(valid, set, now uint32, sec uint64, nsec uint32) *tree.Time {
	switch {
	case valid&set == 0:
		return nil
	case valid&now == 0:
		return &tree.Time{Sec: int64(sec), Nsec: nsec}
	}
	// The clock that the kernel stamps files with; a finer one would run ahead.
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts); err != nil {
		return nil
	}
	return &tree.Time{Sec: ts.Sec, Nsec: uint32(ts.Nsec)}
}

// changed is called after attributes of nid were changed by name, not through
// a handle; resized tells whether the size was.
func (c *connection) changed(nid uint64, a *tree.Attr, resized bool) {
	if n := c.nodes.find(nid); n != nil {
		if a.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0 {
			n.privileged.Store(true)
		}
		if resized {
			c.rebase(n)
		}
	}
	what := noteAttr
	if resized {
		what = noteData
	}
	for _, other := range c.nodes.others(nid) {
		c.notes.send(note{other, what})
	}
}

func (c *connection) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	s, err := c.fs.Statfs()
	if err != nil {
		return c.status("statfs", in.NodeId, err)
	}
	*out = fuse.StatfsOut{
		Blocks:  s.Blocks,
		Bfree:   s.Bfree,
		Bavail:  s.Bavail,
		Files:   s.Files,
		Ffree:   s.Ffree,
		Bsize:   s.Bsize,
		Frsize:  s.Bsize,
		NameLen: s.Namelen,
	}
	return fuse.OK
}
