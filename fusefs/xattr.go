package fusefs

import (
	"errors"
	"slices"
	"strings"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// An answer to a question with no room for it is its size alone.

func (c *connection) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	id, ok := c.nodes.id(h.NodeId)
	if !ok {
		return 0, fuse.Status(syscall.ESTALE)
	}
	value, err := c.fs.Getxattr(id, name)
	if err != nil {
		return 0, c.status("getxattr", h.NodeId, err)
	}
	if len(dest) > 0 && len(dest) < len(value) {
		return uint32(len(value)), fuse.ERANGE
	}
	copy(dest, value)
	return uint32(len(value)), fuse.OK
}

func (c *connection) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	id, ok := c.nodes.id(h.NodeId)
	if !ok {
		return 0, fuse.Status(syscall.ESTALE)
	}
	names, err := c.fs.Listxattr(id)
	if err != nil {
		return 0, c.status("listxattr", h.NodeId, err)
	}
	if h.Uid != 0 { // getxattr(2) the kernel refuses by itself
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return strings.HasPrefix(name, "trusted.") })
	}
	size := 0
	for _, name := range names {
		size += len(name) + 1
	}
	if len(dest) == 0 {
		return uint32(size), fuse.OK
	}
	if len(dest) < size {
		return uint32(size), fuse.ERANGE
	}
	dest = dest[:0]
	for _, name := range names {
		dest = append(dest, name...)
		dest = append(dest, 0)
	}
	return uint32(size), fuse.OK
}

func (c *connection) SetXAttr(cancel <-chan struct{}, in *fuse.SetXAttrIn, name string, value []byte) fuse.Status {
	id, ok := c.nodes.id(in.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	// The request's memory is used again, and the overlay may keep the value.
	value = append([]byte(nil), value...)
	err := c.fs.Setxattr(newRequest(cancel, &in.InHeader), id, name, value, int(in.Flags))
	if err == nil && name == xattrAccessACL {
		err = c.accessACLSet(newRequest(cancel, &in.InHeader), id, value, in.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0)
	}
	if err != nil {
		return c.status("setxattr", in.NodeId, err)
	}
	c.xattrChanged(in.NodeId, name)
	return fuse.OK
}

func (c *connection) RemoveXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	id, ok := c.nodes.id(h.NodeId)
	if !ok {
		return fuse.Status(syscall.ESTALE)
	}
	err := c.fs.Removexattr(newRequest(cancel, h), id, name)
	if errors.Is(err, syscall.ENODATA) && (name == xattrAccessACL || name == xattrDefaultACL) {
		return fuse.OK // an ACL is there or not, and then it is not
	}
	if err != nil {
		return c.status("removexattr", h.NodeId, err)
	}
	c.xattrChanged(h.NodeId, name)
	if n := c.nodes.find(h.NodeId); n != nil && name == xattrCapability {
		n.capsRemoved.Store(true)
	}
	return fuse.OK
}

// xattrChanged tells the inode's other kernel inodes, which remember ACLs and
// times, and whoever has it open for writing.
func (c *connection) xattrChanged(nid uint64, name string) {
	if name == xattrCapability {
		if n := c.nodes.find(nid); n != nil {
			n.privileged.Store(true)
		}
	}
	for _, other := range c.nodes.others(nid) {
		c.notes.send(note{other, noteAttr})
	}
}
