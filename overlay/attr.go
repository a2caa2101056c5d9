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

func (f *FS) getattr(id ID) (tree.Attr, error) {
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
	inUpper, noData, ino, dead := n.inUpper, n.noData, n.ino, n.dead
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
	if noData { // what stat(2) counts are the blocks of the data, wherever it is
		lower, err := f.lower.Attr(n.lower)
		a.Blocks = lower.Blocks
		return a, err
	}
	if !n.isDir() {
		return a, nil
	}
	a.Nlink, err = f.dirNlink(n, dead)
	return a, err
}

// Btime returns when the inode was made, false where nobody knows. Copying up makes
// it anew, as it does on the kernel's overlayfs.
func (f *FS) Btime(id ID) (tree.Time, bool) {
	n, err := f.lookupNode(id)
	if err != nil {
		return tree.Time{}, false
	}
	if n == nil {
		return tree.Btime(f.lower, tree.ID(id))
	}
	if !n.hasUpper() {
		return tree.Btime(f.lower, n.lower)
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	at, err := f.at(n)
	if err != nil {
		return tree.Time{}, false
	}
	defer f.done(at)
	if i := at.inode; i.name != "" {
		return tree.HostBtime(i.dir, i.name)
	}
	return tree.HostBtime(at.fd, "")
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

func (f *FS) setattrOf(ctx context.Context, id ID, s SetAttr) (tree.Attr, error) {
	if s == (SetAttr{}) {
		return f.getattr(id)
	}
	keep := metadataOnly
	if s.Size != nil {
		if err := f.canTruncate(id, *s.Size); err != nil {
			return tree.Attr{}, err
		}
		keep = dataWanted(*s.Size)
	}
	n, err := f.copyUp(ctx, id, keep)
	if err != nil {
		return tree.Attr{}, err
	}
	defer f.unref(n, 1)
	if n.lacksData() { // bringData puts back the times that it found
		n.copyMu.Lock()
		defer n.copyMu.Unlock()
	}
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
		if err := truncate(at.inode, *s.Size); err != nil {
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

// canTruncate refuses what has no size that could be set, before it is copied up.
func (f *FS) canTruncate(id ID, size int64) error {
	typ, err := f.typeOf(id)
	switch {
	case err != nil:
		return err
	case typ == tree.ModeDir:
		return unix.EISDIR
	case typ != tree.ModeRegular || size < 0:
		return unix.EINVAL
	}
	return nil
}

// typeOf returns the S_IFMT bits of an inode.
func (f *FS) typeOf(id ID) (uint32, error) {
	n, err := f.lookupNode(id)
	if err != nil {
		return 0, err
	}
	if n != nil {
		return n.typ, nil
	}
	a, err := f.lower.Attr(tree.ID(id))
	return a.Mode & tree.ModeType, err
}

func truncate(i inode, size int64) error {
	fd, err := i.open(unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, size)
}

func (f *FS) readlink(id ID) (string, error) {
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
