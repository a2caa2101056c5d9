package fusefs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/overlay"
)

// Directories have no aliases, so that the node id of one is its overlay.ID.

func caller(h *fuse.InHeader) overlay.Caller { return overlay.Caller{UID: h.Uid, GID: h.Gid} }

func (c *connection) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	c.stale.take(h.Pid, 0) // an OPEN that was ESTALE came by this name
	node, err := c.fs.Lookup(overlay.ID(h.NodeId), name)
	if err != nil {
		if !c.opts.Observe && errors.Is(err, syscall.ENOENT) {
			// Node id 0 is an entry that says that there is nothing, and can
			// be kept, as ENOENT cannot.
			out.EntryValid = forever
			return fuse.OK
		}
		return c.status("lookup", h.NodeId, err)
	}
	c.entry(&node, out)
	return fuse.OK
}

func (c *connection) Forget(nid, n uint64) {
	if id, ok := c.nodes.forget(nid, n); ok {
		if !c.nodes.isSplit(id) { // or the kernel knows it by another id still
			c.locks.forget(id)
		}
		c.fs.Forget(id, n)
	}
}

func (c *connection) Mkdir(cancel <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	mode, acl, err := c.inherit(overlay.ID(in.NodeId), in.Mode|syscall.S_IFDIR, in.Umask)
	if err != nil {
		return c.status("mkdir", in.NodeId, err)
	}
	node, err := c.fs.Mkdir(caller(&in.InHeader), overlay.ID(in.NodeId), name, mode)
	if err != nil {
		return c.status("mkdir", in.NodeId, err)
	}
	if st := c.applyACL(newRequest(cancel, &in.InHeader), &node, acl); !st.Ok() {
		return st
	}
	c.entry(&node, out)
	return fuse.OK
}

func (c *connection) Mknod(cancel <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	mode, acl, err := c.inherit(overlay.ID(in.NodeId), in.Mode, in.Umask)
	if err != nil {
		return c.status("mknod", in.NodeId, err)
	}
	node, err := c.fs.Mknod(caller(&in.InHeader), overlay.ID(in.NodeId), name, mode, uint64(in.Rdev))
	if err != nil {
		return c.status("mknod", in.NodeId, err)
	}
	if st := c.applyACL(newRequest(cancel, &in.InHeader), &node, acl); !st.Ok() {
		return st
	}
	c.entry(&node, out)
	return fuse.OK
}

func (c *connection) Symlink(cancel <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	node, err := c.fs.Symlink(caller(h), overlay.ID(h.NodeId), name, target)
	if err != nil {
		return c.status("symlink", h.NodeId, err)
	}
	c.entry(&node, out)
	return fuse.OK
}

func (c *connection) Readlink(cancel <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	target, err := c.fs.Readlink(overlay.ID(h.NodeId))
	if err != nil {
		return nil, c.status("readlink", h.NodeId, err)
	}
	return []byte(target), fuse.OK
}

func (c *connection) Link(cancel <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	id, ok := c.nodes.id(in.Oldnodeid)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	node, err := c.fs.Link(newRequest(cancel, &in.InHeader), id, overlay.ID(in.NodeId), name)
	if err != nil {
		return c.status("link", in.NodeId, err)
	}
	c.entry(&node, out)
	return fuse.OK
}

func (c *connection) Unlink(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return c.status("unlink", h.NodeId, c.fs.Unlink(overlay.ID(h.NodeId), name))
}

func (c *connection) Rmdir(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return c.status("rmdir", h.NodeId, c.fs.Rmdir(overlay.ID(h.NodeId), name))
}

func (c *connection) Rename(cancel <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	err := c.fs.Rename(newRequest(cancel, &in.InHeader), overlay.ID(in.NodeId), oldName, overlay.ID(in.Newdir), newName, in.Flags)
	return c.status("rename", in.NodeId, err)
}

func (c *connection) FsyncDir(cancel <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	return c.status("fsyncdir", in.NodeId, c.fs.Fsyncdir(overlay.ID(in.NodeId)))
}
