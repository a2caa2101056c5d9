package overlay

import (
	"container/list"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// node is an inode that has something in the upper, or a lower inode whose last
// name is gone. See the package comment for its life and its locks.
type node struct {
	id    ID      // never changes
	gen   uint64  // never changes
	typ   uint32  // S_IFMT bits; never changes
	lower tree.ID // directories: what is merged below; others: the lower inode that it was, if that matters, or None. Never changes

	xwhiteouts bool // whiteouts in it may be empty files, see FS.hides; never changes

	copyMu sync.Mutex // held while it is copied up

	dirMu sync.RWMutex // directories: guards the names in it
	// subdirs is how many directories are visible in it, -1 if not known yet.
	subdirs int  // guarded by dirMu
	impure  bool // it may hold copied-up inodes, marked overlay.impure; guarded by dirMu

	mu      sync.Mutex
	inUpper bool   // there is an upper inode; guarded by mu
	noData  bool   // the upper inode has no data yet, it is still lower's; guarded by mu
	upIno   uint64 // its number on the upper's filesystem; guarded by mu
	ino     uint64 // the number that is shown; guarded by mu

	inoByName bool // ino is known by the name only, not recorded; guarded by mu

	noXattrs     bool   // the upper inode is known to show none; guarded by mu
	xattrChanges uint64 // how often that may have changed; guarded by mu

	names []nameIn // known names in the upper; replaced, never changed in place; guarded by mu
	pin   int      // O_PATH descriptor when there is no name left, else -1; guarded by mu
	dead  bool     // the last name is gone; guarded by mu

	// refs counts open Files and Dirs, nodes with a name in this directory and,
	// for IDs from firstUpperID on, what was handed out. Guarded by FS.tableMu.
	refs int
	kept bool // one of refs is because it is a moved directory; guarded by FS.tableMu

	dirFD    int           // guarded by dirCache.mu, as the next two
	dirUsers int           // how many use dirFD
	dirElem  *list.Element // its place among the idle
}

// nameIn is a name in the upper.
type nameIn struct {
	dir  *node
	name string
}

// firstUpperID is where the IDs of nodes that no lower-only inode had begin.
const firstUpperID ID = 1 << 48

func newNode(id ID, gen uint64, typ uint32, lower tree.ID) *node {
	return &node{id: id, gen: gen, typ: typ, lower: lower, pin: -1, dirFD: -1, subdirs: -1}
}

func (n *node) isDir() bool { return n.typ == tree.ModeDir }

func (n *node) has(at nameIn) bool { return slices.Contains(n.names, at) }

// hasUpper tells whether the node is (already) in the upper.
func (n *node) hasUpper() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.inUpper
}

// lacksData tells whether the data of an upper file is still the lower's.
func (n *node) lacksData() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.inUpper && n.noData
}

func (n *node) isDead() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dead
}

// give turns a hold on n, as upperNode takes it, into a reference that Forget
// gives back, and returns n as callers see it.
func (f *FS) give(n *node, a tree.Attr) Node {
	if n.id < firstUpperID {
		f.lowerRefs.add(n.id, 1)
		f.unref(n, 1)
	}
	return Node{ID: n.id, Generation: n.gen, Attr: a}
}

// Forget gives back k of the references to id that Lookup and the creating
// calls handed out.
func (f *FS) Forget(id ID, k uint64) {
	if id < firstUpperID && f.lowerRefs.sub(id, uint32(k)) > 0 {
		return
	}
	f.tableMu.RLock()
	n := f.nodes[id]
	f.tableMu.RUnlock()
	if n == nil {
		return
	}
	if id < firstUpperID {
		k = 0
	}
	f.unref(n, int(k))
}

// lookupNode returns the node with that ID, nil for a lower-only inode, ESTALE
// for an ID that nothing has.
func (f *FS) lookupNode(id ID) (*node, error) {
	f.tableMu.RLock()
	n := f.nodes[id]
	f.tableMu.RUnlock()
	if n == nil && id >= firstUpperID {
		return nil, unix.ESTALE
	}
	return n, nil
}

// holdNode is lookupNode with one more reference to what it returns.
func (f *FS) holdNode(id ID) (*node, error) {
	f.tableMu.Lock()
	defer f.tableMu.Unlock()
	n := f.nodes[id]
	if n == nil && id >= firstUpperID {
		return nil, unix.ESTALE
	}
	if n != nil {
		n.refs++
	}
	return n, nil
}

// ref counts one more reference to n.
func (f *FS) ref(n *node) {
	f.tableMu.Lock()
	n.refs++
	f.tableMu.Unlock()
}

// unref gives k references back and drops nodes that nothing refers to.
func (f *FS) unref(n *node, k int) {
	for n != nil {
		f.tableMu.Lock()
		n.refs -= k
		if n.refs > 0 || f.nodes[n.id] != n || n.id < firstUpperID && f.lowerRefs.count(n.id) > 0 {
			f.tableMu.Unlock()
			return
		}
		delete(f.nodes, n.id)
		n.mu.Lock()
		if f.byUpper[n.upIno] == n {
			delete(f.byUpper, n.upIno)
		}
		if n.lower != tree.None && f.byLower[n.lower] == n {
			delete(f.byLower, n.lower)
		}
		names, pin := n.names, n.pin
		n.names, n.pin, n.inUpper = nil, -1, false
		n.mu.Unlock()
		f.tableMu.Unlock()

		if pin >= 0 {
			unix.Close(pin)
		}
		f.up.dirs.drop(n)
		n = nil
		for i, at := range names { // each name held its directory
			if i == len(names)-1 {
				n, k = at.dir, 1
			} else {
				f.unref(at.dir, 1)
			}
		}
	}
}

// addName records a name of n, which holds the name's directory.
func (f *FS) addName(n *node, at nameIn) {
	n.mu.Lock()
	known := n.has(at)
	if !known {
		n.names = append(slices.Clip(n.names), at)
	}
	n.mu.Unlock()
	if !known {
		f.ref(at.dir)
	}
}

// dropName forgets a name of n, which has another one.
func (f *FS) dropName(n *node, at nameIn) {
	n.mu.Lock()
	known := n.dropNameLocked(at)
	n.mu.Unlock()
	if known {
		f.unref(at.dir, 1)
	}
}

// dropNameLocked tells whether n had the name, whose directory then is to be let
// go of.
func (n *node) dropNameLocked(at nameIn) bool {
	known := n.has(at)
	if known {
		n.names = slices.DeleteFunc(slices.Clone(n.names), func(x nameIn) bool { return x == at })
	}
	return known
}

// upperNode returns the node of the upper inode that is called at, making it if
// need be, with one more reference. lower is the lower inode of the same merged
// name, or None. The caller holds at.dir.dirMu.
func (f *FS) upperNode(at nameIn, i inode, st *unix.Stat_t, lower tree.Entry) (*node, error) {
	f.tableMu.Lock()
	if n := f.byUpper[st.Ino]; n != nil {
		n.refs++
		f.tableMu.Unlock()
		if !n.isDir() {
			f.addName(n, at)
		}
		return n, nil
	}
	f.tableMu.Unlock()

	a, err := f.up.attrWith(i, st)
	if err != nil {
		return nil, err
	}
	for {
		brought := f.brought.Load()
		n := newNode(0, 0, a.Mode&tree.ModeType, tree.None)
		n.inUpper, n.upIno, n.ino = true, st.Ino, bornIno+st.Ino
		marksErr := f.readMarks(n, i, at.dir, lower, st)

		f.tableMu.Lock()
		if have := f.byUpper[st.Ino]; have != nil { // somebody else was faster
			have.refs++
			f.tableMu.Unlock()
			if !have.isDir() {
				f.addName(have, at)
			}
			return have, nil
		}
		if f.brought.Load() != brought {
			// Marks that were read may be old: another node of this inode came, took
			// its data from the lower, and went.
			f.tableMu.Unlock()
			if err := i.stat(st); err != nil {
				return nil, err
			}
			continue
		}
		if marksErr == nil {
			f.insertLocked(n, at)
		}
		f.tableMu.Unlock()
		if marksErr != nil {
			return nil, marksErr
		}
		return n, nil
	}
}

// insertLocked gives n, which is called at, an ID and enters it in the tables,
// held.
func (f *FS) insertLocked(n *node, at nameIn) {
	n.names, n.refs = []nameIn{at}, 1
	at.dir.refs++
	f.enterLocked(n)
}

// enterLocked gives n an ID and enters it in the tables.
func (f *FS) enterLocked(n *node) {
	n.id, n.gen = f.nextID, uint64(f.nextID-firstUpperID)
	f.nextID++
	f.nodes[n.id] = n
	f.byUpper[n.upIno] = n
	if n.isDir() && n.lower != tree.None {
		f.byLower[n.lower] = n
	}
}

// at is an upper inode held in reach; done lets go.
type at struct {
	inode
	dir *node // whose dirMu is held shared and whose descriptor is in use; nil if neither is
}

// at is the one door to a node's upper inode. While it is held the directory in
// which the inode was found does not change. The caller holds renameMu shared
// and no dirMu of a parent of n.
func (f *FS) at(n *node) (at, error) {
	if n.id == Root {
		return at{inode: inode{fd: f.up.root}}, nil
	}
	for {
		n.mu.Lock()
		names, pin, inUpper := n.names, n.pin, n.inUpper
		n.mu.Unlock()
		switch {
		case !inUpper:
			return at{}, unix.ESTALE
		case len(names) == 0:
			return at{inode: inode{fd: pin}}, nil
		}
		where := names[0]
		where.dir.dirMu.RLock()
		n.mu.Lock()
		still := n.has(where)
		n.mu.Unlock()
		if !still {
			where.dir.dirMu.RUnlock()
			continue
		}
		fd, err := f.up.acquire(where.dir)
		if err != nil {
			where.dir.dirMu.RUnlock()
			return at{}, err
		}
		return at{inode: inode{dir: fd, name: where.name}, dir: where.dir}, nil
	}
}

func (f *FS) done(a at) {
	if a.dir != nil {
		f.up.release(a.dir)
		a.dir.dirMu.RUnlock()
	}
}
