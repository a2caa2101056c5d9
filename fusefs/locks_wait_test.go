package fusefs

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"strata/overlay"
)

// lockBench is a table without a mount, and what has become of the requests that
// were made to it.
type lockBench struct {
	*testing.T
	table   *lockTable
	holders map[string]*lockHolder

	mu   sync.Mutex
	done []string // names of requests and their results, as they ended
}

func newLockBench(t *testing.T) *lockBench {
	return &lockBench{T: t, table: newLockTable(), holders: make(map[string]*lockHolder)}
}

const benchFile, otherFile = overlay.ID(1), overlay.ID(2)

func (b *lockBench) holder(name string) *lockHolder {
	h := b.holders[name]
	if h == nil {
		h = &lockHolder{announced: true}
		b.holders[name] = h
	}
	return h
}

// request is one for byte "at" by an owner who is a process of one thread, of its
// own open file description unless it is given.
func (b *lockBench) request(owner uint64, kind lockKind, at uint64) lockRequest {
	return lockRequest{lock: lock{
		start: at, end: at, kind: kind, owner: owner, pid: uint32(owner), thread: uint32(owner),
		holder: b.holder(fmt.Sprint(owner)),
	}}
}

func (b *lockBench) set(id overlay.ID, r lockRequest, want error) {
	b.Helper()
	if got := b.table.set(nil, id, r); got != want {
		b.Errorf("%+v: %v, want %v", r.lock, got, want)
	}
}

// start lets a request wait in a goroutine of its own.
func (b *lockBench) start(name string, id overlay.ID, r lockRequest) (cancel func()) {
	b.Helper()
	r.wait = true
	interrupted := make(chan struct{})
	go func() {
		err := b.table.set(interrupted, id, r)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.done = append(b.done, fmt.Sprint(name, ": ", err))
	}()
	synctest.Wait()
	return func() { close(interrupted); synctest.Wait() }
}

func (b *lockBench) wantDone(want ...string) {
	b.Helper()
	synctest.Wait()
	if !slices.Equal(b.done, want) {
		b.Errorf("ended %q, want %q", b.done, want)
	}
	b.done = nil
}

// wantEmpty fails if anything is left once the holders are closed.
func (b *lockBench) wantEmpty() {
	b.Helper()
	for _, id := range []overlay.ID{benchFile, otherFile} {
		for _, h := range b.holders {
			b.table.released(id, h)
		}
		b.table.forget(id)
	}
	if len(b.table.files)+len(b.table.waiting) > 0 {
		b.Errorf("left: %v, %v", b.table.files, b.table.waiting)
	}
}

func inLockBench(t *testing.T, body func(b *lockBench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newLockBench(t)
		body(b)
		b.wantEmpty()
	})
}

func TestLocksAreGrantedInTheOrderOfWaiting(t *testing.T) {
	for name, flock := range map[string]bool{"record": false, "flock": true} {
		t.Run(name, func(t *testing.T) {
			inLockBench(t, func(b *lockBench) {
				ask := func(owner uint64, kind lockKind) lockRequest {
					r := b.request(owner, kind, 0)
					r.flock = flock
					return r
				}
				b.set(benchFile, ask(1, lockWrite), nil)
				b.start("writer 2", benchFile, ask(2, lockWrite))
				b.start("reader 3", benchFile, ask(3, lockRead))
				b.start("reader 4", benchFile, ask(4, lockRead))
				b.start("writer 5", benchFile, ask(5, lockWrite))
				b.wantDone()
				b.set(benchFile, ask(1, lockUnlock), nil)
				b.wantDone("writer 2: <nil>")
				b.set(benchFile, ask(2, lockUnlock), nil)
				synctest.Wait()
				slices.Sort(b.done) // both at once
				b.wantDone("reader 3: <nil>", "reader 4: <nil>")
				b.set(benchFile, ask(3, lockUnlock), nil)
				b.wantDone()
				b.table.released(benchFile, b.holder("4"))
				b.wantDone("writer 5: <nil>")
			})
		})
	}
}

func TestWeakerLockLetsWaitersIn(t *testing.T) {
	inLockBench(t, func(b *lockBench) {
		b.set(benchFile, b.request(1, lockWrite, 0), nil)
		b.start("reader", benchFile, b.request(2, lockRead, 0))
		b.set(benchFile, b.request(1, lockRead, 0), nil)
		b.wantDone("reader: <nil>")
	})
}

// A grant that makes its own owner's lock weaker lets in who waited longer.
func TestGrantLetsOthersIn(t *testing.T) {
	inLockBench(t, func(b *lockBench) {
		b.set(benchFile, b.request(1, lockWrite, 0), nil)
		b.set(benchFile, b.request(2, lockWrite, 1), nil)
		b.start("first", benchFile, b.request(3, lockRead, 0))
		both := b.request(1, lockRead, 0)
		both.end = 1
		b.start("second", benchFile, both)
		b.wantDone()
		b.table.released(benchFile, b.holder("2"))
		synctest.Wait()
		slices.Sort(b.done)
		b.wantDone("first: <nil>", "second: <nil>")
	})
}

func TestInterruptEndsTheWaiting(t *testing.T) {
	inLockBench(t, func(b *lockBench) {
		b.set(benchFile, b.request(1, lockWrite, 0), nil)
		interrupt := b.start("second", benchFile, b.request(2, lockWrite, 0))
		b.start("third", benchFile, b.request(3, lockWrite, 0))
		interrupt()
		b.wantDone("second: interrupted system call")
		b.table.released(benchFile, b.holder("1"))
		b.wantDone("third: <nil>")
		b.set(benchFile, b.request(2, lockWrite, 0), syscall.EAGAIN)
	})
}

func TestFlockGivesBackWhatItHasBeforeItWaits(t *testing.T) {
	inLockBench(t, func(b *lockBench) {
		ask := func(owner uint64, kind lockKind) lockRequest {
			r := b.request(owner, kind, 0)
			r.flock = true
			return r
		}
		b.set(benchFile, ask(1, lockRead), nil)
		b.set(benchFile, ask(2, lockRead), nil)
		b.start("1 up", benchFile, ask(1, lockWrite))
		b.start("2 up", benchFile, ask(2, lockWrite)) // with record locks a deadlock
		b.wantDone("2 up: <nil>")
		b.set(benchFile, ask(2, lockUnlock), nil)
		b.wantDone("1 up: <nil>")
	})
}

func TestDeadlocks(t *testing.T) {
	type step struct {
		owner  uint64
		file   overlay.ID
		kind   lockKind
		at     uint64
		holder string // "" for the owner's own
		thread uint32 // 0 for the owner's own
	}
	for _, c := range []struct {
		name string
		hold []step
		wait []step // each waits, for ever but for the last
		last error  // nil: it waits like the others
	}{
		{
			name: "two of one file",
			hold: []step{{1, benchFile, lockWrite, 0, "", 0}, {2, benchFile, lockWrite, 1, "", 0}},
			wait: []step{{1, benchFile, lockWrite, 1, "", 0}, {2, benchFile, lockWrite, 0, "", 0}},
			last: syscall.EDEADLK,
		}, {
			name: "two that want more",
			hold: []step{{1, benchFile, lockRead, 0, "", 0}, {2, benchFile, lockRead, 0, "", 0}},
			wait: []step{{1, benchFile, lockWrite, 0, "", 0}, {2, benchFile, lockWrite, 0, "", 0}},
			last: syscall.EDEADLK,
		}, {
			name: "three of two files",
			hold: []step{{1, benchFile, lockWrite, 0, "", 0}, {2, benchFile, lockWrite, 1, "", 0}, {3, otherFile, lockWrite, 0, "", 0}},
			wait: []step{{1, benchFile, lockWrite, 1, "", 0}, {2, otherFile, lockWrite, 0, "", 0}, {3, benchFile, lockWrite, 0, "", 0}},
			last: syscall.EDEADLK,
		}, {
			name: "the second of two in the way",
			hold: []step{{1, benchFile, lockRead, 0, "", 0}, {2, benchFile, lockRead, 0, "", 0}, {3, benchFile, lockWrite, 1, "", 0}},
			wait: []step{{2, benchFile, lockWrite, 1, "", 0}, {3, benchFile, lockWrite, 0, "", 0}},
			last: syscall.EDEADLK,
		}, {
			name: "a chain without an end",
			hold: []step{{1, benchFile, lockWrite, 0, "", 0}, {2, benchFile, lockWrite, 1, "", 0}},
			wait: []step{{2, benchFile, lockWrite, 0, "", 0}, {3, benchFile, lockWrite, 1, "", 0}},
		}, {
			// Of an OFD lock, another thread can get out of the way.
			name: "threads of one open file description",
			hold: []step{{1, benchFile, lockWrite, 0, "", 0}, {2, benchFile, lockWrite, 1, "", 0}},
			wait: []step{{1, benchFile, lockWrite, 1, "", 77}, {2, benchFile, lockWrite, 0, "", 0}},
		}, {
			// With two open file descriptions, an owner is a process.
			name: "threads of one process",
			hold: []step{{1, benchFile, lockWrite, 0, "a", 0}, {2, benchFile, lockWrite, 1, "", 0}},
			wait: []step{{1, benchFile, lockWrite, 1, "b", 77}, {2, benchFile, lockWrite, 0, "", 0}},
			last: syscall.EDEADLK,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			inLockBench(t, func(b *lockBench) {
				ask := func(s step) lockRequest {
					r := b.request(s.owner, s.kind, s.at)
					if s.holder != "" {
						r.holder = b.holder(s.holder)
					}
					if s.thread != 0 {
						r.thread = s.thread
					}
					return r
				}
				for _, s := range c.hold {
					b.set(s.file, ask(s), nil)
				}
				var cancels []func()
				for _, s := range c.wait[:len(c.wait)-1] {
					cancels = append(cancels, b.start("waits", s.file, ask(s)))
				}
				last := c.wait[len(c.wait)-1]
				cancels = append(cancels, b.start("last", last.file, ask(last)))
				if c.last != nil {
					b.wantDone("last: " + c.last.Error())
				}
				b.wantDone()
				for _, cancel := range cancels {
					cancel()
				}
				synctest.Wait()
			})
		})
	}
}

// A request that does not wait is refused at once, unless what is in its way may
// be gone: then it is as the news of that would have it.
func TestLockInDoubt(t *testing.T) {
	const process = 99
	try := func(b *lockBench, lasts time.Duration, want error) {
		b.Helper()
		begin := time.Now()
		b.set(benchFile, b.request(2, lockWrite, 0), want)
		if took := time.Since(begin); took != lasts {
			b.Errorf("took %v, want %v", took, lasts)
		}
	}
	releaseSoon := func(b *lockBench) {
		h := b.holder("1")
		time.AfterFunc(time.Millisecond, func() { b.table.released(benchFile, h) })
	}

	t.Run("open", func(t *testing.T) {
		inLockBench(t, func(b *lockBench) {
			b.set(benchFile, b.request(1, lockWrite, 0), nil)
			try(b, 0, syscall.EAGAIN)
		})
	})
	t.Run("closed", func(t *testing.T) {
		inLockBench(t, func(b *lockBench) {
			b.set(benchFile, b.request(1, lockWrite, 0), nil)
			b.table.closed(benchFile, b.holder("1"), process)
			releaseSoon(b)
			try(b, time.Millisecond, nil)
		})
	})
	t.Run("a second descriptor closed", func(t *testing.T) {
		inLockBench(t, func(b *lockBench) {
			b.set(benchFile, b.request(1, lockWrite, 0), nil)
			b.table.closed(benchFile, b.holder("1"), process)
			try(b, doubtTime, syscall.EAGAIN)
			try(b, 0, syscall.EAGAIN)
			b.table.closed(benchFile, b.holder("1"), process)
			b.set(benchFile, b.request(1, lockWrite, 0), nil) // by the one that is open
			try(b, 0, syscall.EAGAIN)
		})
	})
	t.Run("never announced", func(t *testing.T) {
		inLockBench(t, func(b *lockBench) {
			b.holder("1").announced = false
			b.set(benchFile, b.request(1, lockWrite, 0), nil)
			try(b, doubtTime, syscall.EAGAIN)
			try(b, doubtTime, syscall.EAGAIN)
			releaseSoon(b)
			try(b, time.Millisecond, nil)
		})
	})
	t.Run("another that is open", func(t *testing.T) {
		inLockBench(t, func(b *lockBench) {
			b.set(benchFile, b.request(1, lockRead, 0), nil)
			b.set(benchFile, b.request(3, lockRead, 0), nil)
			b.table.closed(benchFile, b.holder("1"), process)
			try(b, 0, syscall.EAGAIN)
		})
	})
	t.Run("taken by another meanwhile", func(t *testing.T) {
		inLockBench(t, func(b *lockBench) {
			b.set(benchFile, b.request(1, lockWrite, 0), nil)
			b.start("waits", benchFile, b.request(3, lockWrite, 0))
			b.table.closed(benchFile, b.holder("1"), process)
			releaseSoon(b)
			try(b, time.Millisecond, syscall.EAGAIN)
			b.wantDone("waits: <nil>")
		})
	})
	t.Run("test", func(t *testing.T) {
		inLockBench(t, func(b *lockBench) {
			b.set(benchFile, b.request(1, lockWrite, 0), nil)
			b.table.closed(benchFile, b.holder("1"), process)
			if l, found := b.table.test(nil, benchFile, b.request(2, lockRead, 0)); !found || l.owner != 1 {
				t.Errorf("found %v %+v", found, l)
			}
			b.table.closed(benchFile, b.holder("1"), process)
			releaseSoon(b)
			if l, found := b.table.test(nil, benchFile, b.request(2, lockRead, 0)); found {
				t.Errorf("found %+v, which is gone", l)
			}
		})
	})
	t.Run("interrupted", func(t *testing.T) {
		inLockBench(t, func(b *lockBench) {
			b.set(benchFile, b.request(1, lockWrite, 0), nil)
			b.table.closed(benchFile, b.holder("1"), process)
			interrupted := make(chan struct{})
			time.AfterFunc(time.Millisecond, func() { close(interrupted) })
			if err := b.table.set(interrupted, benchFile, b.request(2, lockWrite, 0)); err != syscall.EAGAIN {
				t.Error(err)
			}
		})
	})
}

// Parts of one process's lock that it asked for through different open file
// descriptions end with those.
func TestReleaseTakesWhatWasAskedForThroughIt(t *testing.T) {
	inLockBench(t, func(b *lockBench) {
		through := func(holder string, at uint64) lockRequest {
			r := b.request(1, lockWrite, at)
			r.holder = b.holder(holder)
			return r
		}
		b.set(benchFile, through("a", 0), nil)
		b.set(benchFile, through("b", 1), nil)
		b.table.released(benchFile, b.holder("a"))
		b.set(benchFile, b.request(2, lockRead, 0), nil)
		b.set(benchFile, b.request(2, lockRead, 1), syscall.EAGAIN)
	})
}

func TestFilesThatAreNotLockedCostNothing(t *testing.T) {
	table, h := newLockTable(), new(lockHolder)
	if n := testing.AllocsPerRun(100, func() {
		table.closed(benchFile, h, 1)
		table.released(benchFile, h)
		table.forget(benchFile)
		if table.seen(benchFile) {
			t.Error("seen")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if err := table.set(nil, benchFile, lockRequest{lock: lock{kind: lockUnlock, end: lockEnd, holder: h}}); err != nil || table.used.Load() {
		t.Errorf("unlocking what is not locked: %v, and the table is used: %v", err, table.used.Load())
	}
}
