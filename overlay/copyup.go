package overlay

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// dataWanted says how many bytes of a regular file's data are to be in the upper,
// counted from the start.
type dataWanted int64

const (
	allData      dataWanted = -1
	metadataOnly dataWanted = -2 // the data may as well stay where it is
)

// copyUp brings the inode id to the upper, if it is not there yet, with as much
// of its data as is wanted, and returns its node, held, when all its names are
// there. The caller holds no lock.
func (f *FS) copyUp(ctx context.Context, id ID, keep dataWanted) (*node, error) {
	n, err := f.copyUpAny(ctx, id, keep)
	if err != nil {
		return nil, err
	}
	if err := f.bringData(ctx, n, keep); err != nil {
		f.unref(n, 1)
		return nil, err
	}
	return n, nil
}

// copyUpAny is copyUp, but an inode that is in the upper already may have less
// data than is wanted.
func (f *FS) copyUpAny(ctx context.Context, id ID, keep dataWanted) (*node, error) {
	if err := f.writable(); err != nil {
		return nil, err
	}
	n, err := f.holdNode(id)
	if err != nil {
		return nil, err
	}
	// Others may still be making the names of an inode that the lower has: it is
	// left to copyUpInode to wait for them.
	if n != nil && n.hasUpper() && (id >= firstUpperID || n.isDir()) {
		return n, nil
	}
	if n != nil {
		defer f.unref(n, 1)
	}
	lower := tree.ID(id)
	a, err := f.lower.Attr(lower)
	if err != nil {
		return nil, err
	}
	if a.IsDir() && (n == nil || !n.isDead()) {
		return f.copyUpDir(lower)
	}
	n = f.takeOver(lower, a.Mode&tree.ModeType)
	if err := f.copyUpInode(ctx, n, &a, keep); err != nil {
		f.unref(n, 1)
		return nil, err
	}
	return n, nil
}

// takeOver returns the node of a lower inode, held, making it if there is none.
func (f *FS) takeOver(lower tree.ID, typ uint32) *node {
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	n := f.nodes[ID(lower)]
	if n == nil {
		n = newNode(ID(lower), 0, typ, lower)
		f.nodes[n.id] = n
	}
	n.refs++
	return n
}

// writableDir returns directory id as a node in the upper, held.
func (f *FS) writableDir(id ID) (*node, error) {
	if err := f.writable(); err != nil {
		return nil, err
	}
	n, err := f.holdNode(id)
	if err != nil {
		return nil, err
	}
	if n == nil {
		return f.copyUpDir(tree.ID(id))
	}
	switch {
	case !n.isDir():
		err = unix.ENOTDIR
	case n.isDead():
		err = unix.ENOENT
	}
	if err != nil {
		f.unref(n, 1)
		return nil, err
	}
	return n, nil
}

// copyUpDir brings a lower directory, and first those above it, to the upper and
// returns its node, held; ENOENT if the upper hides it. The caller holds no
// lock but a copyMu.
func (f *FS) copyUpDir(lower tree.ID) (*node, error) {
	n, err := f.copyUpDirAt(lower)
	if err == unix.ENOENT { // at its place, but it may have been moved
		if err := f.findMoved(); err != nil {
			return nil, err
		}
		return f.copyUpDirAt(lower)
	}
	return n, err
}

func (f *FS) copyUpDirAt(lower tree.ID) (*node, error) {
	f.tableMu.Lock()
	n := f.byLower[lower]
	if n != nil {
		n.refs++
	}
	f.tableMu.Unlock()
	if n != nil {
		return n, nil
	}
	a, err := f.lower.Attr(lower)
	if err != nil {
		return nil, err
	}
	if !a.IsDir() {
		return nil, unix.ENOTDIR
	}
	names, err := f.lower.Names(lower)
	if err != nil {
		return nil, err
	}
	if len(names) != 1 {
		return nil, unix.EIO
	}
	parent, err := f.copyUpDirAt(names[0].Dir)
	if err != nil {
		return nil, err
	}
	defer f.unref(parent, 1)

	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	parent.dirMu.Lock()
	defer parent.dirMu.Unlock()
	where := nameIn{parent, names[0].Name}
	n, e, err := f.child(parent, where.name)
	switch {
	case err != nil:
		return nil, err
	case n != nil && n.lower == lower: // another name of the race, or forgotten and found again
		return n, nil
	case n != nil:
		f.unref(n, 1)
		return nil, unix.ENOENT
	case e.ID != lower:
		return nil, unix.ENOENT
	}
	w := f.watch()
	tmp, err := f.stage(context.Background(), lower, &a, allData)
	if err != nil {
		return nil, err
	}
	// Nobody may find the node before it can be reached: publish enters it.
	n = newNode(ID(lower), 0, tree.ModeDir, lower)
	n.impure, n.subdirs, n.refs = true, int(a.Nlink)-2, 1
	if err := f.publish(n, where, tmp, a.Ino, false); err != nil {
		f.unref(n, 1)
		f.up.removeTemp(tmp)
		return nil, err
	}
	if w.on() {
		w.tell(Event{Op: OpCopyUp, Path: f.mergedPath(n, lower), Layer: LayerUpper}, nil)
	}
	return n, nil
}

// copyUpInode copies up what is no directory, or a directory that is gone.
func (f *FS) copyUpInode(ctx context.Context, n *node, a *tree.Attr, keep dataWanted) error {
	n.copyMu.Lock()
	defer n.copyMu.Unlock()
	if n.hasUpper() {
		return nil
	}
	var parents []nameIn
	if !n.isDead() {
		names, err := f.lower.Names(n.lower)
		if err != nil {
			return err
		}
		for _, name := range names {
			dir, err := f.copyUpDir(name.Dir)
			if err == unix.ENOENT {
				continue // hidden by the upper
			}
			if err != nil {
				return err
			}
			defer f.unref(dir, 1)
			parents = append(parents, nameIn{dir, name.Name})
		}
	}
	if !a.IsRegular() || a.Size == 0 || f.noMetacopy && keep == metadataOnly {
		keep = allData
	}
	err := f.copyUpTo(ctx, n, a, parents, keep)
	if err == unix.EXDEV && keep == metadataOnly && !n.hasUpper() {
		// With several names it must be said where the data is, and cannot be.
		err = f.copyUpTo(ctx, n, a, parents, allData)
	}
	return err
}

// copyUpTo copies up what is going to have these names. The caller holds n.copyMu.
func (f *FS) copyUpTo(ctx context.Context, n *node, a *tree.Attr, parents []nameIn, keep dataWanted) error {
	w := f.watch()
	tmp, err := f.stage(ctx, n.lower, a, keep)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.noData = keep == metadataOnly
	n.mu.Unlock()
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	err = f.publishAll(n, parents, tmp, a.Ino)
	if err != nil && !n.hasUpper() { // else some names are made: the next Open adds the rest
		f.up.removeTemp(tmp)
	}
	if w.on() {
		e := Event{Op: OpCopyUp, Path: f.mergedPath(n, n.lower), Layer: LayerUpper}
		if a.IsRegular() && keep != metadataOnly {
			e.Bytes = keep.bytes(a.Size)
		}
		w.tell(e, err)
	}
	return err
}

// stage makes a copy of a lower inode in the work directory, complete but for
// its name, and returns the name that it has there.
func (f *FS) stage(ctx context.Context, lower tree.ID, a *tree.Attr, keep dataWanted) (name string, err error) {
	tmp := f.up.tempName()
	i := inode{dir: f.up.work, name: tmp}
	defer func() {
		if err != nil {
			f.up.removeTemp(tmp)
		}
	}()
	spec := makeSpec{mode: a.Mode, uid: a.UID, gid: a.GID, rdev: a.Rdev}
	if a.IsSymlink() {
		if spec.target, err = f.lower.Readlink(lower); err != nil {
			return "", err
		}
	}
	if err := f.up.make(i, spec); err != nil {
		return "", err
	}
	switch {
	case keep == metadataOnly:
		if err := f.leaveData(a, i); err != nil {
			return "", err
		}
	case a.IsRegular():
		if err := f.stageData(ctx, lower, a, i, keep); err != nil {
			return "", err
		}
	}
	if err := f.copyXattrs(lower, a, i); err != nil {
		return "", err
	}
	if !a.IsDir() { // a directory's number follows from what is merged below it
		ino := strconv.FormatUint(a.Ino, 10)
		if err := i.setxattr(f.up.format.namespace()+xIno, []byte(ino), 0); err != nil {
			return "", err
		}
	}
	return tmp, i.utimes(&a.Atime, &a.Mtime)
}

// copyXattrs copies a lower inode's xattrs to the upper.
func (f *FS) copyXattrs(lower tree.ID, a *tree.Attr, to inode) error {
	if !a.Xattrs {
		return nil
	}
	names, err := f.lower.Xattrs(lower)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := f.lower.Xattr(lower, name)
		if err != nil {
			return err
		}
		err = to.setxattr(f.up.format.storedName(name), value, 0)
		if err == unix.EOPNOTSUPP && !mustCopyXattr(name) {
			continue // the upper's filesystem has no such xattrs, as with the kernel's overlayfs
		}
		if err == unix.EPERM && strings.HasPrefix(name, "user.") && !a.IsDir() && !a.IsRegular() {
			continue // an image may claim what no filesystem can hold
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mustCopyXattr names the xattrs without which a copy would be less protected.
func mustCopyXattr(name string) bool {
	return strings.HasPrefix(name, "security.") || strings.HasPrefix(name, "system.posix_acl_")
}

// lowerPath is one path of a lower inode, without a leading slash.
func (f *FS) lowerPath(lower tree.ID) (string, error) {
	var parts []string
	for lower != tree.Root {
		names, err := f.lower.Names(lower)
		if err != nil {
			return "", err
		}
		if len(names) == 0 {
			return "", unix.EIO
		}
		parts = append(parts, names[0].Name)
		lower = names[0].Dir
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/"), nil
}
