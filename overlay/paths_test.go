package overlay

import (
	"context"
	"errors"
	"golang.org/x/sys/unix"
	"io"
	"path/filepath"
	"sort"
	"strata/overlay/tree"
	"strings"
)

// walk resolves a path and leaves no reference behind but the last, which the
// caller forgets.
func (x *fixture) walk(path string) (Node, error) {
	n := Node{ID: Root}
	for _, part := range strings.Split(path, "/") {
		if part == "" || part == "." {
			continue
		}
		child, err := x.Lookup(n.ID, part)
		x.forget(n)
		if err != nil {
			return Node{}, err
		}
		n = child
	}
	return n, nil
}

func (x *fixture) forget(n Node) {
	if n.ID != Root {
		x.Forget(n.ID, 1)
	}
}

// in resolves the directory of path and calls fn with it.
func (x *fixture) in(path string, fn func(dir ID, name string) error) error {
	dir, err := x.walk(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer x.forget(dir)
	if dir.ID != Root && !dir.Attr.IsDir() {
		return unix.ENOTDIR
	}
	return fn(dir.ID, filepath.Base(path))
}

func (x *fixture) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *fixture) on(path string, fn func(id ID) error) error {
	n, err := x.walk(path)
	if err != nil {
		return err
	}
	defer x.forget(n)
	return fn(n.ID)
}

func (x *fixture) write(path, data string, flags int) error {
	return x.on(path, func(id ID) error {
		h, err := x.Open(context.Background(), id, flags|unix.O_WRONLY)
		if err != nil {
			return err
		}
		_, err = h.WriteAt([]byte(data), 0)
		return errors.Join(err, h.Close())
	})
}

func (x *fixture) create(path, data string) error {
	return x.in(path, func(dir ID, name string) error {
		n, h, err := x.Create(Caller{}, dir, name, 0o644)
		if err != nil {
			return err
		}
		defer x.forget(n)
		_, err = h.WriteAt([]byte(data), 0)
		return errors.Join(err, h.Close())
	})
}

func (x *fixture) read(path string) (data string, err error) {
	err = x.on(path, func(id ID) error {
		h, err := x.Open(context.Background(), id, unix.O_RDONLY)
		if err != nil {
			return err
		}
		defer h.Close()
		b, err := io.ReadAll(io.NewSectionReader(h, 0, 1<<30))
		data = string(b)
		return err
	})
	return data, err
}

// The calls by path, with no reference left behind.

func (x *fixture) mkdir(path string) error {
	return x.in(path, func(dir ID, name string) error {
		n, err := x.Mkdir(Caller{}, dir, name, 0o755)
		if err == nil {
			x.forget(n)
		}
		return err
	})
}

func (x *fixture) link(path, newPath string) error {
	return x.on(path, func(id ID) error {
		return x.in(newPath, func(dir ID, name string) error {
			n, err := x.Link(context.Background(), id, dir, name)
			if err == nil {
				x.forget(n)
			}
			return err
		})
	})
}

func (x *fixture) rename(path, newPath string, flags uint32) error {
	return x.in(path, func(dir ID, name string) error {
		return x.in(newPath, func(newDir ID, newName string) error {
			return x.Rename(context.Background(), dir, name, newDir, newName, flags)
		})
	})
}

func (x *fixture) chmod(path string, mode uint32) error {
	return x.setattr(path, SetAttr{Mode: &mode})
}

func (x *fixture) setattr(path string, s SetAttr) error {
	return x.on(path, func(id ID) error {
		_, err := x.Setattr(context.Background(), id, s)
		return err
	})
}

// stat returns the attributes of a path that must be there.
func (x *fixture) stat(path string) tree.Attr {
	x.t.Helper()
	var a tree.Attr
	x.must(x.on(path, func(id ID) (err error) {
		a, err = x.Getattr(id)
		return err
	}))
	return a
}

// hold looks a path up, which must be there, and keeps the reference.
func (x *fixture) hold(path string) Node {
	x.t.Helper()
	n, err := x.walk(path)
	x.must(err)
	return n
}

// names lists a directory.
func (x *fixture) names(path string) []string {
	x.t.Helper()
	var names []string
	x.must(x.on(path, func(id ID) error {
		d, err := x.OpenDir(id)
		if err != nil {
			return err
		}
		defer d.Close()
		names, err = listDir(d)
		return err
	}))
	return names
}

// listDir returns the names in an open directory, sorted.
func listDir(d *Dir) ([]string, error) {
	names := []string{}
	batch := make([]DirEntry, 5)
	for {
		k, err := d.ReadDir(len(names), batch)
		for _, e := range batch[:k] {
			names = append(names, e.Name)
		}
		if err != nil || k < len(batch) {
			sort.Strings(names)
			return names, err
		}
	}
}
