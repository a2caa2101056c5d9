package overlay

import (
	"bytes"
	"io/fs"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// inode reaches one inode of the upper: name in directory dir, or, if name is
// empty, descriptor fd (which may be O_PATH). Symlinks are never followed.
type inode struct {
	dir  int
	name string
	fd   int
}

// procPath names the inode for the calls that take a path and no descriptor.
func (i inode) procPath() string {
	if i.name == "" {
		return "/proc/self/fd/" + strconv.Itoa(i.fd)
	}
	return "/proc/self/fd/" + strconv.Itoa(i.dir) + "/" + i.name
}

func (i inode) stat(st *unix.Stat_t) error {
	if i.name == "" {
		return unix.Fstatat(i.fd, "", st, unix.AT_EMPTY_PATH)
	}
	return unix.Fstatat(i.dir, i.name, st, unix.AT_SYMLINK_NOFOLLOW)
}

func (i inode) chown(uid, gid int) error {
	if i.name == "" {
		return unix.Fchownat(i.fd, "", uid, gid, unix.AT_EMPTY_PATH)
	}
	return unix.Fchownat(i.dir, i.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// chmod must not be asked of a symlink.
func (i inode) chmod(mode uint32) error {
	if i.name == "" {
		return unix.Chmod(i.procPath(), mode)
	}
	return unix.Fchmodat(i.dir, i.name, mode, 0)
}

func (i inode) utimes(atime, mtime *tree.Time) error {
	ts := []unix.Timespec{timespec(atime), timespec(mtime)}
	if i.name == "" {
		return unix.UtimesNanoAt(unix.AT_FDCWD, i.procPath(), ts, 0)
	}
	return unix.UtimesNanoAt(i.dir, i.name, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func (i inode) open(flags int) (int, error) {
	if i.name == "" {
		return unix.Open(i.procPath(), flags|unix.O_CLOEXEC, 0)
	}
	return unix.Openat(i.dir, i.name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// create makes a regular file and opens it to read and write; an existing name is
// EEXIST.
func (i inode) create(perm uint32) (int, error) {
	const flags = unix.O_CREAT | unix.O_EXCL | unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC
	return unix.Openat(i.dir, i.name, flags, perm)
}

func (i inode) readlink() (string, error) {
	buf := make([]byte, unix.PathMax)
	var n int
	var err error
	if i.name == "" {
		n, err = unix.Readlinkat(i.fd, "", buf)
	} else {
		n, err = unix.Readlinkat(i.dir, i.name, buf)
	}
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// xattr returns one xattr as stored; ENODATA if there is none.
func (i inode) xattr(name string) ([]byte, error) {
	path, get := i.procPath(), unix.Lgetxattr
	if i.name == "" {
		get = unix.Getxattr
	}
	buf := make([]byte, 128)
	for {
		n, err := get(path, name, buf)
		switch {
		case err == unix.ERANGE:
			if n, err = get(path, name, nil); err != nil {
				return nil, err
			}
			buf = make([]byte, n+64)
		case err == unix.EOPNOTSUPP && strings.HasPrefix(name, "user."):
			return nil, errNoXattr // symlinks and devices have no user xattrs
		case err != nil:
			return nil, err
		default:
			return buf[:n], nil
		}
	}
}

func (i inode) setxattr(name string, value []byte, flags int) error {
	if i.name == "" {
		return unix.Setxattr(i.procPath(), name, value, flags)
	}
	return unix.Lsetxattr(i.procPath(), name, value, flags)
}

func (i inode) removexattr(name string) error {
	if i.name == "" {
		return unix.Removexattr(i.procPath(), name)
	}
	return unix.Lremovexattr(i.procPath(), name)
}

// xattrs returns the names of all xattrs as stored.
func (i inode) xattrs() ([]string, error) {
	path, list := i.procPath(), unix.Llistxattr
	if i.name == "" {
		list = unix.Listxattr
	}
	buf := make([]byte, 1024)
	for {
		n, err := list(path, buf)
		if err == unix.ERANGE {
			if n, err = list(path, nil); err == nil {
				buf = make([]byte, n+256)
				continue
			}
		}
		if err != nil || n == 0 {
			return nil, err
		}
		return strings.Split(string(bytes.TrimSuffix(buf[:n], []byte{0})), "\x00"), nil
	}
}

// attr returns the attributes that the upper keeps for an inode, whatever the
// format. Ino and, for directories, Nlink are the upper's own.
func (u *upper) attr(i inode) (tree.Attr, error) {
	var st unix.Stat_t
	if err := i.stat(&st); err != nil {
		return tree.Attr{}, err
	}
	return u.attrWith(i, &st)
}

func (u *upper) attrWith(i inode, st *unix.Stat_t) (tree.Attr, error) {
	a := attrOf(st)
	a.Xattrs = true // not known here; Xattrs of the merged tree looks
	if u.format == FormatKernel {
		return a, nil
	}
	o, err := u.override(i)
	if err != nil {
		return a, err
	}
	if o != nil {
		a.UID, a.GID, a.Rdev = o.UID, o.GID, o.Rdev
		if o.Mode&tree.ModeType == 0 {
			o.Mode |= a.Mode & tree.ModeType
		}
		a.Mode = o.Mode
		if t := a.Mode & tree.ModeType; t != tree.ModeRegular && t != tree.ModeSymlink && t != tree.ModeDir {
			a.Size, a.Blocks = 0, 0
		}
	}
	return a, nil
}

// override reads what stands in for owner, mode and type in FormatUser; nil if
// the inode has none, which then is what it looks like.
func (u *upper) override(i inode) (*tree.OverrideStat, error) {
	v, err := i.xattr(tree.OverrideStatXattr)
	if err == errNoXattr {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	o, err := tree.ParseOverrideStat(string(v))
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: u.path + ": " + i.name, Err: unix.EIO}
	}
	return &o, nil
}

// setOwner changes owner and group; -1 leaves one as it is.
func (u *upper) setOwner(i inode, uid, gid int) error {
	if u.format == FormatKernel {
		return i.chown(uid, gid)
	}
	return u.changeOverride(i, func(o *tree.OverrideStat) {
		if uid >= 0 {
			o.UID = uint32(uid)
		}
		if gid >= 0 {
			o.GID = uint32(gid)
		}
		if o.Mode&tree.ModeType != tree.ModeDir { // as chown(2) does, also to a FIFO
			o.Mode &^= unix.S_ISUID
			if o.Mode&unix.S_IXGRP != 0 {
				o.Mode &^= unix.S_ISGID
			}
		}
	})
}

// setMode changes the permission bits.
func (u *upper) setMode(i inode, mode uint32) error {
	mode &= tree.ModePerm
	if u.format == FormatKernel {
		return i.chmod(mode)
	}
	return u.changeOverride(i, func(o *tree.OverrideStat) { o.Mode = o.Mode&tree.ModeType | mode })
}

func (u *upper) changeOverride(i inode, change func(*tree.OverrideStat)) error {
	a, err := u.attr(i)
	if err != nil {
		return err
	}
	o := tree.OverrideStat{UID: a.UID, GID: a.GID, Mode: a.Mode, Rdev: a.Rdev}
	change(&o)
	return i.setxattr(tree.OverrideStatXattr, []byte(o.String()), 0)
}

// readlinkOf returns a symlink's target, wherever the format keeps it.
func (u *upper) readlinkOf(i inode) (string, error) {
	if u.format == FormatKernel {
		return i.readlink()
	}
	fd, err := i.open(unix.O_RDONLY)
	if err == unix.ELOOP {
		return i.readlink() // a real one, which somebody else made
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	buf := make([]byte, unix.PathMax)
	n, err := unix.Pread(fd, buf, 0)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
