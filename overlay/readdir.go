package overlay

import (
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// Dir is an open directory.
type Dir struct {
	f  *FS
	id ID

	mu    sync.Mutex
	node  *node        // held, once the directory has something in the upper
	list  []DirEntry   // the listing that positions refer to, if there is a node
	taken bool         // whether list was taken
	batch []tree.Entry // scratch
}

// OpenDir opens directory id for listing.
func (f *FS) OpenDir(id ID) (*Dir, error) {
	n, err := f.lookupNode(id)
	if err != nil {
		return nil, err
	}
	d := &Dir{f: f, id: id}
	if n != nil {
		if !n.isDir() {
			return nil, unix.ENOTDIR
		}
		f.ref(n)
		d.node = n
		return d, nil
	}
	a, err := f.lower.Attr(tree.ID(id))
	if err != nil {
		return nil, err
	}
	if !a.IsDir() {
		return nil, unix.ENOTDIR
	}
	return d, nil
}

// ID is the directory's own.
func (d *Dir) ID() ID { return d.id }

// Close lets go of the directory.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.node != nil {
		d.f.unref(d.node, 1)
	}
	d.node, d.list = nil, nil
	return nil
}

// Parent returns the attributes of the directory's parent, for "..". The root's
// is the root.
func (d *Dir) Parent() (tree.Attr, error) {
	f := d.f
	n, parent, err := f.holdParent(d.id)
	if err != nil {
		return tree.Attr{}, err
	}
	lower := tree.ID(d.id)
	if n != nil {
		defer f.unref(n, 1)
		if parent != nil {
			defer f.unref(parent, 1)
			f.renameMu.RLock()
			defer f.renameMu.RUnlock()
			return f.nodeAttr(parent)
		}
		if lower = n.lower; lower == tree.None || n.isDead() {
			return f.getattr(d.id) // nothing is above it any more
		}
	}
	p, err := f.lower.Parent(lower)
	if err != nil {
		return tree.Attr{}, err
	}
	up, err := f.lookupLowerDir(p)
	if err != nil {
		return tree.Attr{}, err
	}
	f.Forget(up.ID, 1)
	return up.Attr, nil
}

// holdParent returns the node of a directory, if it has one, and that of the
// directory which it is in, if that is known, both held.
func (f *FS) holdParent(id ID) (n, parent *node, err error) {
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	n = f.nodes[id]
	if n == nil {
		if id >= firstUpperID {
			err = unix.ESTALE
		}
		return nil, nil, err
	}
	n.refs++
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.names) > 0 { // and as long as it has the name that holds the parent
		parent = n.names[0].dir
		parent.refs++
	}
	return n, parent, nil
}

// lookupLowerDir finds the merged directory that shows lower directory dir.
func (f *FS) lookupLowerDir(dir tree.ID) (Node, error) {
	n, err := f.lookupLowerDirAt(dir)
	if err == unix.ENOENT && f.up != nil { // it may have been moved
		if err := f.findMoved(); err != nil {
			return Node{}, err
		}
		return f.lookupLowerDirAt(dir)
	}
	return n, err
}

func (f *FS) lookupLowerDirAt(dir tree.ID) (Node, error) {
	f.tableMu.Lock()
	known := f.byLower[dir]
	if known != nil {
		known.refs++
	}
	f.tableMu.Unlock()
	if known != nil {
		f.renameMu.RLock()
		defer f.renameMu.RUnlock()
		a, err := f.nodeAttr(known)
		if err != nil {
			f.unref(known, 1)
			return Node{}, err
		}
		return f.give(known, a), nil
	}
	if dir == tree.Root { // without an upper
		a, err := f.getattr(Root)
		f.lowerRefs.add(Root, 1)
		return Node{ID: Root, Attr: a}, err
	}
	names, err := f.lower.Names(dir)
	if err != nil {
		return Node{}, err
	}
	if len(names) != 1 {
		return Node{}, unix.EIO
	}
	parent, err := f.lookupLowerDirAt(names[0].Dir)
	if err != nil {
		return Node{}, err
	}
	defer f.Forget(parent.ID, 1)
	return f.lookup(parent.ID, names[0].Name)
}

// ReadDir fills entries from position pos on (0 is the start; "." and ".." are
// not among them) and returns how many it filled; fewer than len(entries) means
// that the end was reached. Position 0 takes a fresh look at the directory,
// later positions go on in that listing, whatever has changed.
func (d *Dir) ReadDir(pos int, entries []DirEntry) (int, error) {
	w := d.f.watch()
	k, err := d.readDir(pos, entries)
	if w.on() && pos == 0 {
		w.tell(Event{Op: OpReaddir, Path: d.f.pathOf(d.id), Layer: d.f.layerOfID(d.id)}, err)
	}
	return k, err
}

func (d *Dir) readDir(pos int, entries []DirEntry) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if pos == 0 {
		d.taken = false
	}
	if d.node == nil && (pos == 0 || !d.taken) {
		n, err := d.f.lookupNode(d.id)
		if err != nil {
			return 0, err
		}
		if n == nil || pos > 0 {
			return d.readLower(pos, entries)
		}
		d.f.ref(n)
		d.node = n
	}
	if !d.taken {
		list, err := d.f.list(d.node)
		if err != nil {
			return 0, err
		}
		d.list, d.taken = list, true
	}
	if pos > len(d.list) {
		return 0, nil
	}
	return copy(entries, d.list[pos:]), nil
}

// readLower lists a lower-only directory straight from the tree.
func (d *Dir) readLower(pos int, entries []DirEntry) (int, error) {
	if len(d.batch) < len(entries) {
		d.batch = make([]tree.Entry, len(entries))
	}
	k, err := d.f.lower.ReadDir(tree.ID(d.id), pos, d.batch[:len(entries)])
	for j, e := range d.batch[:k] {
		a, err := d.f.lower.Attr(e.ID)
		if err != nil {
			return j, err
		}
		entries[j] = DirEntry{Name: e.Name, Ino: a.Ino, Type: e.Type}
	}
	return k, err
}

// list takes a listing of a merged directory.
func (f *FS) list(n *node) ([]DirEntry, error) {
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	n.dirMu.RLock()
	defer n.dirMu.RUnlock()
	var list []DirEntry
	if n.isDead() {
		return list, nil
	}
	err := f.eachChild(n, func(c mergedChild) error {
		e := DirEntry{Name: c.name, Type: c.lower.Type}
		var err error
		if c.inUpper {
			e.Type = c.typ
			e.Ino, err = f.childIno(n, c)
		} else {
			var a tree.Attr
			a, err = f.lower.Attr(c.lower.ID)
			e.Ino = a.Ino
		}
		list = append(list, e)
		return err
	})
	return list, err
}

func (f *FS) fsyncdir(id ID) error {
	n, err := f.lookupNode(id)
	if err != nil || n == nil || !n.hasUpper() { // of the lower, perhaps removed: nothing was written
		return err
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	fd, err := f.up.acquire(n)
	if err != nil {
		return err
	}
	defer f.up.release(n)
	dir, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.Fsync(dir)
}
