package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay"
	"strata/overlay/tree"
)

// CopyTo copies to a path of the container: through its mount, if it has one, else
// without any; then nobody else can have it until the target is closed.
func (ct *Container) CopyTo(ctx context.Context, name string) (*CopyTarget, error) {
	t, err := ct.copyTo(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", ct.Name, err)
	}
	return t, nil
}

func (ct *Container) copyTo(ctx context.Context, name string) (*CopyTarget, error) {
	view, err := ct.OpenInProcess(ctx)
	mounted := (*MountedError)(nil)
	if err != nil && (!errors.As(err, &mounted) || mounted.Record.PID == 0) {
		return nil, err
	}
	dir, last, exists, placeErr := ct.place(ctx, name)
	if err == nil && placeErr == nil {
		return &CopyTarget{of: ct, dir: dir, path: name, name: last, exists: exists, files: &overlayFiles{v: view, dir: dir}}, nil
	}
	if err == nil {
		return nil, errors.Join(placeErr, view.Close())
	}
	if placeErr != nil {
		return nil, placeErr
	}
	// A process of the container may put a symlink there: it leads nowhere outside.
	root, err := os.OpenRoot(mounted.Record.Mountpoint)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if root, err = root.OpenRoot(path.Join(".", dir)); err != nil {
		return nil, err
	}
	return &CopyTarget{of: ct, dir: dir, path: name, name: last, exists: exists, files: &hostFiles{root}}, nil
}

// place finds the directory that a path is or is in, and the last name, if that is
// not a directory or not there.
func (ct *Container) place(ctx context.Context, name string) (dir, last string, exists bool, err error) {
	chain, err := ct.all.store.Chain(ctx, ct.Layers)
	if err != nil {
		return "", "", false, err
	}
	defer chain.Close()
	upper, err := ct.OpenUpper()
	if err != nil {
		return "", "", false, err
	}
	defer upper.Close()
	merged := tree.Stack(chain.Tree(), upper)
	id, at, err := tree.Follow(merged, name, true)
	missing := errors.Is(err, unix.ENOENT) && at != ""
	var a tree.Attr
	if err == nil {
		a, err = merged.Attr(id)
	}
	switch {
	case err != nil && !missing:
	case err == nil && a.IsDir():
		return at, "", false, nil
	case err == nil && strings.HasSuffix(name, "/"):
		err = unix.ENOTDIR
	default:
		return path.Dir(at), path.Base(at), err == nil, nil
	}
	return "", "", false, &fs.PathError{Op: "copy to", Path: name, Err: err}
}

// overlayFiles makes files below a directory of a container that is not mounted.
type overlayFiles struct {
	v   *InProcess
	dir string // absolute, without symlinks
}

func (o *overlayFiles) close() error { return o.v.Close() }

// walk finds an inode, which the caller forgets. No symlink is followed.
func (o *overlayFiles) walk(name string) (overlay.Node, error) {
	n := overlay.Node{ID: overlay.Root}
	for part := range strings.SplitSeq(path.Join(o.dir, name), "/") {
		if part == "" || part == "." {
			continue
		}
		child, err := o.v.Lookup(n.ID, part)
		o.forget(n)
		if err != nil {
			return overlay.Node{}, err
		}
		n = child
	}
	return n, nil
}

func (o *overlayFiles) forget(n overlay.Node) {
	if n.ID != overlay.Root {
		o.v.Forget(n.ID, 1)
	}
}

func (o *overlayFiles) on(name string, fn func(id overlay.ID) error) error {
	n, err := o.walk(name)
	if err != nil {
		return err
	}
	defer o.forget(n)
	return fn(n.ID)
}

func (o *overlayFiles) in(name string, fn func(dir overlay.ID, name string) error) error {
	return o.on(path.Dir(name), func(dir overlay.ID) error { return fn(dir, path.Base(name)) })
}

// born makes something.
func (o *overlayFiles) born(name string, fn func(dir overlay.ID, name string) (overlay.Node, error)) error {
	return o.in(name, func(dir overlay.ID, name string) error {
		n, err := fn(dir, name)
		if err == nil {
			o.forget(n)
		}
		return err
	})
}

func (o *overlayFiles) mode(name string) (uint32, error) {
	n, err := o.walk(name)
	if err != nil {
		return 0, err
	}
	defer o.forget(n)
	a, err := o.v.Getattr(n.ID)
	return a.Mode, err
}

func (o *overlayFiles) mkdir(name string) error {
	return o.born(name, func(dir overlay.ID, name string) (overlay.Node, error) {
		return o.v.Mkdir(overlay.Caller{}, dir, name, 0o755)
	})
}

func (o *overlayFiles) create(name string) (w io.WriteCloser, err error) {
	err = o.born(name, func(dir overlay.ID, name string) (overlay.Node, error) {
		n, f, err := o.v.Create(overlay.Caller{}, dir, name, 0o600)
		w = &overlayWriter{File: f}
		return n, err
	})
	return w, err
}

// overlayWriter writes a file from its beginning.
type overlayWriter struct {
	*overlay.File
	off int64
}

func (w *overlayWriter) Write(p []byte) (int, error) {
	n, err := w.WriteAt(p, w.off)
	w.off += int64(n)
	return n, err
}

func (o *overlayFiles) symlink(target, name string) error {
	return o.born(name, func(dir overlay.ID, name string) (overlay.Node, error) {
		return o.v.Symlink(overlay.Caller{}, dir, name, target)
	})
}

func (o *overlayFiles) link(old, name string) error {
	return o.on(old, func(id overlay.ID) error {
		return o.born(name, func(dir overlay.ID, name string) (overlay.Node, error) {
			return o.v.Link(context.Background(), id, dir, name)
		})
	})
}

func (o *overlayFiles) mknod(name string, mode uint32, rdev uint64) error {
	return o.born(name, func(dir overlay.ID, name string) (overlay.Node, error) {
		return o.v.Mknod(overlay.Caller{}, dir, name, mode, rdev)
	})
}

func (o *overlayFiles) remove(name string) error { return o.in(name, o.v.Unlink) }

func (o *overlayFiles) setMeta(name string, mode uint32, m *tree.Meta) error {
	ctx := context.Background()
	return o.on(name, func(id overlay.ID) error {
		set := overlay.SetAttr{UID: &m.UID, GID: &m.GID}
		if _, err := o.v.Setattr(ctx, id, set); err != nil {
			return err
		}
		for _, x := range m.Xattrs {
			if err := o.v.Setxattr(ctx, id, x.Name, x.Value, 0); err != nil {
				return fmt.Errorf("xattr %s: %w", x.Name, err)
			}
		}
		set = overlay.SetAttr{Mtime: &m.Mtime}
		if mode&tree.ModeType != tree.ModeSymlink {
			set.Mode = &m.Mode
		}
		_, err := o.v.Setattr(ctx, id, set)
		return err
	})
}
