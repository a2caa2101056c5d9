package fusefs

import "slices"

// lockKind orders as the fcntl(2) numbers do.
type lockKind uint8

const (
	lockRead   lockKind = iota // F_RDLCK, LOCK_SH
	lockWrite                  // F_WRLCK, LOCK_EX
	lockUnlock                 // F_UNLCK, LOCK_UN; in requests only
)

// lockEnd is the end of a lock that goes as far as a file may grow.
const lockEnd = 1<<63 - 1

// lock is a lock that is held, or asked for.
type lock struct {
	start, end uint64 // first and last byte
	kind       lockKind

	// owner is who does not conflict with himself: for POSIX locks a process, or
	// rather its table of descriptors, for OFD locks and flock an open file
	// description. The kernel gives each a number and does not say which it is.
	owner  uint64
	pid    uint32      // the process, for F_GETLK
	thread uint32      // who asked; 0 if it has no number in our pid namespace
	holder *lockHolder // the open file description through which it was asked for
}

func (l *lock) overlaps(r *lock) bool { return l.start <= r.end && r.start <= l.end }

// excludes tells whether l, being held, stands in the way of r.
func (l *lock) excludes(r *lock) bool {
	return r.kind != lockUnlock && l.owner != r.owner && l.overlaps(r) &&
		(l.kind == lockWrite || r.kind == lockWrite)
}

// touches tells whether l and r are parts of one lock in the eyes of F_GETLK.
func (l *lock) touches(r *lock) bool {
	return l.owner == r.owner && l.kind == r.kind && l.start <= r.end+1 && r.start <= l.end+1
}

// lockList holds the locks of one file and sort, in the order in which F_GETLK
// finds them, which is the kernel's: owners as they came, the locks of each by
// where they start. Those of one owner do not overlap.
type lockList []lock

// first returns the place of the first lock that excludes r, -1 if none does.
func (ls lockList) first(r *lock) int {
	return slices.IndexFunc(ls, func(l lock) bool { return l.excludes(r) })
}

// of returns where the locks of an owner are, or would be.
func (ls lockList) of(owner uint64) (from, to int) {
	from = slices.IndexFunc(ls, func(l lock) bool { return l.owner == owner })
	if from < 0 {
		return len(ls), len(ls)
	}
	for to = from; to < len(ls) && ls[to].owner == owner; to++ {
	}
	return from, to
}

// set gives r to its owner in place of what he has in its range.
//
// Locks of one owner that were asked for through different open file
// descriptions stay apart, since they may end apart.
func (ls *lockList) set(r lock) {
	from, to := ls.of(r.owner)
	var before, after []lock
	for _, l := range (*ls)[from:to] {
		switch {
		case l.touches(&r) && l.holder == r.holder:
			r.start, r.end = min(l.start, r.start), max(l.end, r.end)
		case l.end < r.start:
			before = append(before, l)
		case l.start > r.end:
			after = append(after, l)
		default:
			if l.start < r.start {
				rest := l
				rest.end = r.start - 1
				before = append(before, rest)
			}
			if l.end > r.end {
				l.start = r.end + 1
				after = append(after, l)
			}
		}
	}
	if r.kind != lockUnlock {
		before = append(before, r)
	}
	*ls = slices.Replace(*ls, from, to, append(before, after...)...)
}

// whole returns the lock at place i as its owner knows it, joined with those that
// it touches; false if i is negative.
func (ls lockList) whole(i int) (lock, bool) {
	if i < 0 {
		return lock{}, false
	}
	l := ls[i]
	for k := i - 1; k >= 0 && ls[k].touches(&l); k-- {
		l.start = ls[k].start
	}
	for k := i + 1; k < len(ls) && ls[k].touches(&l); k++ {
		l.end = ls[k].end
	}
	return l, true
}

// drop takes away the locks for which gone is true and tells whether there were
// any.
func (ls *lockList) drop(gone func(*lock) bool) bool {
	n := len(*ls)
	*ls = slices.DeleteFunc(*ls, func(l lock) bool { return gone(&l) })
	return len(*ls) < n
}
