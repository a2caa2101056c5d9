package overlay

import (
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// ID names an inode of an FS from the moment a method hands it out until it is
// forgotten. An inode that only the lower has keeps the ID that the lower tree
// gave it (so it costs no memory); inodes with something in the upper have
// IDs of their own. Root is tree.Root, 1.
type ID uint64

const Root ID = ID(tree.Root)

// Options say what to lay over what.
type Options struct {
	// Lower is the one lower tree, as tree.Stack makes it: no whiteouts, no
	// opaque directories. Required.
	Lower tree.Tree

	// LowerID names the lower for good, a chainID for images. A new upper
	// remembers it, and an upper that remembers another one is refused
	// (ErrOtherLower). Empty for plain directories.
	LowerID string

	// Upper and Work are existing directories on one filesystem. With both
	// empty the FS is read-only.
	Upper, Work string

	// Format is how the upper is written.
	Format Format

	// ReadOnly refuses changes (EROFS) though there is an upper to show. Nothing
	// is written then, to the upper or the work directory (which may be left
	// out), and what a crash left half done stays; several such FS may show one
	// upper.
	ReadOnly bool

	// NoRedirect refuses to move directories that the lower has (EXDEV). Those
	// that were moved before are followed all the same.
	NoRedirect bool

	// NoMetacopy copies the data up with the metadata.
	NoMetacopy bool

	// Volatile leaves out the fsync of copied-up data before its name appears:
	// faster, and after a power cut such a file may be empty.
	Volatile bool

	// Logger may be nil.
	Logger *slog.Logger
}

// Caller is on whose behalf something is created: it becomes the owner of what
// it creates. Mode bits that calls take are final: the umask is applied before.
type Caller struct {
	UID, GID uint32
}

// Node is what Lookup and the creating calls return. Each one handed out
// counts as a reference that Forget gives back.
type Node struct {
	ID         ID
	Generation uint64
	Attr       tree.Attr
}

// SetAttr says which attributes to change; nil fields stay as they are.
type SetAttr struct {
	Mode     *uint32 // permission bits with set-id and sticky; type bits are ignored
	UID, GID *uint32
	Size     *int64
	Atime    *tree.Time
	Mtime    *tree.Time
}

// DirEntry is one name that a Dir yields, with the number and the type that Lookup
// of it gives.
type DirEntry struct {
	Name string
	Ino  uint64
	Type uint32 // S_IFMT bits
}

// Statfs describes the filesystem that takes the writes.
type Statfs struct {
	Blocks, Bfree, Bavail uint64 // of Bsize bytes
	Files, Ffree          uint64
	Bsize, Namelen        uint32
}

// FS is the merged tree of one upper and one lower. All methods may be called at
// once from several goroutines.
type FS struct {
	lower      tree.Tree
	up         *upper // nil if there is none
	readOnly   bool
	noRedirect bool
	noMetacopy bool
	volatile   bool
	log        *slog.Logger
	closed     atomic.Bool

	observers observers
	lowerRefs lowerRefs
	renameMu  sync.RWMutex // see the package comment
	moved     movedDirs
	brought   atomic.Uint64 // how often data was brought to a file that lacked it

	tableMu sync.RWMutex
	nodes   map[ID]*node      // all nodes
	byUpper map[uint64]*node  // those in the upper, by number there
	byLower map[tree.ID]*node // directories of the upper, by what is merged below
	nextID  ID
}

// Open lays an upper over a lower. It locks the upper and work directories (a
// *BusyError says who holds them), checks that the upper belongs to this lower
// (ErrOtherLower) and clears up what a crash left in the work directory.
func Open(o Options) (*FS, error) {
	f := &FS{
		lower:      o.Lower,
		readOnly:   o.ReadOnly || o.Upper == "",
		noRedirect: o.NoRedirect,
		noMetacopy: o.NoMetacopy,
		volatile:   o.Volatile,
		log:        o.Logger,
		nodes:      map[ID]*node{},
		byUpper:    map[uint64]*node{},
		byLower:    map[tree.ID]*node{},
		nextID:     firstUpperID,
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	if o.Upper == "" && o.Work == "" {
		return f, nil
	}
	if o.Upper == "" || o.Work == "" && !o.ReadOnly {
		return nil, errors.New("an upper needs a work directory beside it: give both or none")
	}
	up, err := openUpper(o)
	if err != nil {
		return nil, err
	}
	f.up = up
	if err := f.addRoot(); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "open", Path: o.Upper, Err: err}, up.close())
	}
	if f.readOnly {
		return f, nil
	}
	if err := f.recoverWork(); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "clear", Path: o.Work, Err: err}, up.close())
	}
	return f, nil
}

// addRoot makes the node of the merged root, which always has an upper.
func (f *FS) addRoot() error {
	var st unix.Stat_t
	if err := unix.Fstat(f.up.root, &st); err != nil {
		return err
	}
	a, err := f.lower.Attr(tree.Root)
	if err != nil {
		return err
	}
	root := newNode(Root, 0, tree.ModeDir, tree.Root)
	root.inUpper, root.upIno, root.ino, root.impure, root.refs = true, st.Ino, a.Ino, true, 1
	if v, err := (inode{fd: f.up.root}).xattr(f.up.format.namespace() + xOpaque); err == nil {
		root.xwhiteouts = string(v) == "x"
	} else if err != errNoXattr {
		return err
	}
	f.nodes[Root], f.byUpper[st.Ino], f.byLower[tree.Root] = root, root, root
	return nil
}

// Close writes everything to disk and lets go of the upper; once more it does
// nothing. The lower stays open: it is the caller's.
func (f *FS) Close() error {
	if f.up == nil || f.closed.Swap(true) {
		return nil
	}
	f.tableMu.Lock()
	for _, n := range f.nodes {
		if n.pin >= 0 {
			unix.Close(n.pin)
		}
	}
	f.nodes, f.byUpper, f.byLower = nil, nil, nil
	f.tableMu.Unlock()
	return f.up.close()
}

// Sync makes everything that was written durable.
func (f *FS) Sync() error {
	if f.up == nil {
		return nil
	}
	return unix.Syncfs(f.up.root)
}

// ReadOnly tells whether changes are refused.
func (f *FS) ReadOnly() bool { return f.readOnly }

// writable is the first question of every change.
func (f *FS) writable() error {
	if f.readOnly {
		return unix.EROFS
	}
	return nil
}

// Statfs describes the filesystem of the upper; without one there is no room.
func (f *FS) Statfs() (Statfs, error) {
	if f.up == nil {
		return Statfs{Bsize: 4096, Namelen: 255}, nil
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(f.up.root, &st); err != nil {
		return Statfs{}, err
	}
	return Statfs{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail,
		Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Namelen: uint32(st.Namelen),
	}, nil
}
