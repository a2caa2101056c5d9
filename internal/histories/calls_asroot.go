package histories

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// These are several system calls, by root, that together do what one call of an
// overlay does: it checks nothing and takes owner and mode as they are given.
func init() {
	register(map[string]call{
		"make file":       (*Process).makeFile,
		"make directory":  (*Process).makeDirectory,
		"make node":       (*Process).makeNode,
		"open file":       (*Process).openFile,
		"overwrite":       (*Process).overwrite,
		"resize":          (*Process).resize,
		"set attributes":  (*Process).setAttributes,
		"set times":       (*Process).setTimes,
		"set an xattr":    (*Process).setAnXattr,
		"remove an xattr": (*Process).removeAnXattr,
	})
}

func (p *Process) makeFile(s Step) (string, error) {
	fd, err := unix.Openat(p.root, s.Path, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, s.Data()); err != nil {
		return "", err
	}
	return "", p.bornAs(s)
}

func (p *Process) makeDirectory(s Step) (string, error) {
	if err := unix.Mkdirat(p.root, s.Path, 0o700); err != nil {
		return "", err
	}
	return "", p.bornAs(s)
}

func (p *Process) makeNode(s Step) (string, error) {
	if err := unix.Mknodat(p.root, s.Path, s.Mode, s.Dev); err != nil {
		return "", err
	}
	return "", unix.Fchmodat(p.root, s.Path, s.Mode&0o7777, 0)
}

// bornAs gives a new inode what it would have if that owner had made it.
func (p *Process) bornAs(s Step) error {
	var dir, st unix.Stat_t
	if err := unix.Fstatat(p.root, filepath.Dir(s.Path), &dir, 0); err != nil {
		return err
	}
	if err := unix.Fstatat(p.root, s.Path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	gid, mode := s.GID, s.Mode
	if dir.Mode&unix.S_ISGID != 0 {
		gid = int(dir.Gid)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			mode |= unix.S_ISGID
		}
	}
	if err := unix.Fchownat(p.root, s.Path, s.UID, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.Fchmodat(p.root, s.Path, mode, 0)
}

// kind is the type of what stands at a path.
func (p *Process) kind(path string) (uint32, error) {
	var st unix.Stat_t
	err := unix.Fstatat(p.root, path, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st.Mode & unix.S_IFMT, err
}

func (p *Process) openFile(s Step) (string, error) {
	p.put(s.FD, -1)
	kind, err := p.kind(s.Path) // a FIFO would wait and a device do something
	switch {
	case err != nil:
		return "", err
	case kind == unix.S_IFDIR:
		return "", unix.EISDIR
	case kind == unix.S_IFLNK:
		return "", unix.ELOOP
	case kind != unix.S_IFREG:
		return "", unix.ENXIO
	}
	fd, err := unix.Openat(p.root, s.Path, s.Flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	p.put(s.FD, fd)
	return "", err
}

func (p *Process) overwrite(s Step) (string, error) {
	fd, err := unix.Openat(p.root, s.Path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|s.Flags, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return "", unix.ENXIO
	}
	_, err = unix.Pwrite(fd, s.Data(), 0)
	return "", err
}

func (p *Process) resize(s Step) (string, error) {
	kind, err := p.kind(s.Path)
	switch {
	case err != nil:
		return "", err
	case kind == unix.S_IFDIR:
		return "", unix.EISDIR
	case kind != unix.S_IFREG:
		return "", unix.EINVAL
	}
	return "", unix.Truncate(p.pathAt(AtRoot, s.Path), s.Len)
}

func (p *Process) setAttributes(s Step) (string, error) {
	if err := unix.Fchownat(p.root, s.Path, s.UID, s.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return "", err
	}
	if kind, err := p.kind(s.Path); err != nil {
		return "", err
	} else if kind != unix.S_IFLNK {
		if err := unix.Fchmodat(p.root, s.Path, s.Mode, 0); err != nil {
			return "", err
		}
	}
	return p.setTimes(s)
}

func (p *Process) setTimes(s Step) (string, error) {
	return "", unix.UtimesNanoAt(p.root, s.Path, []unix.Timespec{s.Atime, s.Mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// xattrPath is a path that may have xattrs in user.: the overlay is not asked about
// others, for the kernel decides before.
func (p *Process) xattrPath(s Step) (string, error) {
	kind, err := p.kind(s.Path)
	if err != nil {
		return "", err
	}
	if kind != unix.S_IFDIR && kind != unix.S_IFREG {
		return "", unix.EPERM
	}
	return p.pathAt(AtRoot, s.Path), nil
}

func (p *Process) setAnXattr(s Step) (string, error) {
	path, err := p.xattrPath(s)
	if err != nil {
		return "", err
	}
	return "", unix.Lsetxattr(path, s.Name, []byte(s.Value), 0)
}

func (p *Process) removeAnXattr(s Step) (string, error) {
	path, err := p.xattrPath(s)
	if err != nil {
		return "", err
	}
	return "", unix.Lremovexattr(path, s.Name)
}
