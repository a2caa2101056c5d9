package overlay

import (
	"sync"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// movedDirs is about directories of the lower that the upper shows in another
// place. Who has a lower directory and wants to know where it is now (it holds a
// name of an inode with several, say) finds it in FS.byLower as long as its node
// lives, and at its old place if it is there. Only when neither helps is the upper
// read through, once, and from then on the nodes of all moved directories are kept.
type movedDirs struct {
	mu sync.Mutex // held while the upper is read; before renameMu
	// known tells that the nodes of all moved directories are there. Written with
	// mu and renameMu held shared, read with mu or with renameMu held exclusively.
	known bool
}

// findMoved makes sure that every moved directory has a node. The caller holds no
// lock but a copyMu.
func (f *FS) findMoved() error {
	f.moved.mu.Lock()
	defer f.moved.mu.Unlock()
	if f.moved.known {
		return nil
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	root, err := f.lookupNode(Root)
	if err != nil {
		return err
	}
	if err := f.findMovedIn(root); err != nil {
		return err
	}
	f.moved.known = true
	return nil
}

func (f *FS) findMovedIn(dir *node) error {
	var names []string
	dir.dirMu.RLock()
	err := f.eachUpper(dir, func(c mergedChild, whiteout bool) error {
		if c.typ == tree.ModeDir {
			names = append(names, c.name)
		}
		return nil
	})
	dir.dirMu.RUnlock()
	if err != nil {
		return err
	}
	for _, name := range names {
		dir.dirMu.RLock()
		n, there, err := f.child(dir, name)
		dir.dirMu.RUnlock()
		if err == unix.ENOENT || err == nil && n == nil { // removed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		if n.isDir() {
			if n.lower != there.ID {
				f.keep(n)
			}
			err = f.findMovedIn(n)
		}
		f.unref(n, 1)
		if err != nil && err != unix.ENOENT && err != unix.ESTALE {
			return err
		}
	}
	return nil
}

// keep lets the node of a moved directory live until that is removed.
func (f *FS) keep(n *node) {
	if n.lower == tree.None {
		return
	}
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	if !n.kept {
		n.kept = true
		n.refs++
	}
}

// letGo ends what keep began. The caller holds a reference of its own.
func (f *FS) letGo(n *node) {
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	if n.kept {
		n.kept = false
		n.refs--
	}
}
