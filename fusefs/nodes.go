package fusefs

import (
	"container/list"
	"slices"
	"sync"
	"sync/atomic"

	"strata/overlay"
)

// ioMode is how the kernel moves a node's data. All handles that are open on a
// node at one time have the same mode; the kernel answers EIO to the process
// if we mix them.
type ioMode int

const (
	ioCached      ioMode = iota // READ and WRITE requests behind the kernel's page cache
	ioPassthrough               // the kernel uses the backing file itself
)

// node is the state of one FUSE node id that cannot be read off the id: it
// exists while the node is open, and for an alias while the kernel knows it.
type node struct {
	nid uint64     // never changes
	id  overlay.ID // never changes

	pins    int    // opens and those being made; guarded by nodeTable.mu
	mappers int    // of these, how many allow stores through a mapping; guarded by nodeTable.mu
	lookups uint64 // aliases: the kernel's references; guarded by nodeTable.mu

	// privileged says that there may be set-id bits or capabilities to take
	// away when somebody writes.
	privileged atomic.Bool

	// capsRemoved says that capabilities were removed while it was open, as the
	// kernel does before a write and then sends a SETATTR that sets nothing.
	capsRemoved atomic.Bool

	mu      sync.Mutex // held while a handle joins or leaves; guards what follows
	opens   int        // handles that joined
	lowers  int        // of these, how many have the lower open
	mode    ioMode     // valid while opens > 0
	onLower bool       // ioPassthrough: whether the backing file is the lower's
	backing int32      // ioPassthrough: the one backing id that all handles share

	registered bool          // backing is a backing id; stays so with kept
	kept       *overlay.File // see keptFiles
	keptAt     *list.Element // guarded by keptFiles.mu

	// rebased is the upper's file, from which handles on the lower read after
	// a copy-up; nil before. Set under mu, ioCached only.
	rebased atomic.Pointer[overlay.File]
}

// aliasBit is set in node ids that are aliases. The overlay's own IDs stay far
// below it.
const aliasBit = 1 << 63

// split lists the kernel's names for an overlay ID that has more than one.
type split struct {
	first   bool     // the kernel still knows it by its own ID
	aliases []uint64 // oldest first; the last is what replies say now. Never empty
}

// current is the node id that replies use.
func (s *split) current() uint64 { return s.aliases[len(s.aliases)-1] }

// volatile tells whether there are several kernel inodes now, so that none may
// keep attributes.
func (s *split) volatile() bool { return s.first || len(s.aliases) > 1 }

// nodeTable maps the kernel's node ids to overlay IDs and back. A node id is
// the overlay ID unless there is an alias, so that a node about which there is
// nothing to say is not in the table.
type nodeTable struct {
	mu     sync.RWMutex
	nodes  map[uint64]*node
	splits map[overlay.ID]*split
	next   uint64 // the last alias handed out
}

func newNodeTable() *nodeTable {
	return &nodeTable{
		nodes:  make(map[uint64]*node),
		splits: make(map[overlay.ID]*split),
	}
}

// id returns the overlay's ID of node nid, false for an alias that is gone.
func (t *nodeTable) id(nid uint64) (overlay.ID, bool) {
	if nid&aliasBit == 0 {
		return overlay.ID(nid), true
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.nodes[nid]
	if n == nil {
		return 0, false
	}
	return n.id, true
}

// hand returns the node id by which a reply that gives the kernel a reference
// calls id, and whether its attributes must not be kept.
func (t *nodeTable) hand(id overlay.ID) (nid uint64, volatile bool) {
	t.mu.RLock()
	s := t.splits[id]
	if s == nil {
		n := t.nodes[uint64(id)]
		volatile = n != nil && n.mappers > 0
		t.mu.RUnlock()
		return uint64(id), volatile
	}
	t.mu.RUnlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	if s = t.splits[id]; s == nil {
		return uint64(id), true // it has just ended: let the kernel ask again
	}
	nid = s.current()
	n := t.nodes[nid]
	n.lookups++
	return nid, s.volatile() || n.mappers > 0
}

// volatile tells whether the attributes of nid must not be kept: while it can be
// changed through a mapping, which is not reported, and while the kernel has
// several inodes for it, since each sees only its own changes.
func (t *nodeTable) volatile(nid uint64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.nodes[nid]
	if n != nil && n.mappers > 0 {
		return true
	}
	id := overlay.ID(nid)
	if nid&aliasBit != 0 {
		if n == nil {
			return true
		}
		id = n.id
	}
	s := t.splits[id]
	return s != nil && s.volatile()
}

// forget takes k of the kernel's references to nid and returns the overlay's ID,
// false for an alias that is gone.
func (t *nodeTable) forget(nid, k uint64) (overlay.ID, bool) {
	if nid&aliasBit == 0 {
		id := overlay.ID(nid)
		t.mu.RLock()
		_, isSplit := t.splits[id]
		t.mu.RUnlock()
		if isSplit {
			t.forgetFirst(id)
		}
		return overlay.ID(nid), true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[nid]
	if n == nil {
		return 0, false
	}
	n.lookups -= min(k, n.lookups)
	t.dropIfIdleLocked(n)
	return n.id, true
}

// forgetFirst notes that the kernel no longer knows id by its own ID. Replies
// stopped using that when it was split, and the kernel gives all its references
// back at once.
func (t *nodeTable) forgetFirst(id overlay.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.splits[id]
	if s == nil {
		return
	}
	s.first = false
	t.tidyLocked(id, s)
}

// pin returns the node nid for a handle that is to be opened on it, nil if nid
// is not (or no longer) what replies call its overlay ID.
func (t *nodeTable) pin(nid uint64, acc access) *node { return t.pinIf(nid, acc, false) }

// pinAny is as pin, also for a node that replies call by another id.
func (t *nodeTable) pinAny(nid uint64, acc access) *node { return t.pinIf(nid, acc, true) }

func (t *nodeTable) pinIf(nid uint64, acc access, superseded bool) *node {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[nid]
	id := overlay.ID(nid)
	if nid&aliasBit != 0 {
		if n == nil {
			return nil
		}
		id = n.id
	}
	if s := t.splits[id]; s != nil && s.current() != nid && !superseded {
		return nil
	}
	if n == nil {
		n = &node{nid: nid, id: id}
		t.nodes[nid] = n
	}
	n.pins++
	if acc.maps() {
		n.mappers++
	}
	return n
}

// unpin undoes pin. It tells whether n is open no more and was given an alias
// while it was.
func (t *nodeTable) unpin(n *node, acc access) (superseded bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n.pins--
	if acc.maps() {
		n.mappers--
	}
	s := t.splits[n.id]
	superseded = n.pins == 0 && s != nil && s.current() != n.nid
	t.dropIfIdleLocked(n)
	return superseded
}

// dropIfIdleLocked removes n if there is nothing to say about it any more.
func (t *nodeTable) dropIfIdleLocked(n *node) {
	if n.nid&aliasBit == 0 && n.pins == 0 {
		delete(t.nodes, n.nid)
	}
	if s := t.splits[n.id]; s != nil {
		t.tidyLocked(n.id, s)
	}
}

// tidyLocked drops the aliases of id that the kernel knows no more. The one that
// replies use stays as long as there is any other: a kernel that looks a name up
// again after ESTALE gives the alias back and asks once more, and must get it.
func (t *nodeTable) tidyLocked(id overlay.ID, s *split) {
	current := s.current()
	s.aliases = slices.DeleteFunc(s.aliases, func(nid uint64) bool {
		idle := nid != current && t.nodes[nid].idle()
		if idle {
			delete(t.nodes, nid)
		}
		return idle
	})
	if s.first || t.nodes[uint64(id)] != nil || len(s.aliases) > 1 || !t.nodes[current].idle() {
		return
	}
	delete(t.nodes, current)
	delete(t.splits, id)
}

// isSplit tells whether the kernel has several inodes for id.
func (t *nodeTable) isSplit(id overlay.ID) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.splits[id] != nil
}

// passesLower tells whether n is open, and the kernel uses the lower's file.
func (n *node) passesLower() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.opens > 0 && n.mode == ioPassthrough && n.onLower
}

// idle tells whether alias n is neither open nor known to the kernel. The
// caller holds nodeTable.mu.
func (n *node) idle() bool { return n.pins == 0 && n.lookups == 0 }

// split gives n's overlay ID a fresh alias, which replies call it from now on.
// It does nothing if n is not what replies call it now: then somebody else was
// faster.
func (t *nodeTable) split(n *node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.splits[n.id]
	if s == nil {
		s = &split{first: true}
		t.splits[n.id] = s
	} else if s.current() != n.nid {
		return
	}
	t.next++
	nid := aliasBit | t.next
	t.nodes[nid] = &node{nid: nid, id: n.id}
	s.aliases = append(s.aliases, nid)
}

// find returns the node nid if there is state about it.
func (t *nodeTable) find(nid uint64) *node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.nodes[nid]
}

// others returns what else the kernel may call the inode that it calls nid.
func (t *nodeTable) others(nid uint64) []uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	id := overlay.ID(nid)
	if nid&aliasBit != 0 {
		n := t.nodes[nid]
		if n == nil {
			return nil
		}
		id = n.id
	}
	s := t.splits[id]
	if s == nil {
		return nil
	}
	var others []uint64
	if s.first && uint64(id) != nid {
		others = append(others, uint64(id))
	}
	for _, a := range s.aliases {
		if a != nid {
			others = append(others, a)
		}
	}
	return others
}
