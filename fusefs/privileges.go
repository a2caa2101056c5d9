package fusefs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/overlay"
	"strata/overlay/tree"
)

// With HANDLE_KILLPRIV_V2 the kernel leaves to us what write, truncate and
// chown take away: file capabilities always; set-id bits always on chown,
// otherwise when the request says that the process lacks CAP_FSETID. In exchange
// it does not ask for security.capability before every write. A set-gid bit
// without group execution goes only where the process is not in the file's group,
// which no request says.
//
// A node that may have something to take away when it is opened for writing is
// not opened in passthrough mode, where we would not see the write. For a file that
// is given bits while it is open in passthrough mode the kernel sends, before the
// next write, a SETATTR that sets nothing; not if they came through its other inode.

const xattrCapability = "security.capability"

// markPrivileged notes, when n is opened for writing, whether there is anything
// to take away.
func (c *connection) markPrivileged(n *node) error {
	a, err := c.fs.Getattr(n.id)
	if err != nil {
		return err
	}
	found := a.Mode&(syscall.S_ISUID|syscall.S_ISGID) != 0
	if !found && a.Mode&0o111 != 0 {
		if found, err = c.hasCapabilities(n.id); err != nil {
			return err
		}
	}
	if found {
		n.privileged.Store(true)
	}
	return nil
}

func (c *connection) hasCapabilities(id overlay.ID) (bool, error) {
	_, err := c.fs.Getxattr(id, xattrCapability)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.EOPNOTSUPP):
		return false, nil
	}
	return false, err
}

// killPrivileges takes capabilities away from id, and set-id bits if setID says
// so: the latter by completing s, which is about to be set.
func (c *connection) killPrivileges(ctx request, id overlay.ID, setID bool, s *overlay.SetAttr) error {
	a, err := c.fs.Getattr(id)
	if err != nil || !a.IsRegular() {
		return err
	}
	if mode := withoutSetID(ctx, &a); setID && s.Mode == nil && mode != a.Mode {
		mode &= tree.ModePerm
		s.Mode = &mode
	}
	if a.Mode&0o111 == 0 {
		return nil
	}
	has, err := c.hasCapabilities(id)
	if err != nil || !has {
		return err
	}
	err = c.fs.Removexattr(ctx, id, xattrCapability)
	if errors.Is(err, syscall.ENODATA) {
		return nil
	}
	return err
}

// chownToNobody completes s for a SETATTR that sets nothing. That is either
// chown(2) to user and group -1, which moves ctime and takes away what every chown
// does; or the kernel is about to send a write to a file that had capabilities: it has
// just removed them, and there is nothing more to do.
func (c *connection) chownToNobody(nid uint64, id overlay.ID, s *overlay.SetAttr) error {
	if n := c.nodes.find(nid); n != nil && n.capsRemoved.Swap(false) {
		return nil
	}
	a, err := c.fs.Getattr(id)
	if err == nil {
		s.UID, s.GID = &a.UID, &a.GID
	}
	return err
}

// withoutSetID takes the set-id bits out of a's mode.
func withoutSetID(by request, a *tree.Attr) uint32 {
	mode := a.Mode &^ syscall.S_ISUID
	if mode&syscall.S_ISGID != 0 && (mode&syscall.S_IXGRP != 0 || by.uid != 0 && !by.inGroup(a.GID)) {
		mode &^= syscall.S_ISGID
	}
	return mode
}

// written is called before data of n changes through a handle.
func (c *connection) written(ctx request, n *node, setID bool) fuse.Status {
	if !n.privileged.Load() {
		return fuse.OK
	}
	var s overlay.SetAttr
	if err := c.killPrivileges(ctx, n.id, setID, &s); err != nil {
		return c.status("write", n.nid, err)
	}
	if s.Mode != nil {
		if _, err := c.fs.Setattr(ctx, n.id, s); err != nil {
			return c.status("write", n.nid, err)
		}
	}
	if setID {
		n.privileged.Store(false)
	}
	c.kernel.dropAttr(n.nid) // or the kernel would go on with the mode that it knows, for exec too
	return fuse.OK
}
