package overlay

import (
	"context"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

func (f *FS) rename(ctx context.Context, parent ID, name string, newParent ID, newName string, flags uint32) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := checkName(newName); err != nil {
		return err
	}
	if err := f.writable(); err != nil {
		return err
	}
	if flags != 0 && flags != unix.RENAME_NOREPLACE && flags != unix.RENAME_EXCHANGE {
		return unix.EINVAL
	}
	if parent == newParent && name == newName {
		_, err := f.peek(parent, name)
		if err == nil && flags == unix.RENAME_NOREPLACE {
			err = unix.EEXIST
		}
		return err
	}
	for range 100 {
		err := f.renameBrought(ctx, parent, name, newParent, newName, flags)
		if err != unix.EAGAIN {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return unix.EBUSY // somebody else changes what has these names, again and again
}

// renameBrought is rename of names that are not the same; EAGAIN if what one of them
// names was changed before it could be held.
func (f *FS) renameBrought(ctx context.Context, parent ID, name string, newParent ID, newName string, flags uint32) error {
	if err := f.bringUp(ctx, parent, name); err != nil {
		return err
	}
	if flags == unix.RENAME_EXCHANGE {
		if err := f.bringUp(ctx, newParent, newName); err != nil {
			return err
		}
	} else if p, err := f.peek(newParent, newName); err == nil {
		if err := f.bringLinksUp(ctx, p); err != nil {
			return err
		}
	}
	err := f.moveName(parent, name, newParent, newName, flags)
	if err != unix.EXDEV {
		return err
	}
	// For a file it could not be said where the data is, so the data must come.
	brought, berr := f.bringDataOf(ctx, parent, name)
	if flags == unix.RENAME_EXCHANGE && berr == nil {
		var other bool
		other, berr = f.bringDataOf(ctx, newParent, newName)
		brought = brought || other
	}
	if berr != nil {
		return berr
	}
	if !brought {
		return err
	}
	return f.moveName(parent, name, newParent, newName, flags)
}

// moveName is rename, when what moves is the upper's.
func (f *FS) moveName(parent ID, name string, newParent ID, newName string, flags uint32) error {
	src, err := f.writableDir(parent)
	if err != nil {
		return err
	}
	defer f.unref(src, 1)
	dst, err := f.writableDir(newParent)
	if err != nil {
		return err
	}
	defer f.unref(dst, 1)

	f.renameMu.Lock()
	defer f.renameMu.Unlock()
	r := renaming{FS: f, from: nameIn{src, name}, to: nameIn{dst, newName}, flags: flags}
	return r.run()
}

// bringUp makes sure that a name which is going to be moved is the upper's.
func (f *FS) bringUp(ctx context.Context, parent ID, name string) error {
	p, err := f.peek(parent, name)
	if err != nil {
		return err
	}
	if f.noRedirect && p.attr.IsDir() && p.ofLower {
		return unix.EXDEV
	}
	if p.id >= firstUpperID {
		return nil
	}
	n, err := f.copyUp(ctx, p.id, metadataOnly)
	if err != nil {
		return err
	}
	f.unref(n, 1)
	return nil
}

// bringDataOf brings the data of the file of that name, if it was copied up without,
// and tells whether it did.
func (f *FS) bringDataOf(ctx context.Context, parent ID, name string) (bool, error) {
	found, err := f.lookup(parent, name)
	if err != nil {
		return false, err
	}
	defer f.Forget(found.ID, 1)
	n, err := f.holdNode(found.ID)
	if err != nil || n == nil {
		return false, err
	}
	defer f.unref(n, 1)
	if !n.lacksData() {
		return false, nil
	}
	return true, f.bringData(ctx, n, allData)
}

// renaming is one rename under the exclusive renameMu, which stands for the dirMu
// of every directory.
type renaming struct {
	*FS
	from, to nameIn
	flags    uint32

	fromFD, toFD       int
	n                  *node // what moves
	fromLower, toLower tree.Entry
	victim             *node // what has the new name in the upper now
	victimLower        bool  // the lower alone has the new name now
}

func (r *renaming) run() error {
	var err error
	if r.n, r.fromLower, err = r.child(r.from.dir, r.from.name); err != nil {
		return err
	}
	if r.n == nil {
		return unix.EAGAIN // changed since it was brought up
	}
	defer r.unref(r.n, 1)
	r.victim, r.toLower, err = r.child(r.to.dir, r.to.name)
	switch {
	case err == unix.ENOENT && r.flags == unix.RENAME_EXCHANGE, r.to.dir.isDead():
		return unix.ENOENT
	case err == unix.ENOENT:
	case err != nil:
		return err
	case r.victim == nil:
		r.victimLower = true
	default:
		defer r.unref(r.victim, 1)
	}
	if err := r.allowed(); err != nil {
		return err
	}
	if r.victim == r.n { // two names of one file: rename(2) leaves both
		return nil
	}
	if r.fromFD, err = r.up.acquire(r.from.dir); err != nil {
		return err
	}
	defer r.up.release(r.from.dir)
	if r.toFD, err = r.up.acquire(r.to.dir); err != nil {
		return err
	}
	defer r.up.release(r.to.dir)
	if err := r.mark(r.n, inode{dir: r.fromFD, name: r.from.name}, r.to.dir, r.toLower); err != nil {
		return err
	}
	if r.flags == unix.RENAME_EXCHANGE {
		return r.exchange()
	}
	return r.replace()
}

// allowed applies the rules of rename(2).
func (r *renaming) allowed() error {
	exists := r.victim != nil || r.victimLower
	victimDir := r.victim != nil && r.victim.isDir() || r.victimLower && r.toLower.Type == tree.ModeDir
	switch {
	case exists && r.flags == unix.RENAME_NOREPLACE:
		return unix.EEXIST
	case r.n.isDir() && r.below(r.to.dir, r.n):
		return unix.EINVAL
	case r.victim != nil && r.victim.isDir() && r.below(r.from.dir, r.victim):
		if r.flags == unix.RENAME_EXCHANGE {
			return unix.EINVAL
		}
		return unix.ENOTEMPTY
	case r.flags == unix.RENAME_EXCHANGE:
		if r.victimLower {
			return unix.EAGAIN
		}
		return nil
	case !exists:
		return nil
	case r.n.isDir() && !victimDir:
		return unix.ENOTDIR
	case !r.n.isDir() && victimDir:
		return unix.EISDIR
	case r.victim != nil && victimDir:
		return r.checkEmpty(r.victim)
	case victimDir:
		var one [1]tree.Entry
		if k, err := r.lower.ReadDir(r.toLower.ID, 0, one[:]); err != nil {
			return err
		} else if k > 0 {
			return unix.ENOTEMPTY
		}
	}
	return nil
}

// below tells whether dir is top or stands below it.
func (r *renaming) below(dir, top *node) bool {
	for dir != top {
		dir.mu.Lock()
		names := dir.names
		dir.mu.Unlock()
		if len(names) == 0 {
			return false
		}
		dir = names[0].dir
	}
	return true
}

// mark prepares what moves to directory dir, where the lower has an entry of the
// same name: what is merged below, or where the data is, must be found from
// there, a directory of the upper alone must not be merged with that entry, and a
// copied-up inode must be found with its number.
func (r *renaming) mark(n *node, i inode, dir *node, lower tree.Entry) error {
	var err error
	switch {
	case n.isDir() && n.lower != tree.None, n.lacksData():
		err = r.setRedirect(n, i)
	case n.isDir() && lower.ID != tree.None && n.xwhiteouts:
		err = unix.EXDEV // the mark that says so has no room for two things
	case n.isDir() && lower.ID != tree.None:
		err = r.up.markOpaque(i)
	}
	if err != nil {
		return err
	}
	if err := r.fixIno(n, i); err != nil {
		return err
	}
	return r.markImpure(dir, n)
}

func (r *renaming) exchange() error {
	if err := r.mark(r.victim, inode{dir: r.toFD, name: r.to.name}, r.from.dir, r.fromLower); err != nil {
		return err
	}
	if err := unix.Renameat2(r.fromFD, r.from.name, r.toFD, r.to.name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	r.moved(r.n, r.from, r.to)
	r.moved(r.victim, r.to, r.from)
	return nil
}

func (r *renaming) replace() error {
	pin := -1
	if r.victim != nil {
		var err error
		if pin, err = r.openPin(r.victim, r.to); err != nil {
			return err
		}
	}
	if err := r.moveOver(pin); err != nil {
		if pin >= 0 {
			unix.Close(pin)
		}
		return err
	}
	if r.victim != nil {
		r.nameGone(r.victim, r.to, pin)
	} else if r.victimLower {
		r.buryLower(r.toLower)
		if r.toLower.Type == tree.ModeDir {
			r.to.dir.countSubdir(-1)
		}
	}
	r.moved(r.n, r.from, r.to)
	if r.fromLower.ID != tree.None {
		r.tellWhiteout(r.watch(), r.from)
	}
	return nil
}

// moveOver is move, where pin is the victim, if there is one.
func (r *renaming) moveOver(pin int) error {
	if r.victim != nil {
		if err := r.fixIno(r.victim, inode{fd: pin}); err != nil {
			return err
		}
	}
	return r.move()
}

// move renames in the upper, leaving a whiteout where the lower would show.
func (r *renaming) move() error {
	flags := uint(0)
	if r.fromLower.ID != tree.None {
		flags = unix.RENAME_WHITEOUT
	}
	overWhiteout := r.n.isDir() && r.victim == nil && r.toLower.ID != tree.None && !r.victimLower
	if overWhiteout { // which a directory cannot replace
		return r.moveOverWhiteout(flags != 0)
	}
	err := unix.Renameat2(r.fromFD, r.from.name, r.toFD, r.to.name, flags)
	if r.victim == nil || !r.victim.isDir() || err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	// The replaced directory shows nothing, but holds whiteouts: put a really
	// empty one in its place first, opaque so that the lower stays hidden.
	if err := r.emptyVictim(); err != nil {
		return err
	}
	return unix.Renameat2(r.fromFD, r.from.name, r.toFD, r.to.name, flags)
}

// moveOverWhiteout lets a directory and a whiteout change places; the whiteout
// stays at the old name if one is needed there.
func (r *renaming) moveOverWhiteout(keep bool) error {
	if err := unix.Renameat2(r.fromFD, r.from.name, r.toFD, r.to.name, unix.RENAME_EXCHANGE); err != nil || keep {
		return err
	}
	return unix.Unlinkat(r.fromFD, r.from.name, 0)
}

func (r *renaming) emptyVictim() error {
	i := inode{dir: r.toFD, name: r.to.name}
	a, err := r.up.attr(i)
	if err != nil {
		return err
	}
	tmp := r.up.tempName()
	empty := inode{dir: r.up.work, name: tmp}
	defer r.up.removeTemp(tmp)
	if err := r.up.make(empty, makeSpec{mode: a.Mode, uid: a.UID, gid: a.GID}); err != nil {
		return err
	}
	if err := r.up.markOpaque(empty); err != nil {
		return err
	}
	return unix.Renameat2(r.up.work, tmp, r.toFD, r.to.name, unix.RENAME_EXCHANGE)
}

// moved records that n has another name now.
func (r *renaming) moved(n *node, from, to nameIn) {
	if n.isDir() {
		from.dir.countSubdir(-1)
		to.dir.countSubdir(1)
	}
	r.addName(n, to)
	r.dropName(n, from)
	if n.isDir() && r.FS.moved.known {
		r.keep(n)
	}
}
