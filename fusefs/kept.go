package fusefs

import (
	"container/list"
	"sync"
	"syscall"

	"strata/overlay"
)

// maxKept is how many lower files stay open, and known to the kernel as backing
// files, after their last handle was closed: who opens one of them again, as
// programs do with the same few files all the time, costs no system call.
const maxKept = 128

// keptFiles lists the nodes that have such a file, node.kept.
type keptFiles struct {
	mu    sync.Mutex // taken under node.mu
	nodes list.List  // of *node, the one closed last in front
}

// add puts n in front and returns the node that has to give its file up for that,
// nil if there is room.
func (k *keptFiles) add(n *node) *node {
	k.mu.Lock()
	defer k.mu.Unlock()
	n.keptAt = k.nodes.PushFront(n)
	if k.nodes.Len() <= maxKept {
		return nil
	}
	return k.nodes.Back().Value.(*node)
}

func (k *keptFiles) remove(n *node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.nodes.Remove(n.keptAt)
	n.keptAt = nil
}

// last returns one of the nodes, nil if there is none.
func (k *keptFiles) last() *node {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e := k.nodes.Back(); e != nil {
		return e.Value.(*node)
	}
	return nil
}

// keepLocked lets n keep f, which its last handle is leaving, and that handle's
// pin, if it is worth it. The caller holds n.mu and, when it does not any more, lets
// dropKept have the node that is returned.
func (c *connection) keepLocked(n *node, f *overlay.File) (kept bool, evicted *node) {
	if !f.OnLower() || !n.onLower || n.kept != nil || c.nodes.isSplit(n.id) || !f.Current() {
		return false, nil
	}
	n.kept = f
	return true, c.kept.add(n)
}

// giveUpLocked takes what n keeps from it. The caller holds n.mu and, when it does
// not any more, lets closeKept have what is returned, nil if it kept nothing.
func (c *connection) giveUpLocked(n *node) *overlay.File {
	f := n.kept
	if f != nil {
		n.kept = nil
		c.kept.remove(n)
	}
	return f
}

// closeKept closes what n has given up and the pin that went with it.
func (c *connection) closeKept(n *node, f *overlay.File) {
	if f != nil {
		c.closeFile(n.nid, f)
		c.unpin(n, syscall.O_RDONLY)
	}
}

// takeKept returns the file that n keeps, if opening n to read would give it, else
// nil. Its backing id stays for the handle that joins with it.
func (c *connection) takeKept(n *node) *overlay.File {
	n.mu.Lock()
	f := c.giveUpLocked(n)
	if f == nil || !f.Again() {
		if f != nil && n.opens == 0 {
			c.unregisterLocked(n)
		}
		n.mu.Unlock()
		c.closeKept(n, f)
		return nil
	}
	n.mu.Unlock()
	c.unpin(n, syscall.O_RDONLY) // the caller has a pin of its own
	return f
}

// dropKept closes the file that n keeps.
func (c *connection) dropKept(n *node) {
	n.mu.Lock()
	f := c.giveUpLocked(n)
	if f != nil && n.opens == 0 {
		c.unregisterLocked(n)
	}
	n.mu.Unlock()
	c.closeKept(n, f)
}

// dropAllKept closes all kept files.
func (c *connection) dropAllKept() {
	for n := c.kept.last(); n != nil; n = c.kept.last() {
		c.dropKept(n)
	}
}
