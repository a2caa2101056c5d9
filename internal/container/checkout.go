package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// Checkout writes the last of layers, base first, into the new directory dir as
// a plain directory that the kernel's overlayfs takes as a lower: whiteouts are
// devices 0:0, opaque directories have trusted.overlay.opaque=y. It needs root.
//
// A directory that the layer has no entry for takes the attributes of what the
// layers below show there, because in a plain directory there is no other way
// not to change them.
func Checkout(ctx context.Context, layers []tree.Tree, dir string) error {
	if os.Geteuid() != 0 {
		return errors.New("check out: needs root, because a plain directory must have the layer's owners, devices and marks")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	// Names are made by an empty directory of our own, so nothing that a layer
	// has can lead outside: symlinks are made, never followed.
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("check out: %w", err)
	}
	last := len(layers) - 1
	c := checkout{layer: layers[last], below: tree.Stack(layers[:last]...), dir: dir, links: map[tree.ID]string{}}
	err := tree.Walk(c.layer, func(path string, e tree.Entry, a *tree.Attr) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(path, e, a); err != nil {
			return fmt.Errorf("check out /%s to %s: %w", path, dir, err)
		}
		return nil
	})
	if err == nil {
		err = c.finishDirs()
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(dir)) // nothing half done stays
	}
	return err
}

type checkout struct {
	layer tree.Tree
	below tree.Tree
	dir   string
	links map[tree.ID]string // where an inode with several names is
	dirs  []checkedOutDir    // parents first
}

// checkedOutDir gets its times last, because making names in it changes them.
type checkedOutDir struct {
	path string
	attr tree.Attr
}

func (c *checkout) entry(path string, e tree.Entry, a *tree.Attr) error {
	at := filepath.Join(c.dir, path)
	if e.Whiteout {
		return unix.Mknod(at, unix.S_IFCHR, 0)
	}
	if !a.IsDir() && a.Nlink > 1 {
		if first, ok := c.links[e.ID]; ok {
			return os.Link(first, at)
		}
		c.links[e.ID] = at
	}
	switch a.Mode & tree.ModeType {
	case tree.ModeDir:
		return c.directory(path, at, e, a)
	case tree.ModeRegular:
		if err := c.file(e.ID, at); err != nil {
			return err
		}
	case tree.ModeSymlink:
		target, err := c.layer.Readlink(e.ID)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, at); err != nil {
			return err
		}
	case tree.ModeChar:
		if a.Rdev == 0 {
			return errors.New("it is a device 0:0, which would be a whiteout in a plain directory")
		}
		fallthrough
	default:
		if err := unix.Mknod(at, a.Mode, int(a.Rdev)); err != nil {
			return err
		}
	}
	if err := copyXattrs(c.layer, e.ID, at); err != nil {
		return err
	}
	return setAttr(at, a)
}

func (c *checkout) directory(path, at string, e tree.Entry, a *tree.Attr) error {
	if path != "" {
		if err := os.Mkdir(at, 0o700); err != nil {
			return err
		}
	}
	from, id, attr := c.layer, e.ID, *a
	if a.Implicit {
		belowID, below, err := lookupPath(c.below, path)
		switch {
		case err == nil && below.IsDir():
			from, id, attr = c.below, belowID, below
		case err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR):
			return err
		}
	}
	if err := copyXattrs(from, id, at); err != nil {
		return err
	}
	opaque, err := c.layer.Opaque(e.ID)
	if err != nil {
		return err
	}
	if opaque {
		if err := unix.Lsetxattr(at, overlayXattr+"opaque", []byte("y"), 0); err != nil {
			return os.NewSyscallError("setxattr "+overlayXattr+"opaque", err)
		}
	}
	c.dirs = append(c.dirs, checkedOutDir{at, attr})
	return nil
}

func (c *checkout) file(id tree.ID, at string) error {
	in, err := c.layer.Open(id)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func (c *checkout) finishDirs() error {
	for i := len(c.dirs) - 1; i >= 0; i-- {
		if err := setAttr(c.dirs[i].path, &c.dirs[i].attr); err != nil {
			return fmt.Errorf("check out: %w", err)
		}
	}
	return nil
}

const overlayXattr = "trusted.overlay."

// copyXattrs copies an inode's xattrs. One that overlayfs would obey is
// escaped, as overlayfs itself writes it.
func copyXattrs(t tree.Tree, id tree.ID, at string) error {
	names, err := t.Xattrs(id)
	if err != nil {
		return err
	}
	for _, name := range names {
		value, err := t.Xattr(id, name)
		if err != nil {
			return err
		}
		stored := name
		if rest, ok := strings.CutPrefix(name, overlayXattr); ok {
			stored = overlayXattr + "overlay." + rest
		}
		if err := unix.Lsetxattr(at, stored, value, 0); err != nil {
			return os.NewSyscallError("setxattr "+stored, err)
		}
	}
	return nil
}

// setAttr sets owner, mode and times. The owner goes first, for chown clears
// set-id bits.
func setAttr(at string, a *tree.Attr) error {
	if err := os.Lchown(at, int(a.UID), int(a.GID)); err != nil {
		return err
	}
	if !a.IsSymlink() {
		if err := unix.Chmod(at, a.Mode&tree.ModePerm); err != nil {
			return &os.PathError{Op: "chmod", Path: at, Err: err}
		}
	}
	times := []unix.Timespec{
		{Sec: a.Atime.Sec, Nsec: int64(a.Atime.Nsec)},
		{Sec: a.Mtime.Sec, Nsec: int64(a.Mtime.Nsec)},
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, at, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: at, Err: err}
	}
	return nil
}

// lookupPath follows names from the root, and no symlinks. The path is one that
// tree.Walk gives.
func lookupPath(t tree.Tree, path string) (tree.ID, tree.Attr, error) {
	id := tree.Root
	for name := range strings.SplitSeq(path, "/") {
		if name == "" { // the root
			break
		}
		e, err := t.Lookup(id, name)
		if err != nil {
			return id, tree.Attr{}, err
		}
		id = e.ID
	}
	a, err := t.Attr(id)
	return id, a, err
}
