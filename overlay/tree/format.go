package tree

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The tree file's constants, all part of the format. doc.go draws them.
const (
	fileMagic   = "STRATREE"
	fileVersion = 1

	headerSize  = 192
	headerUsed  = 40 + 16*int(sectionCount) // the rest is reserved
	sectionUnit = 64                        // every section starts at a multiple of it
	blockShift  = 16                        // a checksum covers 64 KiB
	blockSize   = 1 << blockShift

	inodeSize  = 64
	entrySize  = 12
	linkSize   = 8
	objectSize = len(ObjectDigest{})

	xattrSetHead = 2 // the number of attributes
	xattrHead    = 6 // the lengths of a name and a value

	nameMax  = 255     // bytes in a name, as Linux has it
	spaceMax = 1 << 48 // inode numbers stay below it
)

// section is one of the file's tables, in the order in which they lie.
type section int

const (
	secInodes section = iota
	secEntries
	secText
	secLinks
	secXattrs
	secObjects
	sectionCount
)

var sectionNames = [sectionCount]string{"inodes", "entries", "text", "links", "xattrs", "objects"}

// sectionWidths are the sizes of the records; 1 where they vary.
var sectionWidths = [sectionCount]uint64{inodeSize, entrySize, 1, linkSize, 1, uint64(objectSize)}

func (s section) String() string { return sectionNames[s] }

// How the contents of a regular file are kept. Readers of version 1 know one
// way; the others have their numbers so that names and attributes of a tree
// that uses them can still be told from a damaged one.
const (
	kindNone   = 0 // no regular file
	kindObject = 1 // one file for each content
	kindInline = 2 // reserved: in the tree file itself
	kindPacked = 3 // reserved: a range of a pack
)

// Flags of an inode.
const (
	flagImplicit = 1 << 0
	flagOpaque   = 1 << 1
	flagsKnown   = flagImplicit | flagOpaque
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// extent is where a section lies in the file.
type extent struct {
	offset, size uint64
}

// fileHeader is the first headerSize bytes.
type fileHeader struct {
	fileSize uint64 // all of the file
	space    uint64 // Space().Size
	blocks   uint32 // number of block checksums, right behind the header
	sumsCRC  uint32 // of the block checksums and the padding behind them
	sections [sectionCount]extent
}

// body is where the first section starts, and what block checksums cover from.
func (h *fileHeader) body() uint64 { return alignSection(headerSize + 4*uint64(h.blocks)) }

func (h *fileHeader) encode() []byte {
	b := make([]byte, headerSize)
	copy(b, fileMagic)
	le := binary.LittleEndian
	le.PutUint32(b[8:], fileVersion)
	le.PutUint64(b[16:], h.fileSize)
	le.PutUint64(b[24:], h.space)
	le.PutUint32(b[32:], h.blocks)
	le.PutUint32(b[36:], h.sumsCRC)
	for i, s := range h.sections {
		le.PutUint64(b[40+16*i:], s.offset)
		le.PutUint64(b[48+16*i:], s.size)
	}
	le.PutUint32(b[12:], headerCRC(b))
	return b
}

// decodeHeader parses the header of a file of fileSize bytes and holds every
// number in it against that size; problem is empty if all is well.
func decodeHeader(b []byte, fileSize uint64) (h fileHeader, problem string) {
	le := binary.LittleEndian
	h.fileSize = le.Uint64(b[16:])
	h.space = le.Uint64(b[24:])
	h.blocks = le.Uint32(b[32:])
	h.sumsCRC = le.Uint32(b[36:])
	for i := range h.sections {
		h.sections[i] = extent{le.Uint64(b[40+16*i:]), le.Uint64(b[48+16*i:])}
	}
	if sum, want := headerCRC(b), le.Uint32(b[12:]); sum != want {
		return h, fmt.Sprintf("checksum is %08x, not %08x", sum, want)
	}
	if h.fileSize != fileSize {
		return h, fmt.Sprintf("the file has %d bytes, not %d", fileSize, h.fileSize)
	}
	if h.space >= spaceMax {
		return h, fmt.Sprintf("inode numbers up to %d, which is not below 2^48", h.space)
	}
	if uint64(h.blocks) != (fileSize+blockSize-1)>>blockShift {
		return h, fmt.Sprintf("%d block checksums for %d bytes", h.blocks, fileSize)
	}
	end := h.body()
	for i, s := range h.sections {
		if s.offset != alignSection(end) || s.offset > fileSize || s.size > fileSize-s.offset {
			return h, fmt.Sprintf("section %s of %d bytes at %d, but the part before it ends at %d and the file at %d",
				section(i), s.size, s.offset, end, fileSize)
		}
		if s.size%sectionWidths[i] != 0 {
			return h, fmt.Sprintf("section %s has %d bytes, no multiple of %d", section(i), s.size, sectionWidths[i])
		}
		end = s.offset + s.size
	}
	if end != fileSize {
		return h, fmt.Sprintf("the sections end at %d, the file at %d", end, fileSize)
	}
	if h.sections[secInodes].size == 0 {
		return h, "no inodes, so no root directory"
	}
	return h, ""
}

// headerCRC is the checksum of header b with the checksum's own bytes taken
// as zero.
func headerCRC(b []byte) uint32 {
	sum := crc32.Update(0, castagnoli, b[:12])
	sum = crc32.Update(sum, castagnoli, make([]byte, 4))
	return crc32.Update(sum, castagnoli, b[16:headerSize])
}

func alignSection(n uint64) uint64 { return (n + sectionUnit - 1) &^ (sectionUnit - 1) }

// inodeRecord is one inode, as it lies in the file.
type inodeRecord struct {
	ino    uint64
	mode   uint16 // type and permission bits
	flags  uint8
	kind   uint8
	layer  uint32
	uid    uint32
	gid    uint32
	nlink  uint32
	nsec   uint32 // of the modification time
	sec    int64
	size   uint64 // regular: bytes; symlink: of the target; directory: entries; device: rdev
	ref    uint32 // regular: object; symlink: target's place in text; directory: first entry
	xattrs uint32 // 0, or 1 + the set's place in xattrs
	parent uint32 // directory that holds the only name; 0 if there are several
	entry  uint32 // entry of the only name; first of nlink links if there are several
}

func (r *inodeRecord) typ() uint32 { return uint32(r.mode) & ModeType }

func (r *inodeRecord) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint64(b, r.ino)
	b = le.AppendUint16(b, r.mode)
	b = append(b, r.flags, r.kind)
	b = le.AppendUint32(b, r.layer)
	b = le.AppendUint32(b, r.uid)
	b = le.AppendUint32(b, r.gid)
	b = le.AppendUint32(b, r.nlink)
	b = le.AppendUint32(b, r.nsec)
	b = le.AppendUint64(b, uint64(r.sec))
	b = le.AppendUint64(b, r.size)
	b = le.AppendUint32(b, r.ref)
	b = le.AppendUint32(b, r.xattrs)
	b = le.AppendUint32(b, r.parent)
	return le.AppendUint32(b, r.entry)
}

func decodeInode(b []byte) inodeRecord {
	b = b[:inodeSize:inodeSize]
	le := binary.LittleEndian
	return inodeRecord{
		ino:    le.Uint64(b),
		mode:   le.Uint16(b[8:]),
		flags:  b[10],
		kind:   b[11],
		layer:  le.Uint32(b[12:]),
		uid:    le.Uint32(b[16:]),
		gid:    le.Uint32(b[20:]),
		nlink:  le.Uint32(b[24:]),
		nsec:   le.Uint32(b[28:]),
		sec:    int64(le.Uint64(b[32:])),
		size:   le.Uint64(b[40:]),
		ref:    le.Uint32(b[48:]),
		xattrs: le.Uint32(b[52:]),
		parent: le.Uint32(b[56:]),
		entry:  le.Uint32(b[60:]),
	}
}

// entryRecord is one name in a directory; typ and inode are 0 for a whiteout.
type entryRecord struct {
	text   uint32 // the name's place in text
	inode  uint32
	length uint8 // of the name
	typ    uint8 // S_IFMT bits, shifted down
}

func (r *entryRecord) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, r.text)
	b = le.AppendUint32(b, r.inode)
	return append(b, r.length, r.typ, 0, 0)
}

func decodeEntry(b []byte) entryRecord {
	b = b[:entrySize:entrySize]
	le := binary.LittleEndian
	return entryRecord{text: le.Uint32(b), inode: le.Uint32(b[4:]), length: b[8], typ: b[9]}
}

// linkRecord is one of several names of an inode.
type linkRecord struct {
	dir   uint32
	entry uint32
}

func (r *linkRecord) append(b []byte) []byte {
	le := binary.LittleEndian
	return le.AppendUint32(le.AppendUint32(b, r.dir), r.entry)
}

func decodeLink(b []byte) linkRecord {
	le := binary.LittleEndian
	return linkRecord{dir: le.Uint32(b), entry: le.Uint32(b[4:])}
}

// isFileType tells whether typ is one of the seven types of Attr.Mode.
func isFileType(typ uint32) bool {
	const known = 1<<(ModeSocket>>12) | 1<<(ModeSymlink>>12) | 1<<(ModeRegular>>12) | 1<<(ModeBlock>>12) |
		1<<(ModeDir>>12) | 1<<(ModeChar>>12) | 1<<(ModeFIFO>>12)
	return typ&^ModeType == 0 && known>>(typ>>12)&1 == 1
}
