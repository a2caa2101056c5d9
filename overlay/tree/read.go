package tree

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
)

// How reading stays safe. Every place and length that the file holds is bounded
// where it is used; whatever else fails, bytes hands out no byte of another
// section. What a directory's entry says of an inode must be what the inode
// says of itself: its type, and if it has one name, that this entry is it. So
// each directory is reached through one entry only, the root through none, and
// whoever descends from the root comes to an end whatever the bytes are.

var _ Tree = (*File)(nil)

// Attr returns the attributes of id. It does not allocate.
func (f *File) Attr(id ID) (a Attr, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	r, err := f.inode(id)
	if err != nil {
		return Attr{}, err
	}
	mtime := Time{Sec: r.sec, Nsec: r.nsec}
	a = Attr{
		Ino: r.ino, Mode: uint32(r.mode), UID: r.uid, GID: r.gid, Nlink: r.nlink,
		Atime: mtime, Mtime: mtime, Ctime: mtime,
		Xattrs: r.xattrs != 0, Layer: r.layer, Implicit: r.flags&flagImplicit != 0,
	}
	switch r.typ() {
	case ModeRegular:
		a.Size = int64(r.size)
		a.Blocks = (r.size + 4095) / 4096 * 8
	case ModeSymlink:
		a.Size = int64(r.size)
	case ModeBlock, ModeChar:
		a.Rdev = r.size
	}
	return a, nil
}

// Lookup returns the entry called name in dir. It does not allocate: the
// entry's Name is name.
func (f *File) Lookup(dir ID, name string) (e Entry, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	d, err := f.directory(dir)
	if err != nil {
		return Entry{}, err
	}
	lo, hi := uint64(d.ref), uint64(d.ref)+d.size
	for lo < hi {
		mid := (lo + hi) / 2
		r, err := f.entry(mid)
		if err != nil {
			return Entry{}, err
		}
		b, err := f.name(r)
		if err != nil {
			return Entry{}, err
		}
		switch {
		case string(b) < name:
			lo = mid + 1
		case string(b) == name:
			if err := f.checkEntry(dir, mid, r); err != nil {
				return Entry{}, err
			}
			return newEntry(name, r), nil
		default:
			hi = mid
		}
	}
	return Entry{}, syscall.ENOENT
}

// ReadDir fills entries with those of dir from position from on. It allocates
// once a call, for all names together.
func (f *File) ReadDir(dir ID, from int, entries []Entry) (n int, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	d, err := f.directory(dir)
	if err != nil {
		return 0, err
	}
	if from < 0 {
		return 0, syscall.EINVAL
	}
	if uint64(from) >= d.size || len(entries) == 0 {
		return 0, nil
	}
	n = int(min(uint64(len(entries)), d.size-uint64(from)))
	first := uint64(d.ref) + uint64(from)
	raw, err := f.bytes(secEntries, first*entrySize, uint64(n)*entrySize)
	if err != nil {
		return 0, err
	}
	start := uint64(decodeEntry(raw).text)
	last := decodeEntry(raw[(n-1)*entrySize:])
	end := uint64(last.text) + uint64(last.length)
	if end < start || end-start > nameMax*uint64(n) {
		return 0, f.corrupt(secEntries, "the names of directory %d are at %d to %d", dir, start, end)
	}
	text, err := f.bytes(secText, start, end-start)
	if err != nil {
		return 0, err
	}
	names := string(text)
	if strings.IndexByte(names, 0) >= 0 || strings.IndexByte(names, '/') >= 0 {
		return 0, f.corrupt(secText, "a name in directory %d has a slash or a zero byte in it", dir)
	}
	at, previous := start, ""
	for i := range n {
		r := decodeEntry(raw[i*entrySize:])
		next := at + uint64(r.length)
		if uint64(r.text) != at || next > end {
			return 0, f.corrupt(secEntries, "name %d of directory %d is at %d, not at %d", from+i, dir, r.text, at)
		}
		name := names[at-start : next-start]
		if name <= previous || name == "." || name == ".." {
			return 0, f.corrupt(secText, "directory %d has name %q after %q", dir, name, previous)
		}
		if err := f.checkEntry(dir, first+uint64(i), r); err != nil {
			return 0, err
		}
		entries[i] = newEntry(name, r)
		at, previous = next, name
	}
	return n, nil
}

// Parent returns the directory that holds directory dir.
func (f *File) Parent(dir ID) (parent ID, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	d, err := f.directory(dir)
	if err != nil || dir == Root {
		return dir, err
	}
	if _, err := f.directory(ID(d.parent)); err != nil {
		return None, f.corrupt(secInodes, "directory %d is said to be in %d: %v", dir, d.parent, err)
	}
	return ID(d.parent), nil
}

// Names returns every name of id.
func (f *File) Names(id ID) (names []Name, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	r, err := f.inode(id)
	if err != nil || id == Root {
		return nil, err
	}
	if r.parent != 0 {
		return f.appendName(nil, id, linkRecord{r.parent, r.entry})
	}
	raw, err := f.bytes(secLinks, uint64(r.entry)*linkSize, uint64(r.nlink)*linkSize)
	if err != nil {
		return nil, err
	}
	names = make([]Name, 0, r.nlink)
	for ; len(raw) > 0; raw = raw[linkSize:] {
		if names, err = f.appendName(names, id, decodeLink(raw)); err != nil {
			return nil, err
		}
	}
	return names, nil
}

func (f *File) appendName(names []Name, id ID, l linkRecord) ([]Name, error) {
	e, err := f.entry(uint64(l.entry))
	if err != nil {
		return nil, err
	}
	d, err := f.directory(ID(l.dir))
	if err != nil || ID(e.inode) != id || l.entry < d.ref || uint64(l.entry-d.ref) >= d.size {
		return nil, f.corrupt(secEntries, "inode %d is said to have entry %d of directory %d for a name", id, l.entry, l.dir)
	}
	b, err := f.name(e)
	if err != nil {
		return nil, err
	}
	name := string(b)
	if !validName(name) {
		return nil, f.corrupt(secText, "inode %d has name %q", id, name)
	}
	return append(names, Name{Dir: ID(l.dir), Name: name}), nil
}

// Readlink returns the target of symlink id.
func (f *File) Readlink(id ID) (target string, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	r, err := f.inode(id)
	if err != nil {
		return "", err
	}
	if r.typ() != ModeSymlink {
		return "", syscall.EINVAL
	}
	b, err := f.bytes(secText, uint64(r.ref), r.size)
	return string(b), err
}

// Opaque tells whether directory dir hides what lower trees have below it.
func (f *File) Opaque(dir ID) (opaque bool, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	d, err := f.directory(dir)
	return err == nil && d.flags&flagOpaque != 0, err
}

// Content says which object holds the bytes of regular file id.
func (f *File) Content(id ID) (c Content, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	r, err := f.inode(id)
	if err != nil {
		return Content{}, err
	}
	if r.typ() != ModeRegular {
		return Content{}, syscall.EINVAL
	}
	switch r.kind {
	case kindObject:
	case kindNone:
		return Content{}, f.corrupt(secInodes, "regular file %d has no contents", id)
	default:
		return Content{}, fmt.Errorf("tree file %s: contents of inode %d are kept in way %d: %w", f.path, id, r.kind, ErrNewer)
	}
	b, err := f.bytes(secObjects, uint64(r.ref)*uint64(objectSize), uint64(objectSize))
	if err != nil {
		return Content{}, err
	}
	return Content{Known: true, Digest: ObjectDigest(b), Size: int64(r.size)}, nil
}

// Open opens the object that holds the bytes of regular file id.
func (f *File) Open(id ID) (*os.File, error) {
	c, err := f.Content(id)
	if err != nil {
		return nil, err
	}
	if f.objects == nil {
		return nil, fmt.Errorf("tree file %s was opened without objects: %w", f.path, syscall.ENOTSUP)
	}
	return f.objects.OpenObject(c.Digest)
}

// inode returns the record of id, with what can be checked in it alone.
func (f *File) inode(id ID) (inodeRecord, error) {
	if id == None || uint64(id) > f.count(secInodes) {
		return inodeRecord{}, syscall.EINVAL
	}
	b, err := f.bytes(secInodes, (uint64(id)-1)*inodeSize, inodeSize)
	if err != nil {
		return inodeRecord{}, err
	}
	r := decodeInode(b)
	if !isFileType(r.typ()) || r.nsec >= 1e9 || r.ino == 0 || r.ino > f.header.space ||
		(r.typ() == ModeRegular || r.typ() == ModeSymlink) && r.size > math.MaxInt64 {
		return inodeRecord{}, f.corrupt(secInodes, "inode %d has number %d of %d, mode %o, size %d, %d nanoseconds",
			id, r.ino, f.header.space, r.mode, r.size, r.nsec)
	}
	return r, nil
}

// directory returns the record of id, a directory with entries that exist.
func (f *File) directory(id ID) (inodeRecord, error) {
	r, err := f.inode(id)
	if err != nil {
		return r, err
	}
	if r.typ() != ModeDir {
		return r, syscall.ENOTDIR
	}
	if n := f.count(secEntries); uint64(r.ref) > n || r.size > n-uint64(r.ref) {
		return r, f.corrupt(secInodes, "directory %d has %d entries from %d on, of %d", id, r.size, r.ref, n)
	}
	return r, nil
}

func (f *File) entry(i uint64) (entryRecord, error) {
	b, err := f.bytes(secEntries, i*entrySize, entrySize)
	if err != nil {
		return entryRecord{}, err
	}
	return decodeEntry(b), nil
}

// name returns the name of e, in the mapping. A page that is left of a file
// that was cut short ends in zeros, and zeros are no name.
func (f *File) name(e entryRecord) ([]byte, error) {
	b, err := f.bytes(secText, uint64(e.text), uint64(e.length))
	if err != nil {
		return nil, err
	}
	if len(b) == 0 || b[0] == 0 || b[len(b)-1] == 0 {
		return nil, f.corrupt(secText, "the name at %d is %q", e.text, b)
	}
	return b, nil
}

// checkEntry holds e, entry i of directory dir, against the inode that it names.
func (f *File) checkEntry(dir ID, i uint64, e entryRecord) error {
	if e.typ == 0 {
		if e.inode != 0 {
			return f.corrupt(secEntries, "whiteout %d of directory %d names inode %d", i, dir, e.inode)
		}
		return nil
	}
	r, err := f.inode(ID(e.inode))
	if err == syscall.EINVAL || err == nil && !r.isNamedBy(dir, i, e) {
		return f.corrupt(secEntries, "entry %d of directory %d has type %o and inode %d, which has mode %o, parent %d and entry %d",
			i, dir, uint32(e.typ)<<12, e.inode, r.mode, r.parent, r.entry)
	}
	return err
}

// isNamedBy tells whether r can have e, entry i of directory dir, for a name.
func (r *inodeRecord) isNamedBy(dir ID, i uint64, e entryRecord) bool {
	if r.typ() != uint32(e.typ)<<12 || ID(e.inode) == Root {
		return false
	}
	if r.parent == 0 {
		return r.typ() != ModeDir
	}
	return ID(r.parent) == dir && uint64(r.entry) == i
}

func newEntry(name string, r entryRecord) Entry {
	return Entry{Name: name, ID: ID(r.inode), Type: uint32(r.typ) << 12, Whiteout: r.typ == 0}
}

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
