package overlay

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// Op names what happened, as the kernel's requests are called; OpCopyUp and what
// follows it are what an FS did in answering one.
type Op string

const (
	OpLookup      Op = "lookup"
	OpGetattr     Op = "getattr"
	OpSetattr     Op = "setattr"
	OpReadlink    Op = "readlink"
	OpMkdir       Op = "mkdir"
	OpMknod       Op = "mknod"
	OpSymlink     Op = "symlink"
	OpCreate      Op = "create"
	OpTmpfile     Op = "tmpfile"
	OpLink        Op = "link"
	OpUnlink      Op = "unlink"
	OpRmdir       Op = "rmdir"
	OpRename      Op = "rename"
	OpOpen        Op = "open"
	OpRead        Op = "read"
	OpWrite       Op = "write"
	OpFsync       Op = "fsync"
	OpReaddir     Op = "readdir"
	OpGetxattr    Op = "getxattr"
	OpListxattr   Op = "listxattr"
	OpSetxattr    Op = "setxattr"
	OpRemovexattr Op = "removexattr"

	OpCopyUp   Op = "copy-up"  // Bytes of data were copied; 0 if only metadata
	OpWhiteout Op = "whiteout" // a whiteout was made at Path
	OpRedirect Op = "redirect" // a directory (or a file without data) at Path goes on showing what the lower has at To
)

// Layers that are no layer of the lower.
const (
	LayerUpper = -1 // the upper answered
	LayerNone  = -2 // nobody has such a name
)

// Event tells of one operation, after it.
type Event struct {
	Time     time.Time     // when it began
	Duration time.Duration // how long it took
	Op       Op
	Path     string        // merged path, absolute; what is gone shows as it was last called, or ""
	To       string        // the second path, a symlink's target, an xattr's name, what was asked for
	Layer    int           // who answered: an index of the lower's layers (base is 0), LayerUpper or LayerNone
	Bytes    int64         // data read, written or copied up
	Err      syscall.Errno // 0 if it was done
}

// observers is who watches an FS. Nobody does, mostly: then an operation costs
// one load more.
type observers struct {
	mu   sync.Mutex // held by who joins or leaves
	list atomic.Pointer[[]*func(Event)]
}

// Observe calls fn after every operation until stop is called. fn may be called
// from several goroutines at once, must be quick, and must not use the FS.
func (f *FS) Observe(fn func(Event)) (stop func()) {
	o := &f.observers
	o.change(func(l []*func(Event)) []*func(Event) { return append(slices.Clip(l), &fn) })
	return func() {
		o.change(func(l []*func(Event)) []*func(Event) {
			return slices.DeleteFunc(slices.Clone(l), func(p *func(Event)) bool { return p == &fn })
		})
	}
}

func (o *observers) change(how func([]*func(Event)) []*func(Event)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var old []*func(Event)
	if p := o.list.Load(); p != nil {
		old = *p
	}
	if l := how(old); len(l) > 0 {
		o.list.Store(&l)
	} else {
		o.list.Store(nil)
	}
}

// watched is one operation that somebody may be watching.
type watched struct {
	list  *[]*func(Event)
	start time.Time
}

// watch begins an operation.
func (f *FS) watch() watched {
	l := f.observers.list.Load()
	if l == nil {
		return watched{}
	}
	return watched{l, time.Now()}
}

func (w *watched) on() bool { return w.list != nil }

// tell ends an operation for those who watch it.
func (w *watched) tell(e Event, err error) {
	e.Time, e.Duration = w.start, time.Since(w.start)
	if err != nil {
		if e.Err, _ = asErrno(err); e.Err == 0 {
			e.Err = unix.EIO
		}
		if e.Err == unix.ENOENT {
			e.Layer = LayerNone
		}
	}
	for _, fn := range *w.list {
		(*fn)(e)
	}
}

// layerOf tells who keeps an inode's attributes.
func (f *FS) layerOf(id ID, a *tree.Attr) int {
	if n, err := f.lookupNode(id); err != nil || n != nil && n.hasUpper() {
		return LayerUpper
	}
	return int(a.Layer)
}

func (f *FS) layerOfID(id ID) int {
	n, err := f.lookupNode(id)
	if err != nil || n != nil && n.hasUpper() {
		return LayerUpper
	}
	a, err := f.lower.Attr(tree.ID(id))
	if err != nil {
		return LayerNone
	}
	return int(a.Layer)
}

// layerOfFile tells who has an open file's data.
func (f *FS) layerOfFile(h *File) int {
	if h == nil || !h.lower {
		return LayerUpper
	}
	a, err := f.lower.Attr(h.data)
	if err != nil {
		return LayerNone
	}
	return int(a.Layer)
}

// pathIn is the merged path of a name in a directory.
func (f *FS) pathIn(dir ID, name string) string {
	p := f.pathOf(dir)
	if p == "/" {
		return p + name
	}
	return p + "/" + name
}

// pathOf is a merged path of an inode; "" if it has none left.
func (f *FS) pathOf(id ID) string {
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	n, err := f.lookupNode(id)
	if err != nil {
		return ""
	}
	return f.mergedPath(n, tree.ID(id))
}

// mergedPath climbs from a node, or from a lower-only inode if n is nil, to the
// root. The caller holds renameMu.
func (f *FS) mergedPath(n *node, lower tree.ID) string {
	var parts []string
	for {
		if n != nil {
			if n.id == Root {
				slices.Reverse(parts)
				return "/" + strings.Join(parts, "/")
			}
			n.mu.Lock()
			names, inUpper := n.names, n.inUpper
			n.mu.Unlock()
			if len(names) > 0 {
				parts, n = append(parts, names[0].name), names[0].dir
				continue
			}
			if inUpper {
				return ""
			}
			lower = n.lower
		}
		names, err := f.lower.Names(lower)
		if err != nil {
			return ""
		}
		if len(names) == 0 {
			slices.Reverse(parts)
			return "/" + strings.Join(parts, "/")
		}
		parts, lower = append(parts, names[0].Name), names[0].Dir
		f.tableMu.RLock()
		n = f.byLower[lower]
		f.tableMu.RUnlock()
	}
}

// String says what is asked for, as in "mode size".
func (s *SetAttr) String() string {
	var parts []string
	add := func(name string, is bool) {
		if is {
			parts = append(parts, name)
		}
	}
	add("mode", s.Mode != nil)
	add("owner", s.UID != nil || s.GID != nil)
	add("size", s.Size != nil)
	add("times", s.Atime != nil || s.Mtime != nil)
	return strings.Join(parts, " ")
}

// flagString says how a file is opened.
func flagString(flags int) string {
	s := []string{"read", "write", "read write", ""}[flags&unix.O_ACCMODE]
	if flags&unix.O_TRUNC != 0 {
		s += " truncate"
	}
	return s
}
