package overlay

import (
	"encoding/binary"
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

// mergedChild is a visible name in a directory.
type mergedChild struct {
	name    string
	inUpper bool
	upIno   uint64     // number in the upper, if it is there
	typ     uint32     // S_IFMT bits, if it is in the upper
	lower   tree.Entry // what the lower has of that name, visible or not; ID None if nothing
	at      inode      // of the upper one
}

// eachChild calls fn for every visible name in directory n. The caller holds
// n.dirMu.
func (f *FS) eachChild(n *node, fn func(mergedChild) error) error {
	covered := map[string]bool{} // names of the lower for which the upper speaks
	err := f.eachUpper(n, func(c mergedChild, whiteout bool) error {
		if c.lower.ID != tree.None {
			covered[c.name] = true
		}
		if whiteout {
			return nil
		}
		return fn(c)
	})
	if err != nil || n.lower == tree.None {
		return err
	}
	batch := make([]tree.Entry, 128)
	for pos := 0; ; {
		k, err := f.lower.ReadDir(n.lower, pos, batch)
		if err != nil {
			return err
		}
		for _, e := range batch[:k] {
			if !covered[e.Name] {
				if err := fn(mergedChild{name: e.Name, lower: e}); err != nil {
					return err
				}
			}
		}
		if pos += k; k < len(batch) {
			return nil
		}
	}
}

// eachUpper calls fn for every name that the upper has in directory n, whiteouts
// too. The caller holds n.dirMu.
func (f *FS) eachUpper(n *node, fn func(c mergedChild, whiteout bool) error) error {
	fd, err := f.up.acquire(n)
	if err != nil {
		return err
	}
	defer f.up.release(n)
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return eachDirent(dir, func(d dirent) error {
		c := mergedChild{name: d.name, inUpper: true, upIno: d.ino, typ: d.typ, at: inode{dir: fd, name: d.name}}
		var err error
		if c.lower, err = f.lowerChild(n, d.name); err != nil {
			return err
		}
		if d.typ == tree.ModeDir {
			return fn(c, false)
		}
		if d.typ == tree.ModeChar || d.typ == 0 || f.up.format == FormatUser || n.xwhiteouts {
			var st unix.Stat_t
			if err := c.at.stat(&st); err != nil {
				return err
			}
			if hidden, err := f.hides(n, c.at, &st); err != nil {
				return err
			} else if hidden {
				return fn(c, true)
			}
			a, err := f.up.attrWith(c.at, &st)
			if err != nil {
				return err
			}
			c.typ = a.Mode & tree.ModeType
		}
		return fn(c, false)
	})
}

// childIno is the number that a name in the upper shows.
func (f *FS) childIno(dir *node, c mergedChild) (uint64, error) {
	f.tableMu.RLock()
	known := f.byUpper[c.upIno]
	f.tableMu.RUnlock()
	if known != nil {
		known.mu.Lock()
		defer known.mu.Unlock()
		return known.ino, nil
	}
	n := newNode(0, 0, c.typ, tree.None)
	n.ino = bornIno + c.upIno
	switch {
	case n.isDir():
		return n.ino, f.readDirMarks(n, c.at, dir, c.lower)
	case dir.impure:
		return n.ino, f.readFileMarks(n, c.at, dir, c.lower, -1)
	}
	return n.ino, nil
}

// countSubdirsLocked finds out how many directories are visible in n, from what
// the lower knows and what the upper says about it.
func (f *FS) countSubdirsLocked(n *node) error {
	if n.lower == tree.None {
		known, err := f.upperNlink(n)
		if err != nil {
			return err
		}
		if known >= 2 {
			n.subdirs = known - 2
			return nil
		}
	}
	count := 0
	if n.lower != tree.None {
		a, err := f.lower.Attr(n.lower)
		if err != nil {
			return err
		}
		count = int(a.Nlink) - 2
	}
	err := f.eachUpper(n, func(c mergedChild, whiteout bool) error {
		if c.typ == tree.ModeDir && !whiteout {
			count++
		}
		if c.lower.Type == tree.ModeDir {
			count-- // merged with, or hidden by, what the upper has
		}
		return nil
	})
	if err == nil {
		n.subdirs = count
	}
	return err
}

// upperNlink is what the upper's filesystem says; some do not count
// subdirectories and say 1.
func (f *FS) upperNlink(n *node) (int, error) {
	fd, err := f.up.acquire(n)
	if err != nil {
		return 0, err
	}
	defer f.up.release(n)
	var st unix.Stat_t
	err = inode{fd: fd}.stat(&st)
	return int(st.Nlink), err
}

// checkEmpty is ENOTEMPTY if a name is visible in directory n. The caller holds
// n.dirMu or renameMu exclusively.
func (f *FS) checkEmpty(n *node) error {
	return f.eachChild(n, func(mergedChild) error { return unix.ENOTEMPTY })
}

// dirent is one record of getdents64(2).
type dirent struct {
	name string
	ino  uint64
	typ  uint32 // S_IFMT bits, 0 if the filesystem does not say
}

// eachDirent reads a directory; "." and ".." are left out.
//
//	u64 d_ino, s64 d_off, u16 d_reclen, u8 d_type, name, NUL
func eachDirent(fd int, fn func(dirent) error) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n == 0 {
			return err
		}
		for rec := buf[:n]; len(rec) > 19; {
			size := int(binary.NativeEndian.Uint16(rec[16:]))
			d := dirent{
				ino:  binary.NativeEndian.Uint64(rec),
				typ:  uint32(rec[18]) << 12, // DT_* are the S_IFMT bits, shifted
				name: unix.ByteSliceToString(rec[19:size]),
			}
			rec = rec[size:]
			if d.name == "." || d.name == ".." {
				continue
			}
			if err := fn(d); err != nil {
				return err
			}
		}
	}
}

func (f *FS) fsyncdir(id ID) error {
	n, err := f.lookupNode(id)
	if err != nil || n == nil {
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
