package overlay

import (
	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

func (f *FS) lookup(parent ID, name string) (Node, error) {
	if err := checkName(name); err != nil { // ".." would leave the upper
		return Node{}, err
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	dir, err := f.lookupNode(parent)
	if err != nil {
		return Node{}, err
	}
	if dir == nil {
		n, err := f.lookupLower(parent, name)
		if err != nil {
			return Node{}, err
		}
		if dir, err = f.lookupNode(parent); err != nil || dir == nil {
			return n, err
		}
		f.Forget(n.ID, 1) // copied up meanwhile: what the lower says may be no longer true
	}
	if !dir.isDir() {
		return Node{}, unix.ENOTDIR
	}
	dir.dirMu.RLock()
	n, e, err := f.child(dir, name)
	if err != nil {
		dir.dirMu.RUnlock()
		return Node{}, err
	}
	if n == nil {
		defer dir.dirMu.RUnlock()
		return f.lowerNode(e)
	}
	dir.dirMu.RUnlock()
	a, err := f.nodeAttr(n)
	if err != nil {
		f.unref(n, 1)
		return Node{}, err
	}
	return f.give(n, a), nil
}

// lookupLower is Lookup in a lower-only directory.
func (f *FS) lookupLower(parent ID, name string) (Node, error) {
	e, err := f.lower.Lookup(tree.ID(parent), name)
	if err != nil {
		return Node{}, err
	}
	return f.lowerNode(e)
}

// child finds name in dir: a node, held, if it has something in the upper, else
// the lower's entry. The caller holds dir.dirMu.
func (f *FS) child(dir *node, name string) (*node, tree.Entry, error) {
	if dir.isDead() {
		return nil, tree.Entry{}, unix.ENOENT
	}
	e, err := f.lowerChild(dir, name)
	if err != nil {
		return nil, e, err
	}
	fd, err := f.up.acquire(dir)
	if err != nil {
		return nil, e, err
	}
	defer f.up.release(dir)
	var st unix.Stat_t
	switch i := (inode{dir: fd, name: name}); i.stat(&st) {
	case nil:
		if hidden, err := f.hides(dir, i, &st); err != nil {
			return nil, e, err
		} else if hidden {
			return nil, e, unix.ENOENT
		}
		n, err := f.upperNode(nameIn{dir, name}, i, &st, e)
		return n, e, err
	case unix.ENOENT:
		if e.ID == tree.None {
			return nil, e, unix.ENOENT
		}
		// A node may have this lower inode: it is just being copied up, or it is
		// a hard link whose other names were.
		f.tableMu.Lock()
		defer f.tableMu.Unlock()
		if n := f.nodes[ID(e.ID)]; n != nil && n.hasUpper() {
			n.refs++
			return n, e, nil
		}
		return nil, e, nil
	default:
		return nil, e, i.stat(&st)
	}
}

// lowerChild returns the lower's entry of that name below dir; ID None if there
// is none.
func (f *FS) lowerChild(dir *node, name string) (tree.Entry, error) {
	if dir.lower == tree.None {
		return tree.Entry{}, nil
	}
	e, err := f.lower.Lookup(dir.lower, name)
	if isNotExist(err) {
		return tree.Entry{}, nil
	}
	return e, err
}

// lowerNode hands out a lower-only inode.
func (f *FS) lowerNode(e tree.Entry) (Node, error) {
	a, err := f.lower.Attr(e.ID)
	if err != nil {
		return Node{}, err
	}
	f.lowerRefs.add(ID(e.ID), 1)
	return Node{ID: ID(e.ID), Attr: a}, nil
}

// isNotExist tells whether a tree said that there is no such name.
func isNotExist(err error) bool {
	errno, ok := asErrno(err)
	return ok && errno == unix.ENOENT
}
