package tree

import (
	"fmt"
	"os"
)

// ID names an inode within one Tree, for as long as the Tree is open. It is
// not the inode number that programs see (that is Attr.Ino) and means nothing
// in another Tree.
type ID uint64

const (
	None ID = 0 // no inode: what a whiteout names
	Root ID = 1 // the root directory of every Tree
)

// Tree is a read-only file tree: names and attributes, and a way to open
// contents. A Tree of a layer may also hold whiteouts and opaque directories;
// a Tree made by Stack holds neither.
//
// All methods may be called at once from several goroutines. An ID that the
// Tree did not give out, a directory method on something that is no directory
// and the like are answered with an error, never with a panic. Errors are (or
// wrap) syscall.Errno values where one fits: ENOENT, ENOTDIR, EINVAL, ENODATA,
// ERANGE, EIO; *CorruptError wraps EIO.
type Tree interface {
	// Attr returns the attributes of id.
	Attr(id ID) (Attr, error)

	// Lookup returns the entry called name in directory dir, ENOENT if there
	// is none. In a layer's tree the entry may be a whiteout.
	Lookup(dir ID, name string) (Entry, error)

	// ReadDir fills entries with those of directory dir, sorted by name as
	// bytes, from position from on (0 is the first), and returns how many it
	// filled; fewer than len(entries) means that the end was reached. "." and
	// ".." are not among them, and no name is returned twice.
	ReadDir(dir ID, from int, entries []Entry) (int, error)

	// Parent returns the directory that holds directory dir; Root for Root.
	Parent(dir ID) (ID, error)

	// Names returns every name of id, in the order of (directory, name): one
	// for most inodes, none for Root, several for an inode with hard links.
	Names(id ID) ([]Name, error)

	// Readlink returns the target of symlink id.
	Readlink(id ID) (string, error)

	// Xattr returns the value of one extended attribute, ENODATA if id has
	// none of that name. The value must not be changed.
	Xattr(id ID, name string) ([]byte, error)

	// Xattrs returns the names of all extended attributes, sorted.
	Xattrs(id ID) ([]string, error)

	// Opaque tells whether directory dir hides what lower trees have below
	// it. It is always false in a Tree made by Stack.
	Opaque(dir ID) (bool, error)

	// Content says where the bytes of regular file id are kept.
	Content(id ID) (Content, error)

	// Open opens regular file id for reading. The caller closes it. The file
	// must never be written through, whatever its open mode allows.
	Open(id ID) (*os.File, error)

	// Space describes the inode numbers that Attr gives out.
	Space() Space
}

// Entry is one name in a directory. A whiteout has ID None.
type Entry struct {
	Name     string
	ID       ID
	Type     uint32 // S_IFMT bits of the mode; 0 for a whiteout
	Whiteout bool
}

// Name is one of an inode's names: Name in directory Dir.
type Name struct {
	Dir  ID
	Name string
}

// Attr holds the attributes of one inode, as stat(2) shows them.
type Attr struct {
	Ino    uint64 // inode number, unique within the Tree, stable, in 1..Space().Size
	Mode   uint32 // S_IFMT type bits and the twelve permission bits, as in st_mode
	UID    uint32
	GID    uint32
	Nlink  uint32 // directories: 2 + the number of subdirectories
	Rdev   uint64 // devices only, as unix.Mkdev makes it
	Size   int64  // regular: bytes; symlink: length of the target; otherwise 0
	Blocks uint64 // of 512 bytes, as in st_blocks
	Atime  Time
	Mtime  Time
	Ctime  Time
	Xattrs bool   // whether there are any extended attributes
	Layer  uint32 // in a stacked tree: the index of the layer that gave it, base is 0

	// Implicit marks a directory of a layer that has names below it but no
	// entry of its own: stacked over a directory it leaves that one's
	// attributes as they are; over nothing it is 0755, 0:0, time 0.
	Implicit bool
}

// IsDir, IsRegular and IsSymlink tell the type of the inode.
func (a *Attr) IsDir() bool     { return a.Mode&ModeType == ModeDir }
func (a *Attr) IsRegular() bool { return a.Mode&ModeType == ModeRegular }
func (a *Attr) IsSymlink() bool { return a.Mode&ModeType == ModeSymlink }

// The type bits of Attr.Mode and Entry.Type: Linux's S_IFMT and its values.
const (
	ModeType    = 0o170000
	ModeSocket  = 0o140000
	ModeSymlink = 0o120000
	ModeRegular = 0o100000
	ModeBlock   = 0o060000
	ModeDir     = 0o040000
	ModeChar    = 0o020000
	ModeFIFO    = 0o010000
	ModePerm    = 0o007777 // the permission bits with set-id and sticky
)

// Time is a point in time: seconds and nanoseconds since 1970, as in struct
// timespec.
type Time struct {
	Sec  int64
	Nsec uint32
}

// ObjectDigest is the SHA-256 of a regular file's contents, under which the
// object is kept. It is no Digest of the OCI specification, which names blobs.
type ObjectDigest [32]byte

func (d ObjectDigest) String() string { return fmt.Sprintf("%x", d[:]) }

// Content says where a regular file's bytes are.
type Content struct {
	Known  bool         // whether Digest is known without reading the file
	Digest ObjectDigest // SHA-256 of the bytes, if Known
	Size   int64        // bytes
}

// Space describes a range of inode numbers. Trees with the same Key (and Key
// not zero) take their numbers from the same range, because they show inodes
// of one host filesystem. A number is in 1..Size.
type Space struct {
	Key  uint64
	Size uint64
}

// Objects opens file contents by digest; a tree file needs one for Open.
type Objects interface {
	OpenObject(d ObjectDigest) (*os.File, error)
}
