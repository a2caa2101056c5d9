package tree

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"syscall"
)

// Write writes t to w as a tree file. The same tree gives the same bytes,
// whatever kind of Tree it comes from.
//
// Inode numbers, layers, implicit and opaque marks and whiteouts stay as t has
// them; link counts are those of the names that t holds. Every regular file
// must have a known digest. w gets the bytes from first to last, once t has
// been read; making them durable, and giving the file its name only then, is
// the caller's.
func Write(w io.Writer, t Tree) error {
	tw := treeWriter{
		src:     t,
		space:   t.Space().Size,
		ids:     make(map[ID]uint32),
		links:   make(map[uint32][]linkRecord),
		sets:    make(map[string]uint32),
		objects: make(map[ObjectDigest]uint32),
	}
	if err := tw.collect(); err != nil {
		return fmt.Errorf("write tree file: %w", err)
	}
	if err := tw.emit(w); err != nil {
		return fmt.Errorf("write tree file: %w", err)
	}
	return nil
}

// treeWriter collects a tree as the sections of a file. Directories are
// visited in pre-order. A visit gives the directory's names their places and
// its new inodes their IDs, both in a row: reading a directory with attributes
// then touches one run of each section.
type treeWriter struct {
	src   Tree
	space uint64

	data [sectionCount][]byte

	ids     map[ID]uint32           // of the source: of the file
	links   map[uint32][]linkRecord // all names of inodes with several
	sets    map[string]uint32       // encoded xattr sets: place in xattrs
	objects map[ObjectDigest]uint32
}

// dirVisit is a directory whose names are still to be collected.
type dirVisit struct {
	src   ID
	id    uint32
	depth int
}

func (w *treeWriter) collect() error {
	if w.space >= spaceMax {
		return fmt.Errorf("inode numbers up to %d; a tree file has them below 2^48", w.space)
	}
	if key := w.src.Space().Key; key != 0 {
		return errors.New("the tree has the inode numbers of a host filesystem; a tree file has numbers of its own")
	}
	root, err := w.addInode(Root, linkRecord{dir: uint32(Root)})
	if err != nil {
		return fmt.Errorf("/: %w", err)
	}
	if r := w.inode(root); r.typ() != ModeDir {
		return fmt.Errorf("/: mode %o is no directory's", r.mode)
	}
	pending := []dirVisit{{src: Root, id: root}}
	var entries []Entry
	for len(pending) > 0 {
		d := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		if entries, err = w.addEntries(d, entries[:0]); err != nil {
			return err
		}
		n := len(pending)
		if pending, err = w.addChildren(d, entries, pending); err != nil {
			return err
		}
		slices.Reverse(pending[n:]) // so that the first is visited next
	}
	w.addLinks()
	for i, b := range w.data {
		if uint64(len(b)) > math.MaxUint32*sectionWidths[i] {
			return fmt.Errorf("the tree is too large: %d bytes of %s", len(b), section(i))
		}
	}
	return nil
}

// addEntries gives the names of d their places and returns them, in list.
func (w *treeWriter) addEntries(d dirVisit, list []Entry) ([]Entry, error) {
	for {
		const step = 256
		n := len(list)
		list = slices.Grow(list, step)[:n+step]
		got, err := w.src.ReadDir(d.src, n, list[n:])
		if err != nil {
			return nil, fmt.Errorf("/%s: read directory: %w", w.path(d.id), err)
		}
		list = list[:n+got]
		if got < step {
			break
		}
	}
	for i, e := range list {
		if !validName(e.Name) {
			return nil, fmt.Errorf("/%s: %q cannot be a name in a directory", w.path(d.id), e.Name)
		}
		if i > 0 && list[i-1].Name >= e.Name {
			return nil, fmt.Errorf("/%s: %q is listed before %q", w.path(d.id), list[i-1].Name, e.Name)
		}
		r := entryRecord{text: uint32(len(w.data[secText])), length: uint8(len(e.Name)), typ: uint8(e.Type >> 12)}
		if e.Whiteout {
			r.typ = 0
		}
		w.data[secText] = append(w.data[secText], e.Name...)
		w.data[secEntries] = r.append(w.data[secEntries])
	}
	return list, nil
}

// addChildren adds the inodes that the last len(entries) entries name, those
// of d, and appends the directories among them to pending.
func (w *treeWriter) addChildren(d dirVisit, entries []Entry, pending []dirVisit) ([]dirVisit, error) {
	first := w.count(secEntries) - uint32(len(entries))
	nlink := uint32(2)
	for i, e := range entries {
		if e.Whiteout {
			continue
		}
		fail := func(err error) error {
			return fmt.Errorf("/%s: %w", joinPath(w.path(d.id), e.Name), err)
		}
		name := linkRecord{dir: d.id, entry: first + uint32(i)}
		id, known := w.ids[e.ID]
		if known {
			if err := w.addName(id, name); err != nil {
				return nil, fail(err)
			}
		} else {
			var err error
			if id, err = w.addInode(e.ID, name); err != nil {
				return nil, fail(err)
			}
		}
		r := w.inode(id)
		if r.typ() != e.Type {
			return nil, fail(fmt.Errorf("the directory says type %o, the inode mode %o", e.Type, r.mode))
		}
		if r.typ() == ModeDir {
			if d.depth == MaxDepth {
				return nil, fail(errTooDeep)
			}
			nlink++
			pending = append(pending, dirVisit{e.ID, id, d.depth + 1})
		}
		binary.LittleEndian.PutUint32(w.data[secEntries][entrySize*uint64(name.entry)+4:], id)
	}
	r := w.inode(d.id)
	r.ref, r.size, r.nlink = first, uint64(len(entries)), nlink
	w.setInode(d.id, r)
	return pending, nil
}

// addInode adds the inode src of the source, with its first name.
func (w *treeWriter) addInode(src ID, name linkRecord) (uint32, error) {
	a, err := w.src.Attr(src)
	if err != nil {
		return 0, err
	}
	if !isFileType(a.Mode & ModeType) {
		return 0, fmt.Errorf("mode %o has no known file type", a.Mode)
	}
	if a.Ino == 0 || a.Ino > w.space {
		return 0, fmt.Errorf("inode number %d is not in 1 to %d", a.Ino, w.space)
	}
	if a.Mtime.Nsec >= 1e9 {
		return 0, fmt.Errorf("modification time has %d nanoseconds", a.Mtime.Nsec)
	}
	r := inodeRecord{
		ino: a.Ino, mode: uint16(a.Mode), layer: a.Layer, uid: a.UID, gid: a.GID, nlink: 1,
		sec: a.Mtime.Sec, nsec: a.Mtime.Nsec, parent: name.dir, entry: name.entry,
	}
	if a.Implicit {
		r.flags |= flagImplicit
	}
	if err := w.addKind(&r, src, &a); err != nil {
		return 0, err
	}
	if a.Xattrs {
		if r.xattrs, err = w.addXattrs(src); err != nil {
			return 0, err
		}
	}
	w.data[secInodes] = r.append(w.data[secInodes])
	id := w.count(secInodes)
	w.ids[src] = id
	return id, nil
}

// addKind fills in what depends on the type of r, whose attributes are a.
func (w *treeWriter) addKind(r *inodeRecord, src ID, a *Attr) error {
	switch r.typ() {
	case ModeDir:
		opaque, err := w.src.Opaque(src)
		if err != nil {
			return err
		}
		if opaque {
			r.flags |= flagOpaque
		}
	case ModeRegular:
		c, err := w.src.Content(src)
		if err != nil {
			return err
		}
		if !c.Known {
			return errors.New("the digest of the contents is not known: add the file to a layer first")
		}
		if c.Size < 0 {
			return fmt.Errorf("size %d", c.Size)
		}
		object, ok := w.objects[c.Digest]
		if !ok {
			object = w.count(secObjects)
			w.objects[c.Digest] = object
			w.data[secObjects] = append(w.data[secObjects], c.Digest[:]...)
		}
		r.kind, r.ref, r.size = kindObject, object, uint64(c.Size)
	case ModeSymlink:
		target, err := w.src.Readlink(src)
		if err != nil {
			return err
		}
		r.ref, r.size = uint32(len(w.data[secText])), uint64(len(target))
		w.data[secText] = append(w.data[secText], target...)
	case ModeBlock, ModeChar:
		r.size = a.Rdev
	}
	return nil
}

// addXattrs returns 1 + the place of src's xattr set, which it adds unless an
// equal one is there.
func (w *treeWriter) addXattrs(src ID) (uint32, error) {
	names, err := w.src.Xattrs(src)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	le := binary.LittleEndian
	set := le.AppendUint16(nil, uint16(len(names)))
	for i, name := range names {
		value, err := w.src.Xattr(src, name)
		if err != nil {
			return 0, fmt.Errorf("xattr %q: %w", name, err)
		}
		if i > 0 && names[i-1] >= name {
			return 0, fmt.Errorf("xattr %q is listed before %q", names[i-1], name)
		}
		if name == "" || len(names) > math.MaxUint16 || len(name) > math.MaxUint16 || uint64(len(value)) > math.MaxUint32 {
			return 0, fmt.Errorf("xattr %q (%d bytes, one of %d): does not fit into a tree file", name, len(value), len(names))
		}
		set = le.AppendUint16(set, uint16(len(name)))
		set = le.AppendUint32(set, uint32(len(value)))
		set = append(append(set, name...), value...)
	}
	at, ok := w.sets[string(set)]
	if !ok {
		at = uint32(len(w.data[secXattrs]))
		w.sets[string(set)] = at
		w.data[secXattrs] = append(w.data[secXattrs], set...)
	}
	return 1 + at, nil
}

// addName gives id, which has a name, another one.
func (w *treeWriter) addName(id uint32, name linkRecord) error {
	r := w.inode(id)
	if r.typ() == ModeDir {
		return fmt.Errorf("the directory is also /%s: %w", w.path(id), syscall.ELOOP)
	}
	if w.links[id] == nil {
		w.links[id] = []linkRecord{{r.parent, r.entry}}
	}
	w.links[id] = append(w.links[id], name)
	return nil
}

// addLinks writes down the names of inodes with several.
func (w *treeWriter) addLinks() {
	ids := make([]uint32, 0, len(w.links))
	for id := range w.links {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		names := w.links[id]
		slices.SortFunc(names, func(a, b linkRecord) int {
			return cmp.Or(cmp.Compare(a.dir, b.dir), cmp.Compare(a.entry, b.entry))
		})
		r := w.inode(id)
		r.parent, r.entry, r.nlink = 0, w.count(secLinks), uint32(len(names))
		w.setInode(id, r)
		for _, name := range names {
			w.data[secLinks] = name.append(w.data[secLinks])
		}
	}
}

// count returns how many records s has so far.
func (w *treeWriter) count(s section) uint32 {
	return uint32(uint64(len(w.data[s])) / sectionWidths[s])
}

func (w *treeWriter) inode(id uint32) inodeRecord {
	return decodeInode(w.data[secInodes][inodeSize*(uint64(id)-1):])
}

func (w *treeWriter) setInode(id uint32, r inodeRecord) {
	at := inodeSize * (uint64(id) - 1)
	r.append(w.data[secInodes][:at])
}

// path returns the path of id by its first name, for messages.
func (w *treeWriter) path(id uint32) string {
	path := ""
	for ID(id) != Root {
		r := w.inode(id)
		e := decodeEntry(w.data[secEntries][entrySize*uint64(r.entry):])
		name := string(w.data[secText][e.text:][:e.length])
		if path != "" {
			name = name + "/" + path
		}
		path, id = name, r.parent
	}
	return path
}
