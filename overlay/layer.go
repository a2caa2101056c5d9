package overlay

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// Layer is an upper as a layer's tree: laid over the lower it shows what the FS
// showed when it was taken.
//
// Nothing in it is peculiar to an upper. A directory that was moved is whole: it has
// all its names, and is opaque if the lower has another one there. A file that was
// copied up without its data has that of the lower, with its digest if the lower
// knows it. Whiteouts and opaque marks stand only where they hide something. The
// root is implicit if it is as the lower's.
//
// Names, attributes, xattrs and targets are those of one instant. Contents are read
// when they are opened, under whatever name the file has then, or none.
type Layer struct {
	*tree.Builder
	f     *FS
	known lowerContents
	nodes []*node // whose contents may be asked for, held
}

// lowerContents opens contents of which the lower knows the digest.
type lowerContents map[tree.ObjectDigest]func() (*os.File, error)

// OpenObject implements tree.Objects.
func (c lowerContents) OpenObject(d tree.ObjectDigest) (*os.File, error) {
	open, ok := c[d]
	if !ok {
		return nil, unix.ENODATA
	}
	return open()
}

// hostLabel is an xattr that the machine's policy puts on files, and no container.
const hostLabel = "security.selinux"

// Layer takes the upper as a layer's tree. Meanwhile all that follows names waits.
// The caller closes it, before the FS.
func (f *FS) Layer(ctx context.Context) (*Layer, error) {
	known := lowerContents{}
	l := &Layer{Builder: tree.NewBuilder(known), f: f, known: known}
	err := l.take(ctx)
	if err == nil {
		err = l.Finish()
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close lets go of the files.
func (l *Layer) Close() error {
	for _, n := range l.nodes {
		l.f.unref(n, 1)
	}
	l.nodes = nil
	return nil
}

func (l *Layer) take(ctx context.Context) (err error) {
	f := l.f
	if f.up == nil {
		return nil
	}
	f.renameMu.Lock()
	defer f.renameMu.Unlock()
	up, err := UpperTree(f.up.path, f.up.format)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.Close()) }()
	root, err := f.lookupNode(Root)
	if err != nil {
		return err
	}
	w := layerWalk{ctx: ctx, l: l, up: up, merged: tree.Stack(f.lower, up), first: map[tree.ID]string{}, linked: map[string]bool{}}
	if err := w.root(); err != nil {
		return err
	}
	if err := w.dir(layerDir{up: tree.Root, merged: tree.Root, low: tree.Root, node: root}); err != nil {
		return err
	}
	return w.otherNames()
}

// layerWalk goes through an upper, whose names do not change meanwhile.
type layerWalk struct {
	ctx    context.Context // of take
	l      *Layer
	up     *tree.HostDir
	merged *tree.Stacked // layer 0 is the lower, 1 the upper

	// Of inodes with several names: a path that each has in the layer; all such
	// paths; and those inodes of the lower whose other names may be elsewhere.
	first  map[tree.ID]string
	linked map[string]bool
	moved  []tree.ID
}

// layerDir is a directory of the layer.
type layerDir struct {
	path   string
	up     tree.ID // in the upper; None if it is only the lower's
	merged tree.ID
	low    tree.ID // what stands in the lower at this path, if that is a directory and is not hidden; or None
	node   *node   // nil if it is only the lower's
	whole  bool    // all its names are of the layer
}

// root adds the root, unless it is as the lower's.
func (w *layerWalk) root() error {
	a, err := w.merged.Attr(tree.Root)
	if err != nil {
		return err
	}
	meta, err := w.meta(w.merged, tree.Root, &a)
	if err != nil {
		return err
	}
	lower := w.l.f.lower
	if a, err = lower.Attr(tree.Root); err != nil {
		return err
	}
	was, err := w.meta(lower, tree.Root, &a)
	if err != nil {
		return err
	}
	if sameMeta(meta, was) {
		return nil
	}
	return w.l.AddDir("", meta)
}

func sameMeta(a, b tree.Meta) bool {
	return a.Mode == b.Mode && a.UID == b.UID && a.GID == b.GID && a.Mtime == b.Mtime &&
		slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y tree.Xattr) bool { return x.Name == y.Name && string(x.Value) == string(y.Value) })
}

// meta is tree.MetaOf without what the host has put there.
func (w *layerWalk) meta(t tree.Tree, id tree.ID, a *tree.Attr) (tree.Meta, error) {
	m, err := tree.MetaOf(t, id, a)
	m.Xattrs = slices.DeleteFunc(m.Xattrs, func(x tree.Xattr) bool { return x.Name == hostLabel })
	return m, err
}

// dir adds what is in a directory.
func (w *layerWalk) dir(d layerDir) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	entries, err := tree.ReadDirAll(w.merged, d.merged)
	if !d.whole && err == nil {
		entries, err = tree.ReadDirAll(w.up, d.up)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := strings.TrimPrefix(d.path+"/"+e.Name, "/")
		low, err := w.lookup(w.l.f.lower, d.low, e.Name)
		if err != nil {
			return err
		}
		if e.Whiteout {
			if low.ID != tree.None {
				if err := w.l.AddWhiteout(path); err != nil {
					return err
				}
			}
			continue
		}
		if err := w.name(d, path, e.Name, low); err != nil {
			return err
		}
	}
	return nil
}

// lookup is Lookup that finds nothing where there is nothing.
func (w *layerWalk) lookup(t tree.Tree, dir tree.ID, name string) (tree.Entry, error) {
	if dir == tree.None {
		return tree.Entry{}, nil
	}
	e, err := t.Lookup(dir, name)
	if isNotExist(err) {
		return tree.Entry{}, nil
	}
	return e, err
}

// name adds one visible name of d. low is what the lower has at its path.
func (w *layerWalk) name(d layerDir, path, name string, low tree.Entry) error {
	e, err := w.merged.Lookup(d.merged, name)
	if err != nil {
		return err
	}
	a, err := w.merged.Attr(e.ID)
	if err != nil {
		return err
	}
	up, err := w.lookup(w.up, d.up, name)
	if err != nil {
		return err
	}
	var n *node
	if up.ID != tree.None {
		if n, err = w.child(d.node, name); err != nil {
			return err
		}
		defer func() {
			if n != nil {
				w.l.f.unref(n, 1)
			}
		}()
	}
	if a.IsDir() {
		return w.subdir(d, layerDir{path: path, up: up.ID, merged: e.ID, node: n}, &a, low)
	}
	if first, ok := w.first[e.ID]; ok {
		w.linked[path] = true
		return w.l.AddLink(path, first)
	}
	if a.Nlink > 1 {
		w.first[e.ID], w.linked[path] = path, true
		if n == nil {
			w.moved = append(w.moved, e.ID)
		}
	}
	meta, err := w.meta(w.merged, e.ID, &a)
	if err != nil {
		return err
	}
	switch a.Mode & tree.ModeType {
	case tree.ModeRegular:
		var held bool
		if held, err = w.file(path, e.ID, meta, &a, n); held {
			w.l.nodes, n = append(w.l.nodes, n), nil
		}
		return err
	case tree.ModeSymlink:
		target, err := w.merged.Readlink(e.ID)
		if err != nil {
			return err
		}
		return w.l.AddSymlink(path, meta, target)
	}
	return w.l.AddSpecial(path, meta, a.Mode&tree.ModeType, a.Rdev)
}

// child returns the node, held, of a name that is in the upper.
func (w *layerWalk) child(dir *node, name string) (*node, error) {
	dir.dirMu.RLock()
	defer dir.dirMu.RUnlock()
	n, _, err := w.l.f.child(dir, name)
	if err == nil && n == nil {
		err = unix.ESTALE // somebody writes to the upper beside us
	}
	return n, err
}

// subdir adds directory sub of d and what is in it.
func (w *layerWalk) subdir(d, sub layerDir, a *tree.Attr, low tree.Entry) error {
	meta, err := w.meta(w.merged, sub.merged, a)
	if err != nil {
		return err
	}
	if err := w.l.AddDir(sub.path, meta); err != nil {
		return err
	}
	opaque := d.whole
	sub.whole = d.whole
	if !d.whole {
		if opaque, err = w.up.Opaque(sub.up); err != nil {
			return err
		}
		redirect, err := w.up.Redirect(sub.up)
		if err != nil {
			return err
		}
		if redirect != "" && !opaque {
			opaque, sub.whole = true, true
		}
	}
	if low.Type == tree.ModeDir {
		if !opaque {
			sub.low = low.ID
		} else if err := w.l.AddOpaque(sub.path); err != nil {
			return err
		}
	}
	return w.dir(sub)
}

// file adds a regular file, of which n is held if there is something of it in the
// upper. It tells whether n is needed to open it.
func (w *layerWalk) file(path string, id tree.ID, meta tree.Meta, a *tree.Attr, n *node) (held bool, err error) {
	if n != nil && !n.lacksData() {
		return true, w.l.AddContent(path, meta, a.Size, func() (*os.File, error) { return w.l.f.openUpperFile(n, unix.O_RDONLY) })
	}
	// From here on nothing of the data is the upper's, and the lower never changes.
	c, err := w.merged.Content(id)
	if err != nil {
		return false, err
	}
	open := func() (*os.File, error) { return w.merged.Open(id) }
	if n != nil {
		data := n.lower
		open = func() (*os.File, error) { return w.l.f.lower.Open(data) }
	}
	if c.Known {
		w.l.known[c.Digest] = open
		return false, w.l.AddFile(path, meta, c.Digest, c.Size)
	}
	return false, w.l.AddContent(path, meta, a.Size, open)
}

// otherNames adds the names of the lower's inodes that a moved directory has brought
// here, for one inode cannot be in two layers.
func (w *layerWalk) otherNames() error {
	for _, id := range w.moved {
		names, err := w.merged.Names(id)
		if err != nil {
			return err
		}
		for _, name := range names {
			dir, err := w.path(name.Dir)
			if err != nil {
				return err
			}
			if path := strings.TrimPrefix(dir+"/"+name.Name, "/"); !w.linked[path] {
				if err := w.l.AddLink(path, w.first[id]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// path is where a directory of the merged tree is.
func (w *layerWalk) path(dir tree.ID) (string, error) {
	path := ""
	for dir != tree.Root {
		names, err := w.merged.Names(dir)
		if err != nil {
			return "", err
		}
		path = strings.TrimSuffix(names[0].Name+"/"+path, "/")
		dir = names[0].Dir
	}
	return path, nil
}
