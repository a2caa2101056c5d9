package overlay

import (
	"bytes"
	"io"
	"slices"
	"sort"

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
// anything in it is; a deleted directory stands for all that was in it; what a
// file replaces, too. The root itself is not listed.
func Changes(lower, upper tree.Tree) ([]Change, error) {
	c := comparer{lower: lower, upper: upper}
	list, err := c.dir("", tree.Root, tree.Root)
	if err != nil {
		return nil, err
	}
	return list, nil
}

type comparer struct{ lower, upper tree.Tree }

// dir compares what the upper has in directory up with directory low of the lower,
// None if the lower has none.
func (c *comparer) dir(path string, low, up tree.ID) ([]Change, error) {
	entries, err := readAll(c.upper, up)
	if err != nil {
		return nil, err
	}
	if low != tree.None {
		opaque, err := c.upper.Opaque(up)
		if err != nil {
			return nil, err
		}
		if opaque { // all that the lower has is deleted but for what came back
			if entries, err = c.withDeleted(entries, low); err != nil {
				return nil, err
			}
		}
	}
	var list []Change
	for _, e := range entries {
		old := tree.Entry{}
		if low != tree.None {
			if old, err = c.lower.Lookup(low, e.Name); err != nil && !isNotExist(err) {
				return nil, err
			}
		}
		below, err := c.entry(path+"/"+e.Name, old, e)
		if err != nil {
			return nil, err
		}
		list = append(list, below...)
	}
	return list, nil
}

// withDeleted adds whiteouts for the names that only the lower has.
func (c *comparer) withDeleted(entries []tree.Entry, low tree.ID) ([]tree.Entry, error) {
	olds, err := readAll(c.lower, low)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, e := range entries {
		have[e.Name] = true
	}
	for _, old := range olds {
		if !have[old.Name] {
			entries = append(entries, tree.Entry{Name: old.Name, Whiteout: true})
		}
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return entries, nil
}

// entry compares one name.
func (c *comparer) entry(path string, old, e tree.Entry) ([]Change, error) {
	if e.Whiteout {
		if old.ID == tree.None {
			return nil, nil // it hides nothing
		}
		a, err := c.lower.Attr(old.ID)
		return []Change{change(Deleted, path, &a)}, err
	}
	a, err := c.upper.Attr(e.ID)
	if err != nil {
		return nil, err
	}
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
		is, err := c.upper.Readlink(up)
		return was == is, err
	}
	return true, nil
}

func (c *comparer) sameXattrs(low, up tree.ID) (bool, error) {
	was, err := c.lower.Xattrs(low)
	if err != nil {
		return false, err
	}
	is, err := c.upper.Xattrs(up)
	if err != nil || !slices.Equal(was, is) {
		return false, err
	}
	for _, name := range was {
		v, err := c.lower.Xattr(low, name)
		if err != nil {
			return false, err
		}
		w, err := c.upper.Xattr(up, name)
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
	is, err := c.upper.Open(up)
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
