package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/overlay"
	"strata/overlay/tree"
)

// The offset of a directory stream is 0 before ".", 1 before "..", and from 2
// on the overlay's position plus 2. The kernel asks for the offset after the
// last entry that it took.
const firstEntry = 2

// batchSize is how many entries are asked of the overlay at once; a reply of
// 32 KiB, which is what the C library has room for, holds some 200.
const batchSize = 128

func (c *connection) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	dir, err := c.fs.OpenDir(overlay.ID(in.NodeId))
	if err != nil {
		return c.status("opendir", in.NodeId, err)
	}
	fh, ok := c.dirs.add(&dirHandle{dir: dir})
	if !ok {
		dir.Close()
		return fuse.Status(syscall.ENFILE)
	}
	out.Fh = fh
	if !c.opts.Observe {
		out.OpenFlags = fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE
	}
	return fuse.OK
}

func (c *connection) ReleaseDir(in *fuse.ReleaseIn) {
	h := c.dirs.remove(in.Fh)
	if h == nil {
		return
	}
	if err := h.dir.Close(); err != nil {
		c.log.Warn("close failed", "op", "releasedir", "node", in.NodeId, "err", err)
	}
}

func (c *connection) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return c.readDir(in, out, false)
}

// ReadDirPlus also gives attributes, and a reference, with each entry.
func (c *connection) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return c.readDir(in, out, true)
}

// addEntry adds an entry to the reply; false if there is no room. It takes its
// place in the reply before it is looked up, so that no reference is counted
// that the kernel does not get. One that cannot be looked up stays without
// attributes, and so do "." and "..", to which the kernel takes no reference.
func (c *connection) addEntry(in *fuse.ReadIn, out *fuse.DirEntryList, e fuse.DirEntry, plus, dots bool) bool {
	if !plus {
		return out.AddDirEntry(e)
	}
	reply := out.AddDirLookupEntry(e)
	if reply == nil {
		return false
	}
	if !dots {
		if node, err := c.fs.Lookup(overlay.ID(in.NodeId), e.Name); err == nil {
			c.entry(&node, reply)
		}
	}
	return true
}

// readDir fills the reply with the entries from in.Offset on.
func (c *connection) readDir(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	h := c.dirs.get(in.Fh)
	if h == nil {
		return fuse.EBADF
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.batch == nil {
		h.batch = make([]overlay.DirEntry, batchSize)
	}

	off := in.Offset
	for ; off < firstEntry; off++ {
		e, err := c.dotEntry(h.dir, off)
		if err != nil {
			return c.status("readdir", in.NodeId, err)
		}
		if !c.addEntry(in, out, e, plus, true) {
			return fuse.OK
		}
	}
	for {
		n, err := h.dir.ReadDir(int(off-firstEntry), h.batch)
		if err != nil {
			return c.status("readdir", in.NodeId, err)
		}
		for i := range h.batch[:n] {
			b := &h.batch[i]
			off++
			e := fuse.DirEntry{Name: b.Name, Ino: b.Ino, Mode: b.Type, Off: off}
			if !c.addEntry(in, out, e, plus, false) {
				return fuse.OK
			}
		}
		if n < len(h.batch) {
			return fuse.OK
		}
	}
}

// dotEntry is "." for offset 0 and ".." for offset 1.
func (c *connection) dotEntry(dir *overlay.Dir, off uint64) (fuse.DirEntry, error) {
	var a tree.Attr
	var err error
	name := "."
	if off == 0 {
		a, err = c.fs.Getattr(dir.ID())
	} else {
		name = ".."
		a, err = dir.Parent()
	}
	if err != nil {
		return fuse.DirEntry{}, err
	}
	return fuse.DirEntry{Name: name, Ino: a.Ino, Mode: syscall.S_IFDIR, Off: off + 1}, nil
}
