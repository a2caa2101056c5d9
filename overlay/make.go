package overlay

import (
	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// makeSpec is what a new upper inode shall be.
type makeSpec struct {
	mode     uint32 // type and permission bits
	uid, gid uint32
	rdev     uint64
	target   string // of a symlink
}

// make makes a new upper inode. Owner and mode may be wrong for an instant, so
// the place must be one that nobody looks at, unless makesAtOnce says otherwise.
func (u *upper) make(i inode, s makeSpec) error {
	if u.format == FormatUser {
		return u.makeUser(i, s)
	}
	perm := s.mode & tree.ModePerm
	var err error
	switch s.mode & tree.ModeType {
	case tree.ModeDir:
		err = unix.Mkdirat(i.dir, i.name, perm)
	case tree.ModeSymlink:
		err = unix.Symlinkat(s.target, i.dir, i.name)
	default:
		err = unix.Mknodat(i.dir, i.name, s.mode, int(s.rdev))
	}
	if err != nil {
		return err
	}
	return u.giveAway(i, s)
}

// makeOpen is make for a regular file, which it opens to read and write.
func (u *upper) makeOpen(i inode, s makeSpec) (fd int, err error) {
	if u.format == FormatUser {
		if err := u.makeUser(i, s); err != nil {
			return -1, err
		}
		return i.open(unix.O_RDWR)
	}
	fd, err = i.create(s.mode & tree.ModePerm)
	if err != nil {
		return -1, err
	}
	if err := u.giveAway(i, s); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// giveAway gives a new inode the owner and mode that the call that made it did not.
func (u *upper) giveAway(i inode, s makeSpec) error {
	if s.uid != u.uid || s.gid != u.gid {
		if err := i.chown(int(s.uid), int(s.gid)); err != nil {
			return err
		}
	}
	if s.mode&tree.ModeType == tree.ModeSymlink || u.keepsMode(s) {
		return nil
	}
	return i.chmod(s.mode & tree.ModePerm)
}

// keepsMode tells whether the creating call alone gives the mode: the umask
// takes nothing away, mkdir(2) keeps no set-id bits and chown(2) drops them.
func (u *upper) keepsMode(s makeSpec) bool {
	return s.mode&u.umask == 0 && s.mode&(unix.S_ISUID|unix.S_ISGID) == 0
}

// makesAtOnce tells whether make gives owner and mode in the one call that makes
// the name, in a directory with this group inheritance.
func (u *upper) makesAtOnce(s makeSpec, dir *tree.Attr) bool {
	return u.format == FormatKernel &&
		s.uid == u.uid && s.gid == u.gid &&
		dir.Mode&unix.S_ISGID == 0 && u.keepsMode(s)
}

// makeUser makes a regular file or directory that stands for what is asked.
func (u *upper) makeUser(i inode, s makeSpec) error {
	if s.mode&tree.ModeType == tree.ModeDir {
		if err := unix.Mkdirat(i.dir, i.name, 0o700); err != nil {
			return err
		}
	} else {
		fd, err := i.create(0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if s.target != "" {
			if _, err := unix.Write(fd, []byte(s.target)); err != nil {
				return err
			}
		}
		if err := unix.Fchmod(fd, 0o600); err != nil {
			return err
		}
	}
	o := tree.OverrideStat{UID: s.uid, GID: s.gid, Mode: s.mode, Rdev: s.rdev}
	return i.setxattr(tree.OverrideStatXattr, []byte(o.String()), 0)
}
