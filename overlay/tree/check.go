package tree

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
)

// maxProblems is how many problems Check lists before it gives up.
const maxProblems = 100

// Check reads all of the file and returns everything that is wrong with it,
// joined; nil if nothing is. Each is a *CorruptError, or wraps ErrNewer for
// contents that are kept in a way not known here. It checks that
//
//   - every byte fits its checksum, and reserved bytes and padding are zero;
//   - every inode is reached from the root, directories by one name, the
//     others by as many as their link count says, and those are the names it
//     lists, in order; a directory's link count is 2 and its subdirectories;
//   - names can stand in a directory, are sorted, and belong to one directory;
//     no entry is left over; whiteouts name nothing;
//   - no two inodes have one number, and numbers are within Space;
//   - flags and bits that mean nothing are zero;
//   - targets, xattr sets and objects are where inodes say; xattr sets fill
//     their section, each sorted; no object and no link is listed twice.
//
// What it needs for that is some thirty bytes of memory for each inode.
func (f *File) Check() (err error) {
	c := checker{file: f}
	defer func() { err = errors.Join(append(c.problems, err)...) }()
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	if c.checkBlocks(); len(c.problems) > 0 {
		return nil // what the damaged parts say would only be noise
	}
	c.checkXattrSets()
	c.checkObjects()
	c.checkNames()
	c.checkInodes()
	return nil
}

// checker gathers what a full check finds.
type checker struct {
	file     *File
	problems []error

	sets  map[uint32]bool // places of xattr sets
	names []uint32        // for each inode, how many names were met
	subs  []uint32        // for each directory, how many subdirectories
	used  []bool          // for each entry, whether a directory has it
}

// add notes err, if it is one, and tells whether there is room for more.
func (c *checker) add(err error) bool {
	if err != nil && len(c.problems) <= maxProblems {
		if len(c.problems) == maxProblems {
			err = fmt.Errorf("tree file %s has more than %d problems", c.file.path, maxProblems)
		}
		c.problems = append(c.problems, err)
	}
	return len(c.problems) <= maxProblems
}

func (c *checker) checkBlocks() {
	f := c.file
	if f.data == nil {
		c.add(f.closedError())
		return
	}
	for s, x := range f.header.sections {
		if x.size == 0 {
			continue
		}
		for b := x.offset >> blockShift; b <= (x.offset+x.size-1)>>blockShift; b++ {
			if !c.add(f.checkBlock(section(s), b)) { // again, though it may have fitted once
				return
			}
		}
	}
	for _, b := range f.data[headerUsed:headerSize] {
		if b != 0 {
			c.add(f.corruptHeader("the reserved bytes are not zero"))
			break
		}
	}
	end := f.header.body()
	for s, x := range f.header.sections {
		for _, b := range f.data[end:x.offset] {
			if b != 0 {
				c.add(f.corrupt(section(s), "the padding before it is not zero"))
				break
			}
		}
		end = x.offset + x.size
	}
}

func (c *checker) checkXattrSets() {
	f := c.file
	c.sets = make(map[uint32]bool)
	for at := uint64(0); at < f.header.sections[secXattrs].size; {
		set := at
		c.sets[uint32(set)] = true
		n, next, err := f.xattrSet(at)
		if err != nil {
			c.add(err)
			return
		}
		at = next
		previous := ""
		for range n {
			name, _, next, err := f.xattr(at)
			if err != nil {
				c.add(err)
				return
			}
			if string(name) <= previous && !c.add(f.corrupt(secXattrs, "the set at %d has name %q after %q", set, name, previous)) {
				return
			}
			previous = string(name)
			at = next
		}
		if n == 0 && !c.add(f.corrupt(secXattrs, "the set at %d is empty", set)) {
			return
		}
	}
}

func (c *checker) checkObjects() {
	f := c.file
	seen := make(map[ObjectDigest]bool)
	for i := range f.count(secObjects) {
		b, err := f.bytes(secObjects, i*uint64(objectSize), uint64(objectSize))
		if err == nil && seen[ObjectDigest(b)] {
			err = f.corrupt(secObjects, "%x is listed twice", b)
		}
		if !c.add(err) {
			return
		}
		if err == nil {
			seen[ObjectDigest(b)] = true
		}
	}
}

// checkNames descends from the root.
func (c *checker) checkNames() {
	f := c.file
	c.names = make([]uint32, f.count(secInodes)+1)
	c.subs = make([]uint32, f.count(secInodes)+1)
	c.used = make([]bool, f.count(secEntries))
	pending := []ID{Root}
	piece := make([]Entry, 256)
	for len(pending) > 0 {
		dir := pending[len(pending)-1]
		pending = pending[:len(pending)-1]
		d, err := f.directory(dir)
		if err != nil {
			if !c.add(err) {
				return
			}
			continue
		}
		for i := range d.size {
			if c.used[uint64(d.ref)+i] {
				c.add(f.corrupt(secEntries, "entry %d belongs to directory %d and to another one", uint64(d.ref)+i, dir))
				return // else overlapping directories could be read for ages
			}
			c.used[uint64(d.ref)+i] = true
		}
		previous := ""
		for from := 0; ; {
			n, err := f.ReadDir(dir, from, piece)
			if err != nil {
				if !c.add(err) {
					return
				}
				break
			}
			for _, e := range piece[:n] {
				if e.Name <= previous && !c.add(f.corrupt(secText, "directory %d has name %q after %q", dir, e.Name, previous)) {
					return
				}
				previous = e.Name
				if e.Whiteout {
					continue
				}
				c.names[e.ID]++
				if e.Type == ModeDir {
					c.subs[dir]++
					pending = append(pending, e.ID)
				}
			}
			from += n
			if n < len(piece) {
				break
			}
		}
	}
	for i, used := range c.used {
		if !used && !c.add(f.corrupt(secEntries, "no directory has entry %d", i)) {
			return
		}
		b, err := f.bytes(secEntries, uint64(i)*entrySize, entrySize)
		if err == nil && (b[10] != 0 || b[11] != 0) {
			err = f.corrupt(secEntries, "entry %d has bits that mean nothing", i)
		}
		if !c.add(err) {
			return
		}
	}
}

func (c *checker) checkInodes() {
	f := c.file
	inos := make([]uint64, 0, f.count(secInodes))
	links := uint64(0)
	for id := Root; uint64(id) <= f.count(secInodes); id++ {
		r, err := f.inode(id)
		if err == nil {
			err = c.checkInode(id, &r)
		}
		if !c.add(err) {
			return
		}
		inos = append(inos, r.ino)
		if r.parent == 0 {
			links += uint64(r.nlink)
		}
	}
	if links != f.count(secLinks) {
		c.add(f.corrupt(secLinks, "%d links for inodes with %d", f.count(secLinks), links))
	}
	slices.Sort(inos)
	for i := range inos {
		if i > 0 && inos[i] == inos[i-1] && !c.add(f.corrupt(secInodes, "two inodes have number %d", inos[i])) {
			return
		}
	}
}

// checkInode checks what File's methods do not check, or only when asked for
// that part of the inode.
func (c *checker) checkInode(id ID, r *inodeRecord) error {
	f := c.file
	dir, regular := r.typ() == ModeDir, r.typ() == ModeRegular
	switch names := c.names[id]; {
	case dir && r.nlink != 2+c.subs[id]:
		return f.corrupt(secInodes, "directory %d has link count %d and %d subdirectories", id, r.nlink, c.subs[id])
	case !dir && r.nlink != names:
		return f.corrupt(secInodes, "inode %d has link count %d and %d names", id, r.nlink, names)
	case id != Root && names == 0:
		return f.corrupt(secInodes, "inode %d has no name", id)
	case r.parent == 0 && names < 2:
		return f.corrupt(secInodes, "inode %d lists its names and has %d", id, names)
	case id == Root && (!dir || ID(r.parent) != Root || r.entry != 0):
		return f.corrupt(secInodes, "the root has mode %o, parent %d and entry %d", r.mode, r.parent, r.entry)
	}
	if r.flags&^flagsKnown != 0 || r.flags != 0 && !dir ||
		(r.typ() == ModeFIFO || r.typ() == ModeSocket) && r.size != 0 ||
		!dir && !regular && r.typ() != ModeSymlink && r.ref != 0 || !regular && r.kind != kindNone {
		return f.corrupt(secInodes, "inode %d, mode %o, has flags %x, kind %d, size %d and reference %d",
			id, r.mode, r.flags, r.kind, r.size, r.ref)
	}
	if r.xattrs != 0 && !c.sets[r.xattrs-1] {
		return f.corrupt(secInodes, "inode %d has an xattr set at %d, where none begins", id, r.xattrs-1)
	}
	if r.parent == 0 {
		if err := c.checkLinks(id, r); err != nil {
			return err
		}
	}
	var err error
	switch r.typ() {
	case ModeSymlink:
		_, err = f.Readlink(id)
	case ModeRegular:
		_, err = f.Content(id)
	}
	return err
}

// checkLinks checks that the names that id lists are sorted, and so different;
// as they are as many as were met, they are those.
func (c *checker) checkLinks(id ID, r *inodeRecord) error {
	f := c.file
	if _, err := f.Names(id); err != nil {
		return err
	}
	raw, err := f.bytes(secLinks, uint64(r.entry)*linkSize, uint64(r.nlink)*linkSize)
	if err != nil {
		return err
	}
	var previous linkRecord
	for ; len(raw) > 0; raw = raw[linkSize:] {
		l := decodeLink(raw)
		if l.dir < previous.dir || l.dir == previous.dir && l.entry <= previous.entry && previous.dir != 0 {
			return f.corrupt(secLinks, "inode %d has entry %d of directory %d after entry %d of directory %d",
				id, l.entry, l.dir, previous.entry, previous.dir)
		}
		previous = l
	}
	return nil
}
