package fusefs

import (
	"sync"
	"syscall"

	"strata/overlay"
)

// access is how a file was opened: the O_ACCMODE bits of its flags.
type access uint32

func accessOf(flags uint32) access { return access(flags & syscall.O_ACCMODE) }

func (a access) writes() bool { return a == syscall.O_WRONLY || a == syscall.O_RDWR }

// maps tells whether a shared mapping of the file can be written to.
func (a access) maps() bool { return a == syscall.O_RDWR }

// fileHandle is what the kernel has open on a regular file: one OPEN or CREATE
// until its RELEASE.
type fileHandle struct {
	node  *node
	file  *overlay.File
	lower bool // file.OnLower()
	acc   access
	locks lockHolder
}

// source returns the file that shows the data as it is now. A handle on the
// lower of a file that was copied up since reads from the upper, if the node
// is in cached mode; in passthrough mode the kernel does not ask.
func (h *fileHandle) source() *overlay.File {
	if h.lower {
		if f := h.node.rebased.Load(); f != nil {
			return f
		}
	}
	return h.file
}

// dirHandle is what the kernel has open on a directory.
type dirHandle struct {
	dir *overlay.Dir

	mu    sync.Mutex // one reader at a time, guards batch
	batch []overlay.DirEntry
}

// maxHandles bounds each handle table, far above what descriptors allow.
const maxHandles = 1 << 22

// handleTable names open things by small numbers, which are used again.
type handleTable[T any] struct {
	mu    sync.RWMutex
	slots []*T     // handle number minus one
	free  []uint64 // numbers to use again
}

// add returns a number for h, or false if there are too many.
func (t *handleTable[T]) add(h *T) (uint64, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free); n > 0 {
		fh := t.free[n-1]
		t.free = t.free[:n-1]
		t.slots[fh-1] = h
		return fh, true
	}
	if len(t.slots) >= maxHandles {
		return 0, false
	}
	t.slots = append(t.slots, h)
	return uint64(len(t.slots)), true
}

// get returns nil for a number that is not in use, which only a kernel gone
// wrong would send.
func (t *handleTable[T]) get(fh uint64) *T {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if fh == 0 || fh > uint64(len(t.slots)) {
		return nil
	}
	return t.slots[fh-1]
}

func (t *handleTable[T]) remove(fh uint64) *T {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fh == 0 || fh > uint64(len(t.slots)) {
		return nil
	}
	h := t.slots[fh-1]
	if h != nil {
		t.slots[fh-1] = nil
		t.free = append(t.free, fh)
	}
	return h
}

// removeAll empties the table.
func (t *handleTable[T]) removeAll() []*T {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*T
	for _, h := range t.slots {
		if h != nil {
			all = append(all, h)
		}
	}
	t.slots, t.free = nil, nil
	return all
}
