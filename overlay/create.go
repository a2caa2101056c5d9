package overlay

import (
	"context"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// checkName refuses what is no single name.
func checkName(name string) error {
	switch {
	case name == "":
		return unix.ENOENT
	case len(name) > unix.NAME_MAX:
		return unix.ENAMETOOLONG
	case name == "." || name == ".." || strings.ContainsAny(name, "/\x00"):
		return unix.EINVAL
	}
	return nil
}

func (f *FS) mkdir(c Caller, parent ID, name string, mode uint32) (Node, error) {
	n, a, err := f.create(c, parent, name, makeSpec{mode: tree.ModeDir | mode&tree.ModePerm})
	if err != nil {
		return Node{}, err
	}
	return f.give(n, a), nil
}

func (f *FS) mknod(c Caller, parent ID, name string, mode uint32, rdev uint64) (Node, error) {
	switch mode & tree.ModeType {
	case 0:
		mode |= tree.ModeRegular
	case tree.ModeChar:
		if rdev == 0 {
			return Node{}, unix.EPERM
		}
	case tree.ModeBlock:
	case tree.ModeRegular, tree.ModeFIFO, tree.ModeSocket:
		rdev = 0
	default:
		return Node{}, unix.EINVAL
	}
	n, a, err := f.create(c, parent, name, makeSpec{mode: mode & (tree.ModeType | tree.ModePerm), rdev: rdev})
	if err != nil {
		return Node{}, err
	}
	return f.give(n, a), nil
}

func (f *FS) symlink(c Caller, parent ID, name, target string) (Node, error) {
	n, a, err := f.create(c, parent, name, makeSpec{mode: tree.ModeSymlink | 0o777, target: target})
	if err != nil {
		return Node{}, err
	}
	return f.give(n, a), nil
}

func (f *FS) createFile(c Caller, parent ID, name string, mode uint32) (Node, *File, error) {
	fd := -1
	makeOpen := func(i inode, s makeSpec) (err error) {
		fd, err = f.up.makeOpen(i, s)
		return err
	}
	n, a, err := f.createBy(makeOpen, c, parent, name, makeSpec{mode: tree.ModeRegular | mode&tree.ModePerm})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return Node{}, nil, err
	}
	f.ref(n)
	return f.give(n, a), &File{f: f, id: n.id, node: n, file: os.NewFile(uintptr(fd), name)}, nil
}

// create makes a new inode and returns its node, held, and its attributes.
func (f *FS) create(c Caller, parent ID, name string, s makeSpec) (*node, tree.Attr, error) {
	return f.createBy(f.up.make, c, parent, name, s)
}

// createBy is create by a function that makes the inode in the upper.
func (f *FS) createBy(make maker, c Caller, parent ID, name string, s makeSpec) (*node, tree.Attr, error) {
	none := tree.Attr{}
	if err := checkName(name); err != nil {
		return nil, none, err
	}
	dir, err := f.writableDir(parent)
	if err != nil {
		return nil, none, err
	}
	defer f.unref(dir, 1)
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	dir.dirMu.Lock()
	defer dir.dirMu.Unlock()
	p, err := f.freeName(dir, name)
	if err != nil {
		return nil, none, err
	}
	defer f.up.release(dir)

	dirAttr, err := f.up.attr(inode{fd: p.fd})
	if err != nil {
		return nil, none, err
	}
	inherit(&s, c, &dirAttr)
	i := inode{dir: p.fd, name: name}
	if !p.whiteout && f.up.makesAtOnce(s, &dirAttr) {
		err = make(i, s)
	} else {
		err = f.makeAside(make, p, name, s)
	}
	if err != nil {
		return nil, none, err
	}
	var st unix.Stat_t
	if err := i.stat(&st); err != nil {
		return nil, none, err
	}
	a, err := f.up.attrWith(i, &st)
	if err != nil {
		return nil, none, err
	}
	a.Ino = bornIno + st.Ino
	n := newNode(0, 0, s.mode&tree.ModeType, tree.None)
	n.inUpper, n.upIno, n.ino = true, st.Ino, a.Ino
	if n.isDir() {
		n.subdirs, a.Nlink = 0, 2
		dir.countSubdir(1)
	}
	f.tableMu.Lock()
	f.insertLocked(n, nameIn{dir, name})
	f.tableMu.Unlock()
	return n, a, nil
}

// inherit gives a new inode its owner: the caller, but in a set-gid directory
// that one's group, and a directory there the bit, too.
func inherit(s *makeSpec, c Caller, dir *tree.Attr) {
	s.uid, s.gid = c.UID, c.GID
	if dir.Mode&unix.S_ISGID != 0 {
		s.gid = dir.GID
		if s.mode&tree.ModeType == tree.ModeDir {
			s.mode |= unix.S_ISGID
		}
	}
}

// place is where a name is going to be made in the upper.
type place struct {
	fd       int        // descriptor of the directory
	whiteout bool       // a whiteout has the name now
	lower    tree.Entry // what the whiteout hides
}

// freeName checks that dir has no name called name: EEXIST if it has. On success
// the directory's descriptor is in use until it is released. The caller holds
// dir.dirMu.
func (f *FS) freeName(dir *node, name string) (place, error) {
	if dir.isDead() {
		return place{}, unix.ENOENT
	}
	lower, err := f.lowerChild(dir, name)
	if err != nil {
		return place{}, err
	}
	p := place{lower: lower}
	if p.fd, err = f.up.acquire(dir); err != nil {
		return place{}, err
	}
	var st unix.Stat_t
	i := inode{dir: p.fd, name: name}
	if err = i.stat(&st); err == nil {
		p.whiteout, err = f.hides(dir, i, &st)
	}
	switch {
	case err == nil && p.whiteout:
		return p, nil
	case err == nil || err == unix.ENOENT && lower.ID != tree.None:
		err = unix.EEXIST
	case err == unix.ENOENT:
		return p, nil
	}
	f.up.release(dir)
	return place{}, err
}

// maker makes a new upper inode.
type maker func(i inode, s makeSpec) error

// makeAside makes an inode in the work directory and moves it to its name in one
// step, over a whiteout if there is one.
func (f *FS) makeAside(make maker, p place, name string, s makeSpec) error {
	tmp := f.up.tempName()
	i := inode{dir: f.up.work, name: tmp}
	err := make(i, s)
	isDir := s.mode&tree.ModeType == tree.ModeDir
	if err == nil && isDir && p.whiteout {
		err = f.up.markOpaque(i)
	}
	if err == nil {
		err = f.up.moveIn(p, tmp, name, isDir)
	}
	if err != nil {
		f.up.removeTemp(tmp)
	}
	return err
}

// moveIn gives a staged inode its name.
func (u *upper) moveIn(p place, tmp, name string, isDir bool) error {
	switch {
	case !p.whiteout:
		return unix.Renameat2(u.work, tmp, p.fd, name, unix.RENAME_NOREPLACE)
	case !isDir:
		return unix.Renameat(u.work, tmp, p.fd, name)
	default: // a directory cannot replace a device, but change places with it
		if err := unix.Renameat2(u.work, tmp, p.fd, name, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		u.removeTemp(tmp)
		return nil
	}
}

func (u *upper) markOpaque(i inode) error {
	return i.setxattr(u.format.namespace()+xOpaque, []byte("y"), 0)
}

// markImpure notes that a directory may hold an inode that keeps another number
// than its own. The caller holds dir.dirMu.
func (f *FS) markImpure(dir *node, n *node) error {
	n.mu.Lock()
	copied := n.ino < bornIno
	n.mu.Unlock()
	if !copied || dir.impure {
		return nil
	}
	fd, err := f.up.acquire(dir)
	if err != nil {
		return err
	}
	defer f.up.release(dir)
	if err := (inode{fd: fd}).setxattr(f.up.format.namespace()+xImpure, []byte("y"), 0); err != nil {
		return err
	}
	dir.impure = true
	return nil
}

// countSubdir adds to the number of visible subdirectories, if it is known. The
// caller holds dirMu.
func (n *node) countSubdir(delta int) {
	if n.subdirs >= 0 {
		n.subdirs += delta
	}
}

func (f *FS) linkInode(ctx context.Context, id ID, parent ID, name string) (Node, error) {
	if err := checkName(name); err != nil {
		return Node{}, err
	}
	if a, err := f.getattr(id); err != nil {
		return Node{}, err
	} else if a.IsDir() {
		if _, err := f.peek(parent, name); err == nil {
			return Node{}, unix.EEXIST
		}
		return Node{}, unix.EPERM
	}
	dir, err := f.writableDir(parent)
	if err != nil {
		return Node{}, err
	}
	defer f.unref(dir, 1)
	n, err := f.copyUp(ctx, id, metadataOnly)
	if err != nil {
		return Node{}, err
	}
	a, err := f.link(n, dir, name)
	if err == unix.EXDEV && n.lacksData() { // it cannot be said where the data is
		if err = f.bringData(ctx, n, allData); err == nil {
			a, err = f.link(n, dir, name)
		}
	}
	if err != nil {
		f.unref(n, 1)
		return Node{}, err
	}
	return f.give(n, a), nil
}

func (f *FS) link(n, dir *node, name string) (tree.Attr, error) {
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	from, err := f.at(n)
	if err != nil {
		return tree.Attr{}, err
	}
	fd, err := from.open(unix.O_PATH)
	f.done(from) // its directory may be the one that is locked next
	if err != nil {
		return tree.Attr{}, err
	}
	defer unix.Close(fd)
	if err := f.linkLocked(n, fd, dir, name); err != nil {
		return tree.Attr{}, err
	}
	return f.nodeAttr(n)
}

func (f *FS) linkLocked(n *node, fd int, dir *node, name string) error {
	dir.dirMu.Lock()
	defer dir.dirMu.Unlock()
	p, err := f.freeName(dir, name)
	if err != nil {
		return err
	}
	defer f.up.release(dir)
	if err := f.markImpure(dir, n); err != nil {
		return err
	}
	if err := f.fixIno(n, inode{fd: fd}); err != nil {
		return err
	}
	if n.lacksData() {
		if err := f.setRedirect(n, inode{fd: fd}); err != nil {
			return err
		}
	}
	from := "/proc/self/fd/" + strconv.Itoa(fd)
	if !p.whiteout {
		err = unix.Linkat(unix.AT_FDCWD, from, p.fd, name, unix.AT_SYMLINK_FOLLOW)
	} else {
		tmp := f.up.tempName()
		if err = unix.Linkat(unix.AT_FDCWD, from, f.up.work, tmp, unix.AT_SYMLINK_FOLLOW); err == nil {
			if err = f.up.moveIn(p, tmp, name, false); err != nil {
				f.up.removeTemp(tmp)
			}
		}
	}
	if err == nil {
		f.addName(n, nameIn{dir, name})
	}
	return err
}
