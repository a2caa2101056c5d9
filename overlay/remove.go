package overlay

import (
	"context"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

func (f *FS) remove(parent ID, name string, wantDir bool) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := f.writable(); err != nil {
		return err
	}
	e, err := f.peek(parent, name)
	if err != nil {
		return err
	}
	if err := f.bringLinksUp(context.Background(), e); err != nil {
		return err
	}
	dir, err := f.writableDir(parent)
	if err != nil {
		return err
	}
	defer f.unref(dir, 1)
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	dir.dirMu.Lock()
	defer dir.dirMu.Unlock()
	n, lower, err := f.child(dir, name)
	if err != nil {
		return err
	}
	where := nameIn{dir, name}
	if n == nil {
		return f.removeLower(where, lower, wantDir)
	}
	defer f.unref(n, 1)
	if err := matchDir(n.isDir(), wantDir); err != nil {
		return err
	}
	if n.isDir() {
		n.dirMu.Lock() // nothing may be made in it any more
		defer n.dirMu.Unlock()
		if err := f.checkEmpty(n); err != nil {
			return err
		}
	}
	pin, err := f.openPin(n, where)
	if err != nil {
		return err
	}
	if err := f.fixIno(n, inode{fd: pin}); err != nil { // others may be left
		unix.Close(pin)
		return err
	}
	if err := f.removeUpper(n, where, lower); err != nil {
		if pin >= 0 {
			unix.Close(pin)
		}
		return err
	}
	f.nameGone(n, where, pin)
	return nil
}

// bringLinksUp copies up a lower inode with several names before it loses one: the
// others must go on showing how many there are.
func (f *FS) bringLinksUp(ctx context.Context, p peeked) error {
	if p.id >= firstUpperID || p.attr.IsDir() || p.attr.Nlink < 2 {
		return nil
	}
	n, err := f.copyUp(ctx, p.id, metadataOnly)
	if err != nil {
		return err
	}
	f.unref(n, 1)
	return nil
}

// matchDir tells rmdir(2) on a file and unlink(2) on a directory from the rest.
func matchDir(isDir, wantDir bool) error {
	switch {
	case wantDir && !isDir:
		return unix.ENOTDIR
	case !wantDir && isDir:
		return unix.EISDIR
	}
	return nil
}

// peeked is what a name stands for, seen without a reference to it.
type peeked struct {
	id      ID
	ofLower bool // the lower has it, or is merged below it
	attr    tree.Attr
}

// peek looks at a name before any lock is held for the change.
func (f *FS) peek(parent ID, name string) (peeked, error) {
	found, err := f.lookup(parent, name)
	if err != nil {
		return peeked{}, err
	}
	p := peeked{id: found.ID, attr: found.Attr}
	n, err := f.lookupNode(found.ID)
	if err == nil {
		p.ofLower = n == nil || n.lower != tree.None
	}
	f.Forget(found.ID, 1)
	return p, err
}

// removeLower hides a lower-only inode. The caller holds where.dir.dirMu.
func (f *FS) removeLower(where nameIn, e tree.Entry, wantDir bool) error {
	isDir := e.Type == tree.ModeDir
	if err := matchDir(isDir, wantDir); err != nil {
		return err
	}
	if isDir {
		var one [1]tree.Entry
		if k, err := f.lower.ReadDir(e.ID, 0, one[:]); err != nil {
			return err
		} else if k > 0 {
			return unix.ENOTEMPTY
		}
	}
	fd, err := f.up.acquire(where.dir)
	if err != nil {
		return err
	}
	defer f.up.release(where.dir)
	w := f.watch()
	if err := f.up.putWhiteout(fd, where.name); err != nil {
		return err
	}
	f.tellWhiteout(w, where)
	f.buryLower(e)
	if isDir {
		where.dir.countSubdir(-1)
	}
	return nil
}

// buryLower leaves a node for a lower inode whose last name is gone, if anybody
// still knows it.
func (f *FS) buryLower(e tree.Entry) {
	if f.lowerRefs.count(ID(e.ID)) == 0 {
		return
	}
	n := f.takeOver(e.ID, e.Type)
	n.mu.Lock()
	n.dead = true
	n.mu.Unlock()
	f.unref(n, 1)
}

// removeUpper takes a name away from the upper and leaves a whiteout if the lower
// would show through. The caller holds where.dir.dirMu.
func (f *FS) removeUpper(n *node, where nameIn, lower tree.Entry) error {
	fd, err := f.up.acquire(where.dir)
	if err != nil {
		return err
	}
	defer f.up.release(where.dir)
	i := inode{dir: fd, name: where.name}
	if lower.ID != tree.None {
		w := f.watch()
		if err := f.up.replaceByWhiteout(i, n.isDir()); err != nil {
			return err
		}
		f.tellWhiteout(w, where)
		return nil
	}
	if !n.isDir() {
		return unix.Unlinkat(fd, where.name, 0)
	}
	err = unix.Unlinkat(fd, where.name, unix.AT_REMOVEDIR)
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	tmp := f.up.tempName() // it holds whiteouts, which must go after it
	if err := unix.Renameat(fd, where.name, f.up.work, tmp); err != nil {
		return err
	}
	f.up.removeTemp(tmp)
	return nil
}

// openPin opens n before it loses the name where, for that may be the last by
// which it is known when it is gone; -1 if n has a pin already.
func (f *FS) openPin(n *node, where nameIn) (int, error) {
	n.mu.Lock()
	pinned := n.pin >= 0
	n.mu.Unlock()
	if pinned {
		return -1, nil
	}
	fd, err := f.up.acquire(where.dir)
	if err != nil {
		return -1, err
	}
	defer f.up.release(where.dir)
	return inode{dir: fd, name: where.name}.open(unix.O_PATH)
}

// nameGone records that n lost a name; pin is what openPin gave. The caller
// holds where.dir.dirMu, and n.dirMu if n is a directory.
func (f *FS) nameGone(n *node, where nameIn, pin int) {
	n.mu.Lock()
	known := n.dropNameLocked(where)
	if len(n.names) == 0 && n.pin < 0 {
		n.pin, pin = pin, -1
	}
	n.dead = n.dead || n.isDir()
	n.mu.Unlock()
	if pin >= 0 {
		unix.Close(pin)
	}
	if n.isDir() {
		where.dir.countSubdir(-1)
		f.letGo(n)
	}
	if known {
		f.unref(where.dir, 1)
	}
	f.up.dirs.drop(n)
}

// putWhiteout hides a name that the upper does not have. All whiteouts are links
// to one device as long as the filesystem allows more.
func (u *upper) putWhiteout(fd int, name string) error {
	u.whiteoutMu.Lock()
	defer u.whiteoutMu.Unlock()
	if u.whiteout != "" {
		err := unix.Linkat(u.work, u.whiteout, fd, name, 0)
		if err != unix.EMLINK && err != unix.ENOENT {
			return err
		}
		u.removeTemp(u.whiteout)
		u.whiteout = ""
	}
	tmp := u.tempName()
	if err := unix.Mknodat(u.work, tmp, unix.S_IFCHR, 0); err != nil {
		return err
	}
	u.whiteout = tmp
	return unix.Linkat(u.work, tmp, fd, name, 0)
}

// replaceByWhiteout puts a whiteout in the place of what has the name, in one
// step.
func (u *upper) replaceByWhiteout(i inode, isDir bool) error {
	tmp := u.tempName()
	if err := u.putWhiteout(u.work, tmp); err != nil {
		return err
	}
	var err error
	if isDir { // a device cannot replace a directory, but change places with it
		err = unix.Renameat2(u.work, tmp, i.dir, i.name, unix.RENAME_EXCHANGE)
	} else {
		err = unix.Renameat(u.work, tmp, i.dir, i.name)
	}
	if err != nil || isDir {
		u.removeTemp(tmp)
	}
	return err
}

// removeTemp removes what stands under a name in the work directory. What is
// left after a failure is cleared by the next Open.
func (u *upper) removeTemp(tmp string) {
	if err := unix.Unlinkat(u.work, tmp, 0); err == unix.EISDIR || err == unix.EPERM {
		os.RemoveAll("/proc/self/fd/" + strconv.Itoa(u.work) + "/" + tmp)
	}
}

// tellWhiteout tells those who watch that a name is hidden now. The caller holds
// renameMu.
func (f *FS) tellWhiteout(w watched, where nameIn) {
	if w.on() {
		path := strings.TrimSuffix(f.mergedPath(where.dir, tree.None), "/") + "/" + where.name
		w.tell(Event{Op: OpWhiteout, Path: path, Layer: LayerUpper}, nil)
	}
}
