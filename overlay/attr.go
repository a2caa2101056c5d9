package overlay

import (
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// asErrno finds the errno that an error carries.
func asErrno(err error) (syscall.Errno, bool) {
	if errno, ok := err.(syscall.Errno); ok { // nearly always
		return errno, true
	}
	var errno syscall.Errno
	ok := errors.As(err, &errno)
	return errno, ok
}

// Getattr returns the attributes of id.
func (f *FS) Getattr(id ID) (tree.Attr, error) {
	n, err := f.lookupNode(id)
	if err != nil {
		return tree.Attr{}, err
	}
	if n == nil {
		return f.lower.Attr(tree.ID(id))
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	return f.nodeAttr(n)
}

// nodeAttr returns the attributes of a node. The caller holds renameMu and no
// dirMu of n or a parent.
func (f *FS) nodeAttr(n *node) (tree.Attr, error) {
	n.mu.Lock()
	inUpper, ino, dead := n.inUpper, n.ino, n.dead
	n.mu.Unlock()
	if !inUpper { // a lower inode whose last name is gone, or that is just being copied up
		a, err := f.lower.Attr(n.lower)
		if dead {
			a.Nlink = 0
		}
		return a, err
	}
	at, err := f.at(n)
	if err != nil {
		return tree.Attr{}, err
	}
	a, err := f.up.attr(at.inode)
	f.done(at)
	if err != nil {
		return a, err
	}
	a.Ino = ino
	if !n.isDir() {
		return a, nil
	}
	a.Nlink, err = f.dirNlink(n, dead)
	return a, err
}

// dirNlink is 2 plus the number of visible subdirectories.
func (f *FS) dirNlink(n *node, dead bool) (uint32, error) {
	if dead {
		return 0, nil
	}
	n.dirMu.RLock()
	subdirs := n.subdirs
	n.dirMu.RUnlock()
	if subdirs >= 0 {
		return uint32(2 + subdirs), nil
	}
	n.dirMu.Lock()
	defer n.dirMu.Unlock()
	if n.subdirs < 0 {
		if err := f.countSubdirsLocked(n); err != nil {
			return 0, err
		}
	}
	return uint32(2 + n.subdirs), nil
}

// Setattr changes attributes, copying the inode up first, and returns all of
// them as they are then. A new Size copies up only what remains.
func (f *FS) Setattr(ctx context.Context, id ID, s SetAttr) (tree.Attr, error) {
	keep := int64(-1)
	if s.Size != nil {
		if keep = *s.Size; keep < 0 {
			return tree.Attr{}, unix.EINVAL
		}
	}
	n, err := f.copyUp(ctx, id, keep)
	if err != nil {
		return tree.Attr{}, err
	}
	defer f.unref(n, 1)
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	if err := f.setattr(n, s); err != nil {
		return tree.Attr{}, err
	}
	return f.nodeAttr(n)
}

func (f *FS) setattr(n *node, s SetAttr) error {
	at, err := f.at(n)
	if err != nil {
		return err
	}
	defer f.done(at)
	if s.Size != nil {
		if err := truncate(at.inode, n.typ, *s.Size); err != nil {
			return err
		}
	}
	if s.UID != nil || s.GID != nil { // before the mode, for it clears set-id bits
		if err := f.up.setOwner(at.inode, orKeep(s.UID), orKeep(s.GID)); err != nil {
			return err
		}
	}
	if s.Mode != nil {
		if n.typ == tree.ModeSymlink {
			return unix.EOPNOTSUPP
		}
		if err := f.up.setMode(at.inode, *s.Mode); err != nil {
			return err
		}
	}
	if s.Atime != nil || s.Mtime != nil {
		return at.utimes(s.Atime, s.Mtime)
	}
	return nil
}

func orKeep(id *uint32) int {
	if id == nil {
		return -1
	}
	return int(*id)
}

func truncate(i inode, typ uint32, size int64) error {
	switch typ {
	case tree.ModeRegular:
	case tree.ModeDir:
		return unix.EISDIR
	default:
		return unix.EINVAL
	}
	fd, err := i.open(unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, size)
}

// Readlink returns the target of symlink id.
func (f *FS) Readlink(id ID) (string, error) {
	n, err := f.lookupNode(id)
	if err != nil {
		return "", err
	}
	if n == nil {
		return f.lower.Readlink(tree.ID(id))
	}
	if n.typ != tree.ModeSymlink {
		return "", unix.EINVAL
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	if !n.hasUpper() {
		return f.lower.Readlink(n.lower)
	}
	at, err := f.at(n)
	if err != nil {
		return "", err
	}
	defer f.done(at)
	return f.up.readlinkOf(at.inode)
}
