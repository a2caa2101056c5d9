package container

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// CopyFromHost copies from a path of the host.
func CopyFromHost(name string, o CopyOptions) (*CopySource, error) {
	stat := os.Lstat
	if o.Follow || strings.HasSuffix(name, "/") || strings.HasSuffix(name, "/.") {
		stat = os.Stat
	}
	info, err := stat(name)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(name, "/") && !info.IsDir() {
		return nil, &fs.PathError{Op: "copy", Path: name, Err: unix.ENOTDIR}
	}
	from := name
	if info.Mode()&os.ModeSymlink == 0 {
		if from, err = filepath.EvalSymlinks(name); err != nil {
			return nil, err
		}
	}
	s := &CopySource{path: name, name: lastName(name), isDir: info.IsDir()}
	s.tar = func(ctx context.Context, w io.Writer, as string) error { return packHost(ctx, w, from, as) }
	return s, nil
}

// lastName is the last name of a path; of one that ends in . or .. none.
func lastName(name string) string {
	if base := path.Base(path.Clean(name)); base != "." && base != ".." && base != "/" {
		return base
	}
	return ""
}

// packHost writes what is at a path of the host as a tar, called as.
func packHost(ctx context.Context, w io.Writer, from, as string) error {
	p := hostPacker{out: tar.NewWriter(w), links: map[[2]uint64]string{}}
	err := filepath.WalkDir(from, func(at string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, at)
		if err != nil {
			return err
		}
		return p.add(at, path.Join(as, rel))
	})
	return errors.Join(err, p.out.Close())
}

type hostPacker struct {
	out   *tar.Writer
	links map[[2]uint64]string // inodes with several names, by device and number
}

func (p *hostPacker) add(at, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(at, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: at, Err: err}
	}
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(st.Mode & tree.ModePerm), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Typeflag: tar.TypeReg,
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		inode := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := p.links[inode]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return p.out.WriteHeader(h)
		}
		p.links[inode] = name
	}
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		h.Linkname, err = os.Readlink(at)
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFSOCK:
		return nil
	}
	if err != nil {
		return err
	}
	h.PAXRecords = hostXattrs(at)
	if h.Typeflag != tar.TypeReg {
		return p.out.WriteHeader(h)
	}
	return p.file(at, h)
}

func (p *hostPacker) file(at string, h *tar.Header) error {
	f, err := os.Open(at)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	h.Size = info.Size()
	if err := p.out.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyN(p.out, f, h.Size)
	if err == io.EOF {
		err = fmt.Errorf("%s has become shorter, %d bytes of %d", at, n, h.Size)
	}
	return err
}

// hostXattrs are the xattrs that copies keep, as far as they can be read.
func hostXattrs(at string) map[string]string {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(at, list)
	if err != nil {
		return nil
	}
	records := map[string]string{}
	for name := range strings.SplitSeq(string(list[:n]), "\x00") {
		if !strings.HasPrefix(name, "user.") && name != "security.capability" || strings.Contains(name, "=") {
			continue
		}
		value := make([]byte, 64<<10)
		if n, err := unix.Lgetxattr(at, name, value); err == nil {
			records["SCHILY.xattr."+name] = string(value[:n])
		}
	}
	return records
}

// CopyToHost copies to a path of the host.
func CopyToHost(name string) (*CopyTarget, error) {
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return hostTarget(name, name, "", false)
	case err == nil && strings.HasSuffix(name, "/"):
		return nil, &fs.PathError{Op: "copy to", Path: name, Err: unix.ENOTDIR}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	at := name
	if target, linkErr := filepath.EvalSymlinks(name); linkErr == nil {
		at = target // the file that a symlink leads to
	}
	return hostTarget(name, filepath.Dir(filepath.Clean(at)), lastName(at), err == nil)
}

func hostTarget(typed, dir, name string, exists bool) (*CopyTarget, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	owner := [2]uint32{uint32(os.Geteuid()), uint32(os.Getegid())}
	return &CopyTarget{path: typed, name: name, exists: exists, files: &hostFiles{root}, owner: owner}, nil
}

// hostFiles makes files below a directory of the host, which may be in a mount.
type hostFiles struct{ root *os.Root }

func (h *hostFiles) close() error { return h.root.Close() }

// in calls fn with the directory that holds a name.
func (h *hostFiles) in(name string, fn func(dir int, name string) error) error {
	dir, err := h.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return fn(int(dir.Fd()), path.Base(name))
}

func (h *hostFiles) mode(name string) (mode uint32, err error) {
	err = h.in(name, func(dir int, name string) error {
		var st unix.Stat_t
		err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
		mode = st.Mode
		return err
	})
	return mode, err
}

func (h *hostFiles) mkdir(name string) error { return h.root.Mkdir(name, 0o755) }

func (h *hostFiles) create(name string) (io.WriteCloser, error) {
	return h.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (h *hostFiles) symlink(target, name string) error {
	return h.in(name, func(dir int, name string) error { return unix.Symlinkat(target, dir, name) })
}

func (h *hostFiles) link(old, name string) error {
	return h.in(old, func(oldDir int, old string) error {
		return h.in(name, func(dir int, name string) error { return unix.Linkat(oldDir, old, dir, name, 0) })
	})
}

func (h *hostFiles) mknod(name string, mode uint32, rdev uint64) error {
	return h.in(name, func(dir int, name string) error { return unix.Mknodat(dir, name, mode, int(rdev)) })
}

func (h *hostFiles) remove(name string) error {
	return h.in(name, func(dir int, name string) error { return unix.Unlinkat(dir, name, 0) })
}

// setMeta sets the owner first, for chown clears set-id bits and capabilities.
func (h *hostFiles) setMeta(name string, mode uint32, m *tree.Meta) error {
	return h.in(name, func(dir int, name string) error {
		if err := unix.Fchownat(dir, name, int(m.UID), int(m.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("chown", err)
		}
		if mode&tree.ModeType != tree.ModeSymlink {
			if err := unix.Fchmodat(dir, name, m.Mode, 0); err != nil {
				return os.NewSyscallError("chmod", err)
			}
		}
		at := fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
		for _, x := range m.Xattrs {
			err := unix.Lsetxattr(at, x.Name, x.Value, 0)
			if err != nil && err != unix.ENOTSUP && err != unix.EPERM { // what there cannot be here
				return os.NewSyscallError("setxattr "+x.Name, err)
			}
		}
		now := unix.Timespec{Nsec: unix.UTIME_NOW}
		times := []unix.Timespec{now, {Sec: m.Mtime.Sec, Nsec: int64(m.Mtime.Nsec)}}
		return os.NewSyscallError("utimensat", unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW))
	})
}
