package tree

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostList is what a directory has in it.
type hostList struct {
	mu     sync.Mutex
	loaded atomic.Pointer[hostLoaded]
}

// hostLoaded never changes.
type hostLoaded struct {
	entries []hostEntry // sorted by name
	subdirs uint32
}

type hostEntry struct {
	name string
	node *hostNode // nil is a whiteout
}

func (e *hostEntry) entry() Entry {
	if e.node == nil {
		return Entry{Name: e.name, Whiteout: true}
	}
	return Entry{Name: e.name, ID: e.node.id, Type: e.node.stat.mode & ModeType}
}

func (h *HostDir) Lookup(dir ID, name string) (Entry, error) {
	n, err := h.dirNode(dir)
	if err != nil {
		return Entry{}, err
	}
	l, err := h.load(n)
	if err != nil {
		return Entry{}, err
	}
	i, ok := slices.BinarySearchFunc(l.entries, name, func(e hostEntry, name string) int { return cmp.Compare(e.name, name) })
	if !ok {
		return Entry{}, syscall.ENOENT
	}
	return l.entries[i].entry(), nil
}

func (h *HostDir) ReadDir(dir ID, from int, entries []Entry) (int, error) {
	n, err := h.dirNode(dir)
	if err != nil {
		return 0, err
	}
	if from < 0 {
		return 0, syscall.EINVAL
	}
	l, err := h.load(n)
	if err != nil || from >= len(l.entries) {
		return 0, err
	}
	count := min(len(l.entries)-from, len(entries))
	for i := range count {
		entries[i] = l.entries[from+i].entry()
	}
	return count, nil
}

// load reads directory n if that was not done.
func (h *HostDir) load(n *hostNode) (*hostLoaded, error) {
	if l := n.list.loaded.Load(); l != nil {
		return l, nil
	}
	n.list.mu.Lock()
	defer n.list.mu.Unlock()
	if l := n.list.loaded.Load(); l != nil {
		return l, nil
	}
	dir, err := h.fds.dir(n)
	if err != nil {
		return nil, err
	}
	defer h.fds.release(dir)
	names, err := readNames(dir.fd)
	if err != nil {
		return nil, err
	}
	opaque, err := h.ownXattr(dir.fd, ".", "opaque")
	if err != nil {
		return nil, err
	}
	found := make([]*hostNode, 0, len(names))
	for _, d := range names {
		f := &hostNode{parent: n, name: d.name}
		var st unix.Stat_t
		err := unix.Fstatat(dir.fd, d.name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
		if err == unix.ENOENT {
			continue // the directory is changing, against the rule
		}
		if err != nil {
			f.err = fmt.Errorf("stat %q: %w", d.name, err)
			f.stat.mode = d.typ
		} else {
			f.stat = statOf(&st)
			h.override(f, dir.fd, d.name)
		}
		if string(opaque) == "x" && f.stat.hostMode&ModeType == ModeRegular && f.stat.size == 0 {
			if f.stat.whiteout, err = h.isXattrWhiteout(dir.fd, d.name); err != nil {
				return nil, err
			}
		}
		found = append(found, f)
	}
	slices.SortFunc(found, func(a, b *hostNode) int { return cmp.Compare(a.name, b.name) })
	l := h.allot(found)
	n.list.loaded.Store(l)
	return l, nil
}

// allot gives IDs to what was found in a directory.
func (h *HostDir) allot(found []*hostNode) *hostLoaded {
	l := &hostLoaded{entries: make([]hostEntry, 0, len(found))}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range found {
		if f.stat.isWhiteout() {
			l.entries = append(l.entries, hostEntry{name: f.name})
			continue
		}
		if f.stat.mode&ModeType == ModeDir {
			f.list = new(hostList)
			l.subdirs++
		} else if f.stat.nlink > 1 {
			if id, ok := h.linked[f.stat.key]; ok {
				l.entries = append(l.entries, hostEntry{f.name, h.nodes[id]})
				continue
			}
			h.linked[f.stat.key] = ID(len(h.nodes))
		}
		f.id = ID(len(h.nodes))
		h.nodes = append(h.nodes, f)
		l.entries = append(l.entries, hostEntry{f.name, f})
	}
	return l
}

// dirent is what getdents says of a name.
type dirent struct {
	ino  uint64
	name string
	typ  uint32 // S_IFMT bits, 0 if it is not told
}

// readNames lists a directory in the order of inode numbers, in which disks
// give attributes fastest.
func readNames(dir int) ([]dirent, error) {
	fd, err := openBeneath(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var names []dirent
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n <= 0 {
			break
		}
		names = parseDirents(names, buf[:n])
	}
	slices.SortFunc(names, func(a, b dirent) int { return cmp.Compare(a.ino, b.ino) })
	return names, nil
}

// parseDirents reads struct linux_dirent64:
//
//	d_ino 8 | d_off 8 | d_reclen 2 | d_type 1 | d_name, ended by NUL
func parseDirents(names []dirent, buf []byte) []dirent {
	const nameAt = 19
	for len(buf) > nameAt {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size <= nameAt || size > len(buf) {
			break
		}
		name, _, _ := bytes.Cut(buf[nameAt:size], []byte{0})
		if s := string(name); s != "." && s != ".." {
			names = append(names, dirent{
				ino: binary.NativeEndian.Uint64(buf), name: s, typ: uint32(buf[18]) << 12 & ModeType,
			})
		}
		buf = buf[size:]
	}
	return names
}

func (h *HostDir) Names(id ID) ([]Name, error) {
	n, err := h.node(id)
	if err != nil || id == Root {
		return nil, err
	}
	if n.list != nil || n.stat.nlink <= 1 {
		return []Name{{Dir: n.parent.id, Name: n.name}}, nil
	}
	names, err := h.scan()
	if err != nil {
		return nil, err
	}
	return slices.Clone(names[id]), nil
}

// scan reads all directories that were not read, and returns the names of all
// inodes with hard links.
func (h *HostDir) scan() (map[ID][]Name, error) {
	h.scanMu.Lock()
	defer h.scanMu.Unlock()
	if names := h.names.Load(); names != nil {
		return *names, nil
	}
	root, err := h.node(Root)
	if err != nil {
		return nil, err
	}
	names := make(map[ID][]Name)
	dirs := []*hostNode{root}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		l, err := h.load(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range l.entries {
			switch {
			case e.node == nil:
			case e.node.list != nil:
				dirs = append(dirs, e.node)
			case e.node.stat.nlink > 1:
				names[e.node.id] = append(names[e.node.id], Name{Dir: dir.id, Name: e.name})
			}
		}
	}
	for _, of := range names {
		slices.SortFunc(of, func(a, b Name) int {
			if c := cmp.Compare(a.Dir, b.Dir); c != 0 {
				return c
			}
			return cmp.Compare(a.Name, b.Name)
		})
	}
	h.names.Store(&names)
	return names, nil
}
