package fusefs

import "sync"

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

func (q *notifier) run(kernel *device) {
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
			switch n.what {
			case noteAttr:
				kernel.dropAttr(n.nid)
			case noteData:
				kernel.dropData(n.nid)
			case noteEntries:
				kernel.dropEntries(n.nid)
			}
		}
	}
}

// close ends run and waits for it.
func (q *notifier) close() {
	close(q.stop)
	<-q.done
}
