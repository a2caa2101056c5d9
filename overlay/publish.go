package overlay

import (
	"slices"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// publishAll gives the staged inode the names at which the lower one is still
// visible. With several of them the staged name goes last, marked with the lower
// inode's path, so that a crash between two links can be completed.
func (f *FS) publishAll(n *node, names []nameIn, tmp string, ino uint64) error {
	staged := inode{dir: f.up.work, name: tmp}
	if n.noData && len(names) > 1 {
		if err := f.setRedirect(n, staged); err != nil {
			return err
		}
	}
	mark := f.up.format.namespace() + xLinks
	if len(names) > 1 {
		path, err := f.lowerPath(n.lower)
		if err != nil {
			return err
		}
		err = staged.setxattr(mark, []byte(path), 0)
		if err == unix.ENOSPC || err == unix.E2BIG || err == unix.ERANGE { // it does not fit
			err = staged.setxattr(mark, nil, 0)
		}
		if err != nil {
			return err
		}
	}
	for _, where := range names {
		where.dir.dirMu.Lock()
		visible, err := f.showsLower(where, n.lower)
		if err == nil && visible {
			err = f.publish(n, where, tmp, ino, len(names) > 1)
		}
		where.dir.dirMu.Unlock()
		if err != nil {
			return err
		}
	}
	if n.hasUpper() && len(names) == 1 {
		return nil
	}
	if !n.hasUpper() { // all names are gone: what is left is an open, nameless inode
		var st unix.Stat_t
		pin, err := staged.open(unix.O_PATH)
		if err != nil {
			return err
		}
		if err := staged.stat(&st); err != nil {
			unix.Close(pin)
			return err
		}
		f.enterUpper(n, nil, st.Ino, ino, pin)
	} else if err := staged.removexattr(mark); err != nil {
		return err
	}
	f.up.removeTemp(tmp)
	return nil
}

// showsLower tells whether where is a name at which the lower inode shows
// through. The caller holds where.dir.dirMu.
func (f *FS) showsLower(where nameIn, lower tree.ID) (bool, error) {
	if where.dir.isDead() {
		return false, nil
	}
	e, err := f.lowerChild(where.dir, where.name)
	if err != nil || e.ID != lower {
		return false, err
	}
	fd, err := f.up.acquire(where.dir)
	if err != nil {
		return false, err
	}
	defer f.up.release(where.dir)
	var st unix.Stat_t
	err = inode{dir: fd, name: where.name}.stat(&st)
	if err == unix.ENOENT {
		return true, nil
	}
	return false, err
}

// publish moves (or links, leaving tmp) the staged inode to its name and enters
// the node as one of the upper. The directory's times stay as they were. The
// caller holds where.dir.dirMu.
func (f *FS) publish(n *node, where nameIn, tmp string, ino uint64, link bool) error {
	fd, err := f.up.acquire(where.dir)
	if err != nil {
		return err
	}
	defer f.up.release(where.dir)
	var st, dir unix.Stat_t
	if err := (inode{dir: f.up.work, name: tmp}).stat(&st); err != nil {
		return err
	}
	dirInode := inode{fd: fd}
	if err := dirInode.stat(&dir); err != nil {
		return err
	}
	if link {
		err = unix.Linkat(f.up.work, tmp, fd, where.name, 0)
	} else {
		err = unix.Renameat2(f.up.work, tmp, fd, where.name, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		return err
	}
	f.enterUpper(n, &where, st.Ino, ino, -1)
	atime, mtime := timeOf(dir.Atim), timeOf(dir.Mtim)
	return dirInode.utimes(&atime, &mtime)
}

// enterUpper records that n has an upper inode from now on: called where, or
// reached by pin only.
func (f *FS) enterUpper(n *node, where *nameIn, upIno, ino uint64, pin int) {
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.inUpper, n.upIno, n.ino, n.pin = true, upIno, ino, pin
	f.nodes[n.id], f.byUpper[upIno] = n, n
	if where == nil {
		return
	}
	if n.isDir() {
		f.byLower[n.lower] = n
	}
	if !n.has(*where) { // at once with inUpper: who sees that must find a name
		n.names = append(slices.Clip(n.names), *where)
		where.dir.refs++
	}
}
