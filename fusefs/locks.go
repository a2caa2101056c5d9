package fusefs

import (
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"strata/overlay"
)

// lockTable holds the locks of a mount. What it knows of is a file of the
// overlay, whatever and however many inodes the kernel has for it.
//
// Two sorts of locks do not see each other, as on any local filesystem: record
// locks, which are POSIX and OFD locks, and those of flock(2).
type lockTable struct {
	used atomic.Bool     // somebody has locked something; else there is nothing to look at
	gone <-chan struct{} // closed when there is no mount any more; set before the first request

	mu sync.RWMutex
	// files has those that have locks, or had some since the kernel knows them.
	files   map[overlay.ID]*lockedFile
	waiting map[uint64][]*lockWaiter // who waits for a record lock without limit, by owner
}

// lockedFile is guarded by lockTable.mu.
type lockedFile struct {
	records lockList
	flocks  lockList
	waiters []*lockWaiter // longest first
}

// lockHolder is what the table knows of an open file description.
type lockHolder struct {
	// announced says that whenever a descriptor of it is closed we are told
	// before close(2) returns. It never changes.
	announced bool

	used     atomic.Bool // somebody has locked through it
	closedAt time.Time   // of a descriptor, the last time; guarded by lockTable.mu
}

// lockRequest is what a process asks for.
type lockRequest struct {
	lock
	flock bool // flock(2), else a record lock
	wait  bool
}

func newLockTable() *lockTable {
	return &lockTable{
		files:   make(map[overlay.ID]*lockedFile),
		waiting: make(map[uint64][]*lockWaiter),
	}
}

// seen tells whether somebody has locked the file since the kernel knows it.
func (t *lockTable) seen(id overlay.ID) bool {
	if !t.used.Load() {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.files[id] != nil
}

func (f *lockedFile) list(flock bool) *lockList {
	if flock {
		return &f.flocks
	}
	return &f.records
}

// set gives or takes away a lock. It is EAGAIN where another is in the way and
// the request does not wait, EINTR when cancel ends the waiting, and EDEADLK when
// it would wait for somebody who waits for it.
func (t *lockTable) set(cancel <-chan struct{}, id overlay.ID, r lockRequest) error {
	t.mu.Lock()
	f := t.files[id]
	if f == nil {
		if r.kind == lockUnlock {
			t.mu.Unlock()
			return nil
		}
		f = new(lockedFile)
		t.files[id] = f
		t.used.Store(true)
	}
	r.holder.used.Store(true)
	r.holder.closedAt = time.Time{} // it is open: somebody uses it
	list := f.list(r.flock)
	freed := false
	if r.flock {
		// Another kind of lock is not turned into this one: it is given back first,
		// and is lost if this one cannot be had.
		freed = list.drop(func(l *lock) bool { return l.owner == r.owner && l.kind != r.kind })
	}
	if list.first(&r.lock) < 0 {
		list.set(r.lock)
		t.settleLocked(f)
		t.mu.Unlock()
		return nil
	}
	if freed {
		t.settleLocked(f)
	}
	w, err := t.enqueueLocked(f, r, false)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	switch t.await(cancel, w) {
	case lockCancelled:
		if r.wait {
			return syscall.EINTR
		}
		return syscall.EAGAIN
	case lockRefused:
		return syscall.EAGAIN
	}
	return nil
}

// test returns the first record lock that excludes r, false if none does. With
// lockUnlock it is the first of r's owner.
func (t *lockTable) test(cancel <-chan struct{}, id overlay.ID, r lockRequest) (lock, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[id]
	if f == nil {
		return lock{}, false
	}
	if r.kind == lockUnlock {
		i := slices.IndexFunc(f.records, func(l lock) bool { return l.owner == r.owner && l.overlaps(&r.lock) })
		return f.records.whole(i)
	}
	if f.records.first(&r.lock) < 0 {
		return lock{}, false
	}
	if w, err := t.enqueueLocked(f, r, true); err == nil {
		t.mu.Unlock()
		t.await(cancel, w)
		t.mu.Lock()
	}
	return f.records.whole(f.records.first(&r.lock))
}

// closed is to be called when a descriptor of h is closed by owner: a process
// loses all its POSIX locks of a file with the first descriptor that it closes.
func (t *lockTable) closed(id overlay.ID, h *lockHolder, owner uint64) {
	if !t.seen(id) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[id]
	if f == nil {
		return
	}
	if h.used.Load() {
		h.closedAt = time.Now()
	}
	if f.records.drop(func(l *lock) bool { return l.owner == owner }) {
		t.settleLocked(f)
	}
}

// released is to be called when the last descriptor of h is closed. Nobody can
// hold a lock any more that was asked for through it.
func (t *lockTable) released(id overlay.ID, h *lockHolder) {
	if !h.used.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.files[id]
	if f == nil {
		return
	}
	gone := func(l *lock) bool { return l.holder == h }
	records, flocks := f.records.drop(gone), f.flocks.drop(gone)
	if records || flocks {
		t.settleLocked(f)
	}
}

// forget is to be called when the kernel no longer knows the file.
func (t *lockTable) forget(id overlay.ID) {
	if !t.seen(id) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.files[id]; f != nil && len(f.records)+len(f.flocks)+len(f.waiters) == 0 {
		delete(t.files, id)
	}
}
