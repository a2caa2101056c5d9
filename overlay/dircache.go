package overlay

import (
	"container/list"
	"sync"

	"golang.org/x/sys/unix"
)

// maxDirs bounds the descriptors of upper directories that stay open unused; where
// a process may have few, a quarter of them does.
const maxDirs = 512

// dirCache keeps directory descriptors of upper directories open, the least
// recently used are closed first. Its lock guards dirFD, dirUsers and dirElem of
// every node.
type dirCache struct {
	limit int // never changes
	mu    sync.Mutex
	idle  list.List // of *node, most recently used first; in use by nobody
}

func (c *dirCache) init() {
	c.idle.Init()
	c.limit = maxDirs
	var files unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &files) == nil {
		c.limit = int(min(maxDirs, files.Cur/4))
	}
}

// acquire returns an O_PATH descriptor of directory n, good until release.
func (u *upper) acquire(n *node) (int, error) {
	c := &u.dirs
	c.mu.Lock()
	if fd := c.useLocked(n); fd >= 0 {
		c.mu.Unlock()
		return fd, nil
	}
	c.mu.Unlock()

	fd, err := u.openDirNode(n, unix.O_PATH)
	if err != nil {
		return -1, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have := c.useLocked(n); have >= 0 { // somebody else was faster
		unix.Close(fd)
		return have, nil
	}
	n.dirFD, n.dirUsers = fd, 1
	return fd, nil
}

func (c *dirCache) useLocked(n *node) int {
	if n.dirFD < 0 {
		return -1
	}
	if n.dirElem != nil {
		c.idle.Remove(n.dirElem)
		n.dirElem = nil
	}
	n.dirUsers++
	return n.dirFD
}

func (u *upper) release(n *node) {
	c := &u.dirs
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.dirUsers--; n.dirUsers > 0 {
		return
	}
	n.dirElem = c.idle.PushFront(n)
	if c.idle.Len() > c.limit {
		c.closeLocked(c.idle.Back().Value.(*node))
	}
}

// drop closes n's descriptor if nobody uses it.
func (c *dirCache) drop(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n.dirFD >= 0 && n.dirUsers == 0 {
		c.closeLocked(n)
	}
}

func (c *dirCache) closeLocked(n *node) {
	c.idle.Remove(n.dirElem)
	unix.Close(n.dirFD)
	n.dirFD, n.dirElem = -1, nil
}

func (c *dirCache) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.idle.Front(); e != nil; e = c.idle.Front() {
		c.closeLocked(e.Value.(*node))
	}
}

// openDirNode opens directory n through its parent, or what is pinned of it.
func (u *upper) openDirNode(n *node, flags int) (int, error) {
	flags |= unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	n.mu.Lock()
	pin, names := n.pin, n.names
	n.mu.Unlock()
	switch {
	case n.id == Root:
		return unix.Openat(u.root, ".", flags, 0)
	case pin >= 0:
		return unix.Openat(pin, ".", flags, 0)
	case len(names) == 0:
		return -1, unix.ESTALE
	}
	at := names[0]
	parent, err := u.acquire(at.dir)
	if err != nil {
		return -1, err
	}
	defer u.release(at.dir)
	return unix.Openat(parent, at.name, flags, 0)
}
