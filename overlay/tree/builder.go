package tree

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// Xattr is one extended attribute.
type Xattr struct {
	Name  string
	Value []byte
}

// Meta is what a layer's entry says of its inode, whatever its kind. A layer
// knows one time of an inode; Attr shows it as all three.
type Meta struct {
	Mode     uint32 // permission bits with set-id and sticky; type bits are ignored
	UID, GID uint32
	Mtime    Time
	Xattrs   []Xattr // in any order; of several with one name the last counts
}

// MetaOf is what a layer's entry for inode id, whose attributes are a, says.
func MetaOf(t Tree, id ID, a *Attr) (Meta, error) {
	m := Meta{Mode: a.Mode & ModePerm, UID: a.UID, GID: a.GID, Mtime: a.Mtime}
	if !a.Xattrs {
		return m, nil
	}
	names, err := t.Xattrs(id)
	if err != nil {
		return m, err
	}
	for _, name := range names {
		value, err := t.Xattr(id, name)
		if err != nil {
			return m, fmt.Errorf("xattr %s: %w", name, err)
		}
		m.Xattrs = append(m.Xattrs, Xattr{name, value})
	}
	return m, nil
}

// Builder is a layer's tree while it is made: entries come in any order, as a
// tar has them, and a later one for the same path overrides an earlier one.
// Paths are relative to the root, slash-separated and clean: "" is the root,
// and no component is empty, "." or "..".
//
// What an entry for an existing path does:
//
//	directory over directory      new attributes, the names below stay
//	anything else                 replaces what is there, with all below it
//	whiteout and directory        the directory is new and opaque, in either order
//	whiteout and anything else    the whiteout is dropped, in either order
//
// Missing parents become implicit directories. A parent that is no directory
// is an error. A hard link names an inode, not a path: it stays when its
// target's name is replaced.
//
// A Builder is made by one goroutine. After Finish it is a Tree, whose ID of
// an inode is also its inode number.
type Builder struct {
	objects  Objects
	finished bool

	// While it is made. Directories that were replaced stay in nodes, with
	// names that nothing leads to; Finish leaves both behind.
	names map[builderName]uint32 // a node, with whiteoutMark

	// For good. Nodes are indexed by ID once finished.
	nodes   []builderNode // 0 is unused
	digests []ObjectDigest
	opens   map[uint32]func() (*os.File, error) // by index in digests: contents without a digest
	targets []string
	xattrs  [][]Xattr // 0 is unused; each sorted by name
	entries []builderEntry
	links   map[ID][]uint32 // indices in entries of inodes with several names
}

// builderName is a key and not a path, so that replacing a directory takes
// all names below it away at once.
type builderName struct {
	dir  uint32
	name string
}

// whiteoutMark is set in Builder.names when the layer has a whiteout of the
// name; alone, with no node, the whiteout is all there is.
const whiteoutMark = 1 << 31

type builderNode struct {
	mtime    int64
	size     int64 // regular: bytes; device: its number
	nsec     uint32
	mode     uint32
	uid, gid uint32
	extra    uint32 // regular: index in digests; symlink: index in targets
	xattrs   uint32
	nlink    uint32
	name     uint32 // once finished: index in entries of the first name
	first    uint32 // once finished, of a directory: its entries are
	count    uint32 // entries[first : first+count]
	implicit bool
	opaque   bool
}

type builderEntry struct {
	name string
	dir  uint32
	node uint32 // 0 is a whiteout
}

// NewBuilder returns a Builder with an empty, implicit root. objects is asked
// by Open; without it Open answers ENODATA.
func NewBuilder(objects Objects) *Builder {
	b := &Builder{
		objects: objects,
		names:   make(map[builderName]uint32),
		nodes:   make([]builderNode, 1, 64),
		xattrs:  make([][]Xattr, 1),
	}
	b.nodes = append(b.nodes, implicitNode())
	return b
}

func implicitNode() builderNode {
	return builderNode{mode: ModeDir | 0o755, implicit: true}
}

// AddDir adds a directory or gives an existing one new attributes.
func (b *Builder) AddDir(path string, m Meta) error {
	if path == "" {
		b.setMeta(uint32(Root), m)
		return b.unfinished("add directory", path)
	}
	dir, name, err := b.parent("add directory", path)
	if err != nil {
		return err
	}
	node := b.names[builderName{dir, name}] &^ whiteoutMark
	if node != 0 && b.nodes[node].isDir() {
		b.setMeta(node, m)
		return nil
	}
	return b.add("add directory", path, dir, name, m, builderNode{mode: ModeDir})
}

// AddFile adds a regular file whose contents are the object digest.
func (b *Builder) AddFile(path string, m Meta, digest ObjectDigest, size int64) error {
	const op = "add file"
	if size < 0 {
		return fmt.Errorf("%s %q: size %d: %w", op, path, size, syscall.EINVAL)
	}
	dir, name, err := b.parent(op, path)
	if err != nil {
		return err
	}
	b.digests = append(b.digests, digest)
	return b.add(op, path, dir, name, m, builderNode{mode: ModeRegular, size: size, extra: uint32(len(b.digests) - 1)})
}

// AddContent adds a regular file whose contents are no object yet: open gives
// them. It may be called later, several times, and from several goroutines.
func (b *Builder) AddContent(path string, m Meta, size int64, open func() (*os.File, error)) error {
	if err := b.AddFile(path, m, ObjectDigest{}, size); err != nil {
		return err
	}
	if b.opens == nil {
		b.opens = make(map[uint32]func() (*os.File, error))
	}
	b.opens[uint32(len(b.digests)-1)] = open
	return nil
}

// AddSymlink adds a symbolic link.
func (b *Builder) AddSymlink(path string, m Meta, target string) error {
	dir, name, err := b.parent("add symlink", path)
	if err != nil {
		return err
	}
	b.targets = append(b.targets, strings.Clone(target))
	return b.add("add symlink", path, dir, name, m, builderNode{mode: ModeSymlink, extra: uint32(len(b.targets) - 1)})
}

// AddSpecial adds a device, FIFO or socket: typ is ModeChar, ModeBlock,
// ModeFIFO or ModeSocket, rdev is as unix.Mkdev makes it. A character device
// 0:0 is one like any other, and no whiteout.
func (b *Builder) AddSpecial(path string, m Meta, typ uint32, rdev uint64) error {
	const op = "add special file"
	switch typ {
	case ModeChar, ModeBlock:
	case ModeFIFO, ModeSocket:
		rdev = 0
	default:
		return fmt.Errorf("%s %q: type %#o is no device, FIFO or socket: %w", op, path, typ, syscall.EINVAL)
	}
	dir, name, err := b.parent(op, path)
	if err != nil {
		return err
	}
	return b.add(op, path, dir, name, m, builderNode{mode: typ, size: int64(rdev)})
}

// AddLink adds path as another name of the inode that target, a path of this
// layer that is no directory, names at this moment.
func (b *Builder) AddLink(path, target string) error {
	const op = "add hard link"
	node, err := b.find(target)
	if err != nil {
		return fmt.Errorf("%s %q: its target %q is not in this layer before it: %w", op, path, target, err)
	}
	if b.nodes[node].isDir() {
		return fmt.Errorf("%s %q: its target %q is a directory: %w", op, path, target, syscall.EPERM)
	}
	dir, name, err := b.parent(op, path)
	if err != nil {
		return err
	}
	b.setName(dir, name, node)
	return nil
}

// AddWhiteout hides path in the layers below.
func (b *Builder) AddWhiteout(path string) error {
	dir, name, err := b.parent("add whiteout", path)
	if err != nil {
		return err
	}
	b.setName(dir, name, b.names[builderName{dir, name}]|whiteoutMark)
	return nil
}

// AddOpaque marks directory dir, which it makes implicitly if need be, as
// hiding what the layers below have in it. Names of this layer stay, whether
// they come before or after.
func (b *Builder) AddOpaque(dir string) error {
	if err := b.unfinished("mark opaque", dir); err != nil {
		return err
	}
	node, err := b.dir("mark opaque", dir, dir)
	if err != nil {
		return err
	}
	b.nodes[node].opaque = true
	return nil
}

func (b *Builder) unfinished(op, path string) error {
	if b.finished {
		return fmt.Errorf("%s %q: the tree is finished: %w", op, path, syscall.EROFS)
	}
	return nil
}

// parent finds or makes the directory that holds path.
func (b *Builder) parent(op, path string) (dir uint32, name string, err error) {
	if err := b.unfinished(op, path); err != nil {
		return 0, "", err
	}
	parent, name := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		parent, name = path[:i], path[i+1:]
		if i == 0 {
			return 0, "", fmt.Errorf("%s %q: the path is not clean: %w", op, path, syscall.EINVAL)
		}
	}
	if !validName(name) {
		return 0, "", fmt.Errorf("%s %q: %q cannot be a name: %w", op, path, name, syscall.EINVAL)
	}
	dir, err = b.dir(op, path, parent)
	return dir, name, err
}

// validName tells whether a directory can have an entry called name.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 &&
		strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}

// dir finds or makes the directory called dir, which path needs.
func (b *Builder) dir(op, path, dir string) (uint32, error) {
	if strings.Count(dir, "/") >= MaxDepth {
		return 0, fmt.Errorf("%s %.300q...: %w", op, path, errTooDeep)
	}
	node := uint32(Root)
	for rest := dir; rest != ""; {
		name, more, _ := strings.Cut(rest, "/")
		at := dir[:len(dir)-len(rest)+len(name)]
		if !validName(name) || more == "" && len(name) != len(rest) {
			return 0, fmt.Errorf("%s %q: %q cannot be a name: %w", op, path, name, syscall.EINVAL)
		}
		next := b.names[builderName{node, name}] &^ whiteoutMark
		if next == 0 {
			var err error
			if next, err = b.newNode(op, path, implicitNode()); err != nil {
				return 0, err
			}
			b.setName(node, name, next)
		} else if !b.nodes[next].isDir() {
			return 0, fmt.Errorf("%s %q: %q is a %s, not a directory: %w", op, path, at, kindName(b.nodes[next].mode), syscall.ENOTDIR)
		}
		node, rest = next, more
	}
	return node, nil
}

// find returns the node of path, without making anything.
func (b *Builder) find(path string) (uint32, error) {
	node := uint32(Root)
	for rest := path; rest != ""; {
		name, more, _ := strings.Cut(rest, "/")
		if !b.nodes[node].isDir() {
			return 0, syscall.ENOTDIR
		}
		node = b.names[builderName{node, name}] &^ whiteoutMark
		if node == 0 {
			return 0, syscall.ENOENT
		}
		rest = more
	}
	return node, nil
}

func (b *Builder) add(op, path string, dir uint32, name string, m Meta, n builderNode) error {
	node, err := b.newNode(op, path, n)
	if err != nil {
		return err
	}
	b.setMeta(node, m)
	b.setName(dir, name, node)
	return nil
}

func (b *Builder) newNode(op, path string, n builderNode) (uint32, error) {
	if uint64(len(b.nodes)) >= whiteoutMark {
		return 0, fmt.Errorf("%s %q: the layer has more than %d entries: %w", op, path, whiteoutMark-1, syscall.EFBIG)
	}
	b.nodes = append(b.nodes, n)
	return uint32(len(b.nodes) - 1), nil
}

// setName keeps the whiteout mark that the name may have.
func (b *Builder) setName(dir uint32, name string, node uint32) {
	key := builderName{dir, name}
	old, ok := b.names[key]
	if !ok {
		// The caller's path is longer than the name and must not be kept by it.
		key.name = strings.Clone(name)
	}
	b.names[key] = node | old&whiteoutMark
}

func (b *Builder) setMeta(node uint32, m Meta) {
	if b.finished {
		return
	}
	n := &b.nodes[node]
	n.mode = n.mode&ModeType | m.Mode&ModePerm
	n.uid, n.gid = m.UID, m.GID
	n.mtime, n.nsec = m.Mtime.Sec, m.Mtime.Nsec
	n.implicit = false
	n.xattrs = 0
	if len(m.Xattrs) > 0 {
		b.xattrs = append(b.xattrs, sortedXattrs(m.Xattrs))
		n.xattrs = uint32(len(b.xattrs) - 1)
	}
}

// sortedXattrs returns a sorted copy in which the last of several with one
// name is left.
func sortedXattrs(xattrs []Xattr) []Xattr {
	sorted := make([]Xattr, 0, len(xattrs))
	for _, x := range slices.Backward(xattrs) {
		sorted = append(sorted, Xattr{x.Name, slices.Clone(x.Value)})
	}
	slices.SortStableFunc(sorted, func(a, b Xattr) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(sorted, func(a, b Xattr) bool { return a.Name == b.Name })
}

func (n *builderNode) isDir() bool { return n.mode&ModeType == ModeDir }

// kindName is the word for a type.
func kindName(mode uint32) string {
	switch mode & ModeType {
	case ModeRegular:
		return "regular file"
	case ModeDir:
		return "directory"
	case ModeSymlink:
		return "symlink"
	case ModeChar:
		return "character device"
	case ModeBlock:
		return "block device"
	case ModeFIFO:
		return "FIFO"
	case ModeSocket:
		return "socket"
	}
	return "file of unknown type"
}
