package overlay

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// recoverWork clears the work directory of what an earlier process left there,
// and completes what it had begun: a copied-up inode that has not got all the
// names of its lower inode yet.
func (f *FS) recoverWork() error {
	var left []string
	if err := eachDirent(f.up.work, func(d dirent) error {
		left = append(left, d.name)
		return nil
	}); err != nil {
		return err
	}
	mark := f.up.format.namespace() + xLinks
	for _, name := range left {
		i := inode{dir: f.up.work, name: name}
		if path, err := i.xattr(mark); err == nil {
			f.log.Info("completing a copy-up", "op", "recover", "path", string(path))
			if err := f.completeLinks(i, string(path)); err != nil {
				return err
			}
			if err := i.removexattr(mark); err != nil {
				return err
			}
		}
		f.up.removeTemp(name)
	}
	return nil
}

// completeLinks gives the staged inode the names that are missing. If none was
// made before the crash nothing is lost by leaving it at that.
func (f *FS) completeLinks(staged inode, path string) error {
	var st unix.Stat_t
	if err := staged.stat(&st); err != nil || st.Nlink < 2 {
		return err
	}
	lower, err := f.findLinked(staged, path)
	if err != nil || lower == tree.None {
		return err
	}
	names, err := f.lower.Names(lower)
	if err != nil {
		return err
	}
	a, err := f.lower.Attr(lower)
	if err != nil {
		return err
	}
	n := f.takeOver(lower, a.Mode&tree.ModeType)
	defer f.unref(n, 1)
	for _, name := range names {
		dir, err := f.copyUpDir(name.Dir)
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return err
		}
		where := nameIn{dir, name.Name}
		dir.dirMu.Lock()
		visible, err := f.showsLower(where, lower)
		if err == nil && visible {
			err = f.publish(n, where, staged.name, a.Ino, true)
		}
		dir.dirMu.Unlock()
		f.unref(dir, 1)
		if err != nil {
			return err
		}
	}
	return nil
}

// findLinked finds the lower inode of a staged one; None if there is none.
func (f *FS) findLinked(staged inode, path string) (tree.ID, error) {
	if path != "" {
		id, err := tree.Resolve(f.lower, path)
		if isNotExist(err) {
			return tree.None, nil
		}
		return id, err
	}
	want := newNode(0, 0, tree.ModeRegular, tree.None)
	if err := f.readIno(want, staged); err != nil {
		return tree.None, err
	}
	found := tree.None
	err := tree.Walk(f.lower, func(_ string, e tree.Entry, a *tree.Attr) error {
		if a != nil && a.Ino == want.ino && !a.IsDir() {
			found = e.ID
			return fs.SkipAll
		}
		return nil
	})
	if err == fs.SkipAll {
		err = nil
	}
	return found, err
}

// Prepare makes the directories of a new upper and gives its root the
// attributes and xattrs of the lower's, so that the merged root looks like it.
func Prepare(o Options) error {
	for _, dir := range []string{o.Upper, o.Work} {
		if err := unix.Mkdir(dir, 0o700); err != nil && err != unix.EEXIST {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: err}
		}
	}
	f, err := Open(o)
	if err != nil {
		return err
	}
	return errors.Join(f.copyRoot(), f.Close())
}

func (f *FS) copyRoot() error {
	a, err := f.lower.Attr(tree.Root)
	if err != nil {
		return err
	}
	i := inode{fd: f.up.root}
	if err := f.up.setOwner(i, int(a.UID), int(a.GID)); err != nil {
		return err
	}
	if err := f.copyXattrs(tree.Root, &a, i); err != nil {
		return err
	}
	if err := f.up.setMode(i, a.Mode); err != nil {
		return err
	}
	return i.utimes(&a.Atime, &a.Mtime)
}
