package fusefs

import (
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A note tells the kernel to forget something about a node.
type note struct {
	nid  uint64
	what noteKind
}

type noteKind int

const (
	noteAttr    noteKind = iota // attributes and ACLs
	noteData                    // these and the cached data
	noteEntries                 // unused names, and then the inode itself
)

// dropAttr lets the kernel drop the attributes of nid before the request is
// answered that is being served. For this the kernel takes none of the locks
// that the waiting process may hold.
func (c *connection) dropAttr(nid uint64) { c.kernel.InodeNotify(nid, -1, 0) }

// notifier sends notes from a goroutine of its own: the kernel takes locks for
// some of them that the process whose request we are answering may hold.
type notifier struct {
	mu    sync.Mutex
	queue []note

	wake chan struct{} // holds one token while there may be something in queue
	stop chan struct{}
	done chan struct{}
}

func newNotifier() *notifier {
	return &notifier{
		wake: make(chan struct{}, 1),
		stop: make(chan struct{}),
		done: make(chan struct{}),
	}
}

func (q *notifier) send(notes ...note) {
	if len(notes) == 0 {
		return
	}
	q.mu.Lock()
	q.queue = append(q.queue, notes...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *notifier) run(kernel *fuse.Server) {
	defer close(q.done)
	for {
		select {
		case <-q.stop:
			return
		case <-q.wake:
		}
		q.mu.Lock()
		notes := q.queue
		q.queue = nil
		q.mu.Unlock()
		for _, n := range notes {
			// The answer does not matter: ENOENT says that the kernel does not
			// know the node, ENOSYS that it cannot drop names.
			switch n.what {
			case noteAttr:
				kernel.InodeNotify(n.nid, -1, 0)
			case noteData:
				kernel.InodeNotify(n.nid, 0, 0)
			case noteEntries:
				kernel.PruneNotify([]uint64{n.nid})
			}
		}
	}
}

// close ends run and waits for it.
func (q *notifier) close() {
	close(q.stop)
	<-q.done
}
