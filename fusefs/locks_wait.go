package fusefs

import (
	"slices"
	"syscall"
	"time"
)

// doubtTime is for how long after a close(2) a lock that is in the way may have
// ended with it, though we have not heard so.
//
// The kernel queues RELEASE before close(2) returns, but waits for no answer, and
// what a process does next may overtake it: when more requests are in the
// background than the kernel sends at a time, as when a process with many open
// files exits, or when readahead of the file is under way. A lock that is tried
// for right after its holder has exited must not be found taken. So a request
// that would be refused waits if all that is in its way is in doubt.
const doubtTime = 100 * time.Millisecond

// doubt returns for how much longer h may be closed without our knowing.
func (h *lockHolder) doubt() time.Duration {
	if !h.announced {
		return doubtTime
	}
	return doubtTime - time.Since(h.closedAt)
}

type lockResult int

const (
	lockGranted   lockResult = iota // for a test: nothing is in the way
	lockRefused                     // what is in the way stays
	lockCancelled                   // the process was interrupted
)

// lockWaiter is a request that waits. It is settled by whoever takes away what is
// in its way, longest waiting first; nobody wakes up in vain.
type lockWaiter struct {
	lockRequest
	file    *lockedFile
	test    bool          // only wants to know
	limit   time.Duration // that of a request that does not want to wait; 0 if it does
	settled chan struct{} // closed, with lockTable.mu held, when result is there
	result  lockResult
}

// enqueueLocked lets r wait for what is in its way, or says why it must not.
func (t *lockTable) enqueueLocked(f *lockedFile, r lockRequest, test bool) (*lockWaiter, error) {
	w := &lockWaiter{lockRequest: r, file: f, test: test, settled: make(chan struct{})}
	if !r.wait {
		if w.limit = w.doubt(); w.limit <= 0 {
			return nil, syscall.EAGAIN
		}
	} else if !r.flock {
		if t.deadlockLocked(w) {
			return nil, syscall.EDEADLK
		}
		t.waiting[r.owner] = append(t.waiting[r.owner], w)
	}
	f.waiters = append(f.waiters, w)
	return w, nil
}

// doubt returns for how much longer all that is in the way of w may be gone.
// For a test only the first lock counts: it is the one that is asked for.
func (w *lockWaiter) doubt() time.Duration {
	var longest time.Duration
	for _, l := range *w.file.list(w.flock) {
		if !l.excludes(&w.lock) {
			continue
		}
		d := l.holder.doubt()
		if d <= 0 {
			return 0
		}
		if w.test {
			return d
		}
		longest = max(longest, d)
	}
	return longest
}

// await returns what has become of w.
func (t *lockTable) await(cancel <-chan struct{}, w *lockWaiter) lockResult {
	var expired <-chan time.Time
	if w.limit > 0 {
		timer := time.NewTimer(w.limit)
		defer timer.Stop()
		expired = timer.C
	}
	var unsettled lockResult
	select {
	case <-w.settled:
		return w.result
	case <-expired:
		unsettled = lockRefused
	case <-cancel:
		unsettled = lockCancelled
	case <-t.gone:
		unsettled = lockCancelled
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-w.settled: // at the same moment
	default:
		t.settleOneLocked(w, unsettled)
		w.file.waiters = slices.DeleteFunc(w.file.waiters, func(o *lockWaiter) bool { return o == w })
	}
	return w.result
}

// settleLocked is to be called when locks of f were taken away or made weaker.
// What it grants may itself be weaker than what its owner had.
func (t *lockTable) settleLocked(f *lockedFile) {
	for again := true; again; {
		again = false
		f.waiters = slices.DeleteFunc(f.waiters, func(w *lockWaiter) bool {
			list := f.list(w.flock)
			switch {
			case list.first(&w.lock) < 0:
				if !w.test {
					list.set(w.lock)
					again = true
				}
				t.settleOneLocked(w, lockGranted)
			case !w.wait && w.doubt() <= 0:
				t.settleOneLocked(w, lockRefused)
			default:
				return false
			}
			return true
		})
	}
}

// settleOneLocked tells w its result. The caller takes it off its file's list.
func (t *lockTable) settleOneLocked(w *lockWaiter, result lockResult) {
	w.result = result
	close(w.settled)
	if w.wait && !w.flock {
		others := slices.DeleteFunc(t.waiting[w.owner], func(o *lockWaiter) bool { return o == w })
		if len(others) == 0 {
			delete(t.waiting, w.owner)
		} else {
			t.waiting[w.owner] = others
		}
	}
}

// deadlockLocked tells whether w would wait for somebody who waits, perhaps
// through others, for w's owner.
//
// The kernel looks for deadlocks of POSIX locks and leaves OFD locks alone: a
// thread that waits does not keep another from unlocking through the same open
// file description. Here the two look alike, but an OFD lock's owner is one
// open file description. So an owner counts as stuck when it waits through
// another one than it holds the lock through, which makes it a process; or when
// the thread that holds the lock is the one that waits.
func (t *lockTable) deadlockLocked(w *lockWaiter) bool {
	visited := make(map[*lockWaiter]bool)
	var reaches func(from *lockWaiter) bool
	reaches = func(from *lockWaiter) bool {
		if visited[from] {
			return false
		}
		visited[from] = true
		for _, l := range from.file.records {
			if !l.excludes(&from.lock) {
				continue
			}
			if w.stuckWith(&l) {
				return true
			}
			for _, next := range t.waiting[l.owner] {
				if next.stuckWith(&l) && reaches(next) {
					return true
				}
			}
		}
		return false
	}
	return reaches(w)
}

// stuckWith tells whether l, which is held, will not go away while w waits.
func (w *lockWaiter) stuckWith(l *lock) bool {
	return w.owner == l.owner && (w.holder != l.holder || w.thread == l.thread && w.thread != 0)
}
