package fusefs

import (
	"context"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"strata/overlay"
)

func (c *connection) wantPassthrough() bool {
	return c.opts.Passthrough == PassthroughAuto && !c.opts.Observe
}

// mayPassThrough tells whether the kernel may use the file f itself.
//
// The kernel opens the backing file again with the flags of the process that
// opened ours, and by the server's rights: were a lower's file on a mount that
// can be written, then a mistake of ours would let that process write into the
// lower. On a read-only mount it cannot.
func (c *connection) mayPassThrough(f *overlay.File, privileged bool) bool {
	switch {
	case !c.passthrough.Load():
		return false
	case privileged:
		return false // taking the set-id bits away is for the one who sees the write
	case f.OnLower():
		return !c.opts.Coherent && c.mounts.readOnly(f.Fd())
	}
	return true
}

// registerLocked gives f to the kernel as n's backing file. If it does not take it
// n is in cached mode.
func (c *connection) registerLocked(n *node, f *overlay.File) {
	id, errno := c.kernel.openBacking(f.Fd())
	switch errno {
	case 0:
		n.registered, n.mode, n.backing, n.onLower = true, ioPassthrough, id, f.OnLower()
	case syscall.EPERM: // in a user namespace: it will not change
		if c.passthrough.Swap(false) {
			c.log.Info("the kernel grants no passthrough; data goes through this process", "err", errno)
		}
	default: // ELOOP on overlayfs, EOPNOTSUPP: this file's filesystem
		c.log.Debug("no passthrough for a file", "node", uint64(f.ID()), "err", errno)
	}
}

func (c *connection) unregisterLocked(n *node) {
	if n.registered {
		c.kernel.closeBacking(n.backing)
		n.registered, n.mode, n.backing = false, ioCached, 0
	}
}

// join adds a handle with f to those that are open on n and returns what the
// reply to the open says. It is false if the kernel cannot have f open besides
// what it has open on n. If n kept a file, that is closed: there is f now.
func (c *connection) join(n *node, f *overlay.File, acc access) (openFlags uint32, backing int32, ok bool) {
	privileged := acc.writes() && n.privileged.Load()
	may := c.mayPassThrough(f, privileged)

	n.mu.Lock()
	kept := c.giveUpLocked(n)
	defer c.closeKept(n, kept)
	defer n.mu.Unlock()
	if n.opens == 0 {
		if n.registered && !(may && f.OnLower()) {
			c.unregisterLocked(n)
		}
		if !n.registered {
			n.mode = ioCached
			if may {
				c.registerLocked(n, f)
			}
		}
	} else if n.mode == ioPassthrough && (!may || n.onLower != f.OnLower()) {
		return 0, 0, false
	}

	first := n.opens == 0
	n.opens++
	if f.OnLower() {
		n.lowers++
	}
	if !c.wantsFlush(n, acc) {
		openFlags |= fuse.FOPEN_NOFLUSH // nor is there anything to write back
	}
	if n.mode == ioPassthrough {
		return openFlags | fuse.FOPEN_PASSTHROUGH, n.backing, true
	}
	if n.lowers > 0 && n.lowers < n.opens {
		c.rebaseLocked(n)
	}
	switch {
	case c.opts.Observe || n.nid&aliasBit != 0 || c.nodes.isSplit(n.id):
		// Another node may change the file through passthrough, and this one's
		// cache would not know.
		openFlags |= fuse.FOPEN_DIRECT_IO
	case !first || f.OnLower() || !c.passthrough.Load():
		// What the kernel has is right. It may not be for a file of the upper
		// that was in passthrough mode before: then it starts anew.
		openFlags |= fuse.FOPEN_KEEP_CACHE
	}
	return openFlags, 0, true
}

// leave undoes join and closes f, or leaves it and the handle's pin with n.
func (c *connection) leave(n *node, f *overlay.File, acc access) {
	n.mu.Lock()
	n.opens--
	if f.OnLower() {
		n.lowers--
	}
	if n.lowers == 0 {
		if f := n.rebased.Swap(nil); f != nil {
			c.closeFile(n.nid, f)
		}
	}
	var kept bool
	var evicted *node
	if n.opens == 0 && n.registered {
		if kept, evicted = c.keepLocked(n, f); !kept {
			c.unregisterLocked(n)
		}
	}
	n.mu.Unlock()
	if !kept {
		c.closeFile(n.nid, f)
		c.unpin(n, acc)
	}
	if evicted != nil {
		c.dropKept(evicted)
	}
}

// unpin gives a pin back, and lets the kernel forget a node that was given an alias
// while it was open, so that the inode has one node id again.
func (c *connection) unpin(n *node, acc access) {
	if c.nodes.unpin(n, acc) {
		c.notes.send(note{n.nid, noteEntries})
	}
}

// rebase lets the handles that have the lower of n open read from the upper, if
// there is something in the upper now.
func (c *connection) rebase(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lowers > 0 && n.mode == ioCached {
		c.rebaseLocked(n)
	}
}

func (c *connection) rebaseLocked(n *node) {
	if n.rebased.Load() != nil {
		return
	}
	f, err := c.fs.Open(context.Background(), n.id, syscall.O_RDONLY)
	if err != nil {
		c.log.Warn("open handles keep the data from before the copy-up", "op", "open", "node", n.nid, "err", err)
		return
	}
	if f.OnLower() {
		f.Close()
		return
	}
	n.rebased.Store(f)
}

// mountCache remembers which mounts are read-only, by their unique number. A
// mount does not become writable behind our back unless somebody remounts it.
type mountCache struct{ known sync.Map }

// readOnly tells whether fd was opened through a mount that refuses writes.
func (m *mountCache) readOnly(fd int) bool {
	var stx unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_MNT_ID_UNIQUE, &stx)
	unique := err == nil && stx.Mask&unix.STATX_MNT_ID_UNIQUE != 0
	if unique {
		if ro, ok := m.known.Load(stx.Mnt_id); ok {
			return ro.(bool)
		}
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return false
	}
	ro := st.Flags&unix.ST_RDONLY != 0
	if unique {
		m.known.Store(stx.Mnt_id, ro)
	}
	return ro
}
