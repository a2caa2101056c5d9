package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/container"
	"strata/overlay"
	"strata/overlay/tree"
)

// view is the way to the files of one container. Paths are relative to its
// root.
type view interface {
	fmt.Stringer                   // where it is
	write(name, text string) error // makes the file, or overwrites it
	remove(name string) error      // of a directory: with all that is in it
	mkdir(name string) error
	copyTo(dir string) error // copies everything that is seen into the new directory dir
	close() error
}

// openView mounts the container, or, where that failed for the first one, opens
// it within this process.
func (d *demo) openView(ctx context.Context, ct *demoContainer) error {
	if d.noMount == nil {
		v, err := d.mountView(ctx, ct)
		if err == nil {
			ct.view = v
			return nil
		}
		if ct != d.containers[0] || ctx.Err() != nil {
			return err
		}
		d.noMount = err
	}
	fs, err := ct.OpenInProcess(ctx)
	if err != nil {
		return err
	}
	ct.view = &inProcess{fs: fs, caller: overlay.Caller{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}}
	return nil
}

// mounted is a container that another process serves: one that uses what it
// serves itself could wait for itself when it ends.
type mounted struct {
	ct  *container.Container
	dir string
}

func (d *demo) mountView(ctx context.Context, ct *demoContainer) (view, error) {
	dir := filepath.Join(d.dir, ct.Name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	log, err := ct.LogFile()
	if err != nil {
		return nil, err
	}
	args := []string{"--root", d.root, "--run", d.run, "mount", "--detached", "-o", "noallow_other", "--", string(ct.ID), dir}
	if _, _, err := container.Detach(ctx, args, log); err != nil {
		return nil, err
	}
	return &mounted{ct: ct.Container, dir: dir}, nil
}

func (m *mounted) String() string { return m.dir }

func (m *mounted) write(name, text string) error {
	return os.WriteFile(filepath.Join(m.dir, name), []byte(text), 0o644)
}

func (m *mounted) remove(name string) error { return os.RemoveAll(filepath.Join(m.dir, name)) }

func (m *mounted) mkdir(name string) error { return os.Mkdir(filepath.Join(m.dir, name), 0o755) }

func (m *mounted) copyTo(dir string) error { return os.CopyFS(dir, os.DirFS(m.dir)) }

func (m *mounted) close() error {
	if err := m.ct.Unmount(context.Background(), container.UnmountOptions{}); err != nil {
		return err
	}
	return os.Remove(m.dir)
}

// inProcess is a container whose overlay is called without a kernel in between.
// Nodes are not forgotten: the view is short-lived.
type inProcess struct {
	fs     *container.InProcess
	caller overlay.Caller
}

func (v *inProcess) String() string { return "this process" }

// lookup follows a path from the root.
func (v *inProcess) lookup(name string) (overlay.Node, error) {
	node := overlay.Node{ID: overlay.Root}
	if name == "." {
		return node, nil
	}
	for _, part := range strings.Split(name, "/") {
		var err error
		if node, err = v.fs.Lookup(node.ID, part); err != nil {
			return node, &os.PathError{Op: "lookup", Path: name, Err: err}
		}
	}
	return node, nil
}

func (v *inProcess) write(name, text string) error {
	parent, err := v.lookup(path.Dir(name))
	if err != nil {
		return err
	}
	file, err := v.openToWrite(parent.ID, path.Base(name))
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	_, err = file.WriteAt([]byte(text), 0)
	return errors.Join(err, file.Close())
}

func (v *inProcess) openToWrite(parent overlay.ID, name string) (*overlay.File, error) {
	const flags = unix.O_WRONLY | unix.O_TRUNC
	node, err := v.fs.Lookup(parent, name)
	if errors.Is(err, unix.ENOENT) {
		_, file, err := v.fs.Create(v.caller, parent, name, 0o644)
		return file, err
	}
	if err != nil {
		return nil, err
	}
	return v.fs.Open(context.Background(), node.ID, flags)
}

func (v *inProcess) mkdir(name string) error {
	parent, err := v.lookup(path.Dir(name))
	if err != nil {
		return err
	}
	_, err = v.fs.Mkdir(v.caller, parent.ID, path.Base(name), 0o755)
	return err
}

func (v *inProcess) remove(name string) error {
	parent, err := v.lookup(path.Dir(name))
	if err != nil {
		return err
	}
	return v.removeAll(parent.ID, path.Base(name))
}

func (v *inProcess) removeAll(parent overlay.ID, name string) error {
	node, err := v.fs.Lookup(parent, name)
	if err != nil {
		return err
	}
	if !node.Attr.IsDir() {
		return v.fs.Unlink(parent, name)
	}
	entries, err := v.list(node.ID)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := v.removeAll(node.ID, e.Name); err != nil {
			return err
		}
	}
	return v.fs.Rmdir(parent, name)
}

func (v *inProcess) list(id overlay.ID) ([]overlay.DirEntry, error) {
	dir, err := v.fs.OpenDir(id)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	var all []overlay.DirEntry
	for {
		var some [64]overlay.DirEntry
		n, err := dir.ReadDir(len(all), some[:])
		if err != nil {
			return nil, err
		}
		all = append(all, some[:n]...)
		if n < len(some) {
			return all, nil
		}
	}
}

func (v *inProcess) copyTo(dir string) error { return v.copyDir(overlay.Root, dir) }

func (v *inProcess) copyDir(id overlay.ID, to string) error {
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	entries, err := v.list(id)
	if err != nil {
		return err
	}
	for _, e := range entries {
		node, err := v.fs.Lookup(id, e.Name)
		if err != nil {
			return err
		}
		name := filepath.Join(to, e.Name)
		switch node.Attr.Mode & tree.ModeType {
		case tree.ModeDir:
			err = v.copyDir(node.ID, name)
		case tree.ModeSymlink:
			var target string
			if target, err = v.fs.Readlink(node.ID); err == nil {
				err = os.Symlink(target, name)
			}
		default:
			err = v.copyFile(node, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *inProcess) copyFile(node overlay.Node, to string) error {
	file, err := v.fs.Open(context.Background(), node.ID, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer file.Close()
	data := make([]byte, node.Attr.Size)
	if _, err := file.ReadAt(data, 0); err != nil && len(data) > 0 {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}

func (v *inProcess) close() error { return v.fs.Close() }
