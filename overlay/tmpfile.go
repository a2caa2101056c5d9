package overlay

import (
	"os"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// tmpfile makes a regular file without a name, in the work directory: Link may
// give it one later. What it inherits comes from directory dir.
func (f *FS) tmpfile(c Caller, dir ID, mode uint32) (Node, *File, error) {
	if err := f.writable(); err != nil {
		return Node{}, nil, err
	}
	dirAttr, err := f.getattr(dir)
	switch {
	case err != nil:
		return Node{}, nil, err
	case !dirAttr.IsDir():
		return Node{}, nil, unix.ENOTDIR
	case dirAttr.Nlink == 0:
		return Node{}, nil, unix.ENOENT
	}
	s := makeSpec{mode: tree.ModeRegular | mode&tree.ModePerm}
	inherit(&s, c, &dirAttr)
	fd, err := f.up.makeNameless(s)
	if err != nil {
		return Node{}, nil, err
	}
	file := os.NewFile(uintptr(fd), "")
	n, a, err := f.enterNameless(inode{fd: fd})
	if err != nil {
		file.Close()
		return Node{}, nil, err
	}
	f.ref(n)
	return f.give(n, a), &File{f: f, id: n.id, node: n, file: file}, nil
}

// makeNameless is make for a regular file without a name, which it opens.
func (u *upper) makeNameless(s makeSpec) (fd int, err error) {
	fd, err = unix.Openat(u.work, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	i := inode{fd: fd}
	if u.format == FormatUser {
		o := tree.OverrideStat{UID: s.uid, GID: s.gid, Mode: s.mode}
		err = i.setxattr(tree.OverrideStatXattr, []byte(o.String()), 0)
	} else if err = i.chown(int(s.uid), int(s.gid)); err == nil {
		err = i.chmod(s.mode & tree.ModePerm)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// enterNameless makes the node, held, of a new upper inode that only a descriptor
// reaches.
func (f *FS) enterNameless(i inode) (*node, tree.Attr, error) {
	var st unix.Stat_t
	if err := i.stat(&st); err != nil {
		return nil, tree.Attr{}, err
	}
	a, err := f.up.attrWith(i, &st)
	if err != nil {
		return nil, a, err
	}
	n := newNode(0, 0, tree.ModeRegular, tree.None)
	if n.pin, err = i.open(unix.O_PATH); err != nil {
		return nil, a, err
	}
	a.Ino = bornIno + st.Ino
	n.inUpper, n.upIno, n.ino, n.refs = true, st.Ino, a.Ino, 1
	f.tableMu.Lock()
	f.enterLocked(n)
	f.tableMu.Unlock()
	return n, a, nil
}
