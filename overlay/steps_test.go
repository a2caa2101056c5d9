package overlay

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"strata/internal/histories"
	"strata/overlay/tree"
)

// inProcess is an FS as a world of histories: the calls are made without a kernel.
type inProcess struct {
	x     *fixture
	files [histories.Slots]*File
}

func (w *inProcess) Do(s histories.Step) histories.Answer {
	text, err := w.do(s)
	a := histories.Answer{Errno: errnoOf(err)}
	if err == nil {
		a.Text = text
	}
	return a
}

func (w *inProcess) End() error {
	for i, h := range w.files {
		if h != nil {
			if err := h.Close(); err != nil {
				return err
			}
		}
		w.files[i] = nil
	}
	return nil
}

func (w *inProcess) Tree() (histories.Tree, error) { return w.x.dump(), nil }

// do is a step that may have to do with files that stay open.
func (w *inProcess) do(s histories.Step) (text string, err error) {
	switch s.Call {
	case "open file":
		if h := w.files[s.FD]; h != nil {
			w.files[s.FD] = nil
			if err := h.Close(); err != nil {
				return "", err
			}
		}
		return "", w.x.on(s.Path, func(id ID) error {
			w.files[s.FD], err = w.x.Open(context.Background(), id, s.Flags)
			return err
		})
	case "close", "pread", "pwrite", "fallocate", "lseek", "copy_file_range":
		if w.files[s.FD] == nil || s.Call == "copy_file_range" && w.files[s.ToFD] == nil {
			return "", unix.EBADF
		}
		return w.onFile(s, w.files[s.FD])
	case "nlink":
		return itoa(int(w.x.stat(s.Path).Nlink)), nil
	}
	return "", w.x.do(s)
}

func (w *inProcess) onFile(s histories.Step, h *File) (text string, err error) {
	switch s.Call {
	case "close":
		w.files[s.FD] = nil
		return "", h.Close()
	case "pread":
		buf := make([]byte, s.Len)
		n, err := h.ReadAt(buf, s.Off)
		if err == io.EOF {
			err = nil
		}
		return histories.Contents(buf[:n]), err
	case "pwrite":
		n, err := h.WriteAt(s.Data(), s.Off)
		return itoa(n), err
	case "fallocate":
		return "", h.Fallocate(s.Off, s.Len, s.Mode)
	case "lseek":
		n, err := h.Lseek(s.Off, s.Flags)
		a, statErr := w.x.Getattr(h.ID())
		w.x.must(statErr)
		return histories.Sparse(s, n, err, a.Size, func(b []byte) error {
			_, err := h.ReadAt(b, s.Off)
			if err == io.EOF {
				err = nil
			}
			return err
		})
	}
	n, err := h.CopyRange(s.Off, w.files[s.ToFD], s.ToOff, s.Len)
	return fmt.Sprint(n), err
}

// do is a step that leaves nothing open.
func (x *fixture) do(s histories.Step) error {
	ctx, caller := context.Background(), Caller{UID: uint32(s.UID), GID: uint32(s.GID)}
	born := func(make func(dir ID, name string) (Node, error)) error {
		return x.in(s.Path, func(dir ID, name string) error {
			n, err := make(dir, name)
			if err == nil {
				x.forget(n)
			}
			return err
		})
	}
	set := func(a SetAttr) error { return x.setattr(s.Path, a) }
	switch s.Call {
	case "make file":
		return born(func(dir ID, name string) (Node, error) {
			n, h, err := x.Create(caller, dir, name, s.Mode)
			if err != nil {
				return n, err
			}
			defer h.Close()
			_, err = h.WriteAt(s.Data(), 0)
			return n, err
		})
	case "make directory":
		return born(func(dir ID, name string) (Node, error) { return x.Mkdir(caller, dir, name, s.Mode) })
	case "make node", "mknodat":
		return born(func(dir ID, name string) (Node, error) { return x.Mknod(caller, dir, name, s.Mode, uint64(s.Dev)) })
	case "symlinkat":
		return born(func(dir ID, name string) (Node, error) { return x.Symlink(caller, dir, name, s.To) })
	case "unlinkat":
		if s.Flags&unix.AT_REMOVEDIR != 0 {
			return x.in(s.Path, x.Rmdir)
		}
		return x.in(s.Path, x.Unlink)
	case "linkat":
		return x.link(s.Path, s.To)
	case "renameat2":
		return x.rename(s.Path, s.To, uint32(s.Flags))
	case "overwrite":
		return x.write(s.Path, string(s.Data()), s.Flags)
	case "resize":
		return set(SetAttr{Size: &s.Len})
	case "set times":
		return set(SetAttr{Atime: timeSet(s.Atime), Mtime: timeSet(s.Mtime)})
	case "set attributes":
		return x.on(s.Path, func(id ID) error {
			a := SetAttr{UID: &caller.UID, GID: &caller.GID, Atime: timeSet(s.Atime), Mtime: timeSet(s.Mtime)}
			if now, err := x.Getattr(id); err == nil && !now.IsSymlink() {
				a.Mode = &s.Mode
			}
			_, err := x.Setattr(ctx, id, a)
			return err
		})
	case "set an xattr", "remove an xattr":
		return x.on(s.Path, func(id ID) error {
			if a, err := x.Getattr(id); err == nil && !a.IsDir() && !a.IsRegular() {
				return unix.EPERM // for user xattrs, as the kernel decides before it asks
			}
			if s.Call == "remove an xattr" {
				return x.Removexattr(ctx, id, s.Name)
			}
			return x.Setxattr(ctx, id, s.Name, []byte(s.Value), 0)
		})
	}
	panic("a step that is no call of an overlay: " + s.Call)
}

// timeSet is nil for UTIME_OMIT.
func timeSet(ts unix.Timespec) *tree.Time {
	if ts.Nsec == unix.UTIME_OMIT {
		return nil
	}
	return &tree.Time{Sec: ts.Sec, Nsec: uint32(ts.Nsec)}
}
