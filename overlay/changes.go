package overlay

import (
	"bytes"
	"io"
	"slices"

	"strata/overlay/tree"
)

// ChangeKind tells what happened to a path.
type ChangeKind byte

const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Deleted ChangeKind = 'D'
)

func (k ChangeKind) String() string { return string(rune(k)) }

// Change is one path of the merged tree at which an upper differs from its lower.
type Change struct {
	Kind ChangeKind
	Path string // absolute
	Type uint32 // S_IFMT bits of what is there now; of what was there, if deleted
	Size int64  // bytes of a regular file, as it is now or was, else 0
}

// UpperTree opens an upper as a layer's tree, with its whiteouts and opaque
// directories. The caller closes it. It may be mounted at the same time; what is
// being changed then is seen before or after.
func UpperTree(upper string, format Format) (*tree.HostDir, error) {
	return tree.OpenHostDir(upper, format.HostDirOptions())
}

// Changes lists what an upper, as UpperTree shows it, does to its lower: sorted by
// path, parents first. A directory is changed if its own attributes are, or if
// anything in it is; a deleted directory stands for all that was in it, and so
// does a file that replaces one. A directory that was moved is deleted at its old
// path and added at the new one. The root itself is not listed.
func Changes(lower, upper tree.Tree) ([]Change, error) {
	c := comparer{lower: lower, merged: tree.Stack(lower, upper)}
	return c.dir("", tree.Root, tree.Root)
}

// comparer walks two trees side by side, only where the upper has a say.
type comparer struct {
	lower  tree.Tree
	merged *tree.Stacked // layer 0 is the lower, 1 the upper
}

// dir compares directory merged with directory low of the lower, None if the lower
// has none of that path.
func (c *comparer) dir(path string, low, merged tree.ID) ([]Change, error) {
	is, err := readAll(c.merged, merged)
	if err != nil {
		return nil, err
	}
	var was []tree.Entry
	if low != tree.None {
		if was, err = readAll(c.lower, low); err != nil {
			return nil, err
		}
	}
	var list []Change
	for len(is) > 0 || len(was) > 0 { // both are sorted by name
		var old, e tree.Entry
		if len(is) == 0 || len(was) > 0 && was[0].Name <= is[0].Name {
			old, was = was[0], was[1:]
		}
		if len(is) > 0 && (old.ID == tree.None || old.Name == is[0].Name) {
			e, is = is[0], is[1:]
		}
		below, err := c.entry(path, old, e)
		if err != nil {
			return nil, err
		}
		list = append(list, below...)
	}
	return list, nil
}

// entry compares one name in directory dir; of old and e one may have ID None.
func (c *comparer) entry(dir string, old, e tree.Entry) ([]Change, error) {
	if e.ID == tree.None {
		a, err := c.lower.Attr(old.ID)
		return []Change{change(Deleted, dir+"/"+old.Name, &a)}, err
	}
	a, err := c.merged.Attr(e.ID)
	if err != nil {
		return nil, err
	}
	if old.ID != tree.None && a.Layer == 0 {
		was, err := c.lower.Attr(old.ID)
		if err != nil || was.Ino == a.Ino { // the lower's own, and all below it
			return nil, err
		}
	}
	path := dir + "/" + e.Name
	var below []Change
	if a.IsDir() {
		low := tree.None
		if old.Type == tree.ModeDir {
			low = old.ID
		}
		if below, err = c.dir(path, low, e.ID); err != nil {
			return nil, err
		}
	}
	self := change(Added, path, &a)
	if old.ID != tree.None {
		self.Kind = Changed
		if len(below) == 0 {
			if same, err := c.same(old.ID, e.ID, &a); err != nil || same {
				return nil, err
			}
		}
	}
	return append([]Change{self}, below...), nil
}

func change(kind ChangeKind, path string, a *tree.Attr) Change {
	c := Change{Kind: kind, Path: path, Type: a.Mode & tree.ModeType}
	if a.IsRegular() {
		c.Size = a.Size
	}
	return c
}

// same tells whether a copied-up inode is still what the lower has: one that was
// opened for writing, say, and never written.
func (c *comparer) same(low, up tree.ID, a *tree.Attr) (bool, error) {
	old, err := c.lower.Attr(low)
	if err != nil {
		return false, err
	}
	if old.Mode != a.Mode || old.UID != a.UID || old.GID != a.GID || old.Mtime != a.Mtime || old.Rdev != a.Rdev {
		return false, nil
	}
	if !a.IsDir() && old.Size != a.Size {
		return false, nil
	}
	if same, err := c.sameXattrs(low, up); err != nil || !same {
		return false, err
	}
	switch {
	case a.IsRegular():
		return c.sameData(low, up)
	case a.IsSymlink():
		was, err := c.lower.Readlink(low)
		if err != nil {
			return false, err
		}
		is, err := c.merged.Readlink(up)
		return was == is, err
	}
	return true, nil
}

func (c *comparer) sameXattrs(low, up tree.ID) (bool, error) {
	was, err := c.lower.Xattrs(low)
	if err != nil {
		return false, err
	}
	is, err := c.merged.Xattrs(up)
	if err != nil || !slices.Equal(was, is) {
		return false, err
	}
	for _, name := range was {
		v, err := c.lower.Xattr(low, name)
		if err != nil {
			return false, err
		}
		w, err := c.merged.Xattr(up, name)
		if err != nil || !bytes.Equal(v, w) {
			return false, err
		}
	}
	return true, nil
}

func (c *comparer) sameData(low, up tree.ID) (bool, error) {
	was, err := c.lower.Open(low)
	if err != nil {
		return false, err
	}
	defer was.Close()
	is, err := c.merged.Open(up)
	if err != nil {
		return false, err
	}
	defer is.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(was, a)
		m, err2 := io.ReadFull(is, b)
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return err == err2, nil
		}
		if err != nil {
			return false, err
		}
		if err2 != nil {
			return false, err2
		}
	}
}

// readAll returns all entries of a directory.
func readAll(t tree.Tree, dir tree.ID) ([]tree.Entry, error) {
	var all []tree.Entry
	for batch := make([]tree.Entry, 64); ; {
		n, err := t.ReadDir(dir, len(all), batch)
		if err != nil {
			return nil, err
		}
		all = append(all, batch[:n]...)
		if n < len(batch) {
			return all, nil
		}
	}
}
