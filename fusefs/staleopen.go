package fusefs

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// staleOpens remembers which OPENs were answered with ESTALE just now.
//
// The kernel tries an open(2) that ends in ESTALE once more, from the same
// thread. If it came by a name, it looks the name up before that, and opens
// what it finds. If it came by a descriptor (/proc/self/fd/N, fexecve(3), an
// O_PATH descriptor, a file handle) or by the root of a bind mount, then there
// is no name to look up: the second OPEN follows the first with no LOOKUP
// between and asks for the same node. That one is answered on the node as it
// is; a further ESTALE would go to the process.
//
// Somebody may not come back: a thread that was killed between, or one for which
// the kernel opens files itself (fanotify). Then its next LOOKUP or OPEN removes
// the note, and later it no longer counts, or an OPEN by a name could be taken
// for the second one.
type staleOpens struct {
	noted atomic.Int32 // how many of recent are in use: none, mostly, and then it costs no lock

	mu     sync.Mutex // nothing else is taken under it
	recent [32]staleOpen
	next   int // the one to write over when all are in use
}

// staleOpen is one of them; thread 0 marks an empty one.
type staleOpen struct {
	thread uint32
	nid    uint64
	at     time.Time
}

// secondOpen is how soon the second OPEN comes, with much to spare.
const secondOpen = time.Second

// put notes that an OPEN of node nid by a thread is answered with ESTALE. The
// kernel calls threads that are not in our pid namespace 0; they have no second
// chance.
func (s *staleOpens) put(thread uint32, nid uint64) {
	if thread == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.recent[:], func(r staleOpen) bool { return r.thread == 0 })
	if i < 0 {
		i, s.next = s.next, (s.next+1)%len(s.recent)
	} else {
		s.noted.Add(1)
	}
	s.recent[i] = staleOpen{thread, nid, time.Now()}
}

// take removes the note about a thread, which has come back, and tells whether
// it says nid.
func (s *staleOpens) take(thread uint32, nid uint64) bool {
	if s.noted.Load() == 0 || thread == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, r := range s.recent {
		if r.thread == thread {
			s.recent[i] = staleOpen{}
			s.noted.Add(-1)
			return r.nid == nid && time.Since(r.at) < secondOpen
		}
	}
	return false
}
