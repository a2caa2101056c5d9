package tree

import (
	"cmp"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// Stacked is the tree that shows when layers are laid over each other. It has
// no whiteouts and no opaque directories: they have done their work.
//
// What is at a path is decided from the topmost layer down: the first layer
// that has the name says what it is. A whiteout says that there is nothing,
// anything but a directory hides all below it, and a directory is merged with
// the directories below it until a layer has something else there or the
// directory is opaque. A merged directory has the attributes of the topmost
// layer that has an entry for it (not only names below it) and the inode
// number that the lowest merged layer gives it, so that adding a layer does not
// change the number. An opaque directory without an entry of its own stops the
// merge, yet keeps the attributes of the directory that it empties.
//
// Directories are merged when first needed, and remembered: for each visible
// name 24 bytes and the string, for each inode 40, for each directory about
// 120. Merging one costs what its layers have in it, not what is below it.
//
// Where the kernel's overlayfs wrote a layer with redirect_dir or metacopy, its
// redirects are followed: a directory is merged with what the layers below have
// where it was before, and a file's data comes from there.
//
// Inode numbers: those of each layer begin where those of the layers below
// end, and layers with one Space.Key share one range.
//
// Nlink and Names of an inode with hard links count visible names only. A
// HostDir learns all names of an inode only by reading the whole directory
// tree; until Names has been called on it, Nlink is the host's st_nlink.
//
// Locks: Stacked.placesMu, then stackDir.mu, then Stacked.mu; no two stackDir.mu at once, and layers
// are never called with Stacked.mu held.
type Stacked struct {
	layers []Tree // base first
	bases  []uint64
	space  Space

	mu     sync.RWMutex
	inodes []stackInode     // by ID; 0 is unused
	linked map[stackPart]ID // the inodes that have hard links
	names  map[ID][]Name    // visible names of these, as far as asked for

	placesMu sync.Mutex // held while places are found
	places   map[stackPart]ID
}

// stackPart is an inode of a layer.
type stackPart struct {
	layer uint32
	id    ID
}

type stackInode struct {
	part     stackPart // nothing, if it is a directory
	dir      *stackDir // nil, if it is none
	parent   uint32    // a directory in which it has a name,
	at       uint32    // and where in the entries
	hasLinks bool      // its layer has several names for it
}

type stackDir struct {
	id ID

	mu       sync.Mutex
	resolved atomic.Bool // whether parts and source are final
	parts    []stackPart // topmost first; with those that an opaque directory hides until resolved
	source   stackPart   // whose attributes it has
	entries  atomic.Pointer[[]stackEntry]
	subdirs  uint32 // valid with entries
}

type stackEntry struct {
	name string
	id   uint32
	typ  uint32
}

// Stack lays layers, base first, over each other. They must stay open for as
// long as the Stacked is used and are not closed by it.
func Stack(layers ...Tree) *Stacked {
	s := &Stacked{
		layers: layers,
		linked: make(map[stackPart]ID),
		names:  make(map[ID][]Name),
	}
	s.numberSpaces()
	root := &stackDir{id: Root}
	for i := len(layers) - 1; i >= 0; i-- {
		root.parts = append(root.parts, stackPart{uint32(i), Root})
	}
	if len(layers) == 0 {
		root.resolved.Store(true)
		root.entries.Store(new([]stackEntry))
	}
	s.inodes = []stackInode{{}, {dir: root, parent: uint32(Root)}}
	return s
}

// numberSpaces gives each layer the base of its inode numbers.
func (s *Stacked) numberSpaces() {
	size := make(map[uint64]uint64)
	for _, l := range s.layers {
		if sp := l.Space(); sp.Key != 0 {
			size[sp.Key] = max(size[sp.Key], sp.Size)
		}
	}
	base := make(map[uint64]uint64)
	s.bases = make([]uint64, len(s.layers))
	for i, l := range s.layers {
		sp := l.Space()
		if sp.Key == 0 {
			s.bases[i] = s.space.Size
			s.space.Size += sp.Size
			continue
		}
		if _, ok := base[sp.Key]; !ok {
			base[sp.Key] = s.space.Size
			s.space.Size += size[sp.Key]
		}
		s.bases[i] = base[sp.Key]
	}
	s.space.Size = max(s.space.Size, 1)
}

func (s *Stacked) inode(id ID) (stackInode, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if id == None || id >= ID(len(s.inodes)) {
		return stackInode{}, syscall.EINVAL
	}
	return s.inodes[id], nil
}

func (s *Stacked) dir(id ID) (*stackDir, error) {
	in, err := s.inode(id)
	if err == nil && in.dir == nil {
		return nil, syscall.ENOTDIR
	}
	return in.dir, err
}

// part returns the layer's inode that attributes and contents of id come from.
func (s *Stacked) part(id ID) (stackPart, error) {
	in, err := s.inode(id)
	if err != nil || in.dir == nil {
		return in.part, err
	}
	err = s.resolve(in.dir)
	return in.dir.source, err
}

func (s *Stacked) Attr(id ID) (Attr, error) {
	in, err := s.inode(id)
	if err != nil {
		return Attr{}, err
	}
	if in.dir != nil {
		return s.dirAttr(in.dir)
	}
	layer := s.layers[in.part.layer]
	a, err := layer.Attr(in.part.id)
	if err != nil {
		return Attr{}, err
	}
	a.Ino += s.bases[in.part.layer]
	a.Layer = in.part.layer
	if a.IsRegular() {
		if d, err := s.dataOf(in); err == nil && d != in.part { // an error shows in Open
			below, err := s.layers[d.layer].Attr(d.id)
			if err != nil {
				return Attr{}, err
			}
			a.Blocks = below.Blocks
		}
	}
	if in.hasLinks && linksKnown(layer) {
		names, err := s.visibleNames(id, in)
		if err != nil {
			return Attr{}, err
		}
		a.Nlink = uint32(len(names))
	}
	return a, nil
}

func (s *Stacked) dirAttr(d *stackDir) (Attr, error) {
	if err := s.resolve(d); err != nil {
		return Attr{}, err
	}
	if len(d.parts) == 0 { // the root of no layers
		return Attr{Ino: 1, Mode: ModeDir | 0o755, Nlink: 2}, nil
	}
	a, err := s.layers[d.source.layer].Attr(d.source.id)
	if err != nil {
		return Attr{}, err
	}
	lowest := d.parts[len(d.parts)-1]
	own := a
	if lowest != d.source {
		if own, err = s.layers[lowest.layer].Attr(lowest.id); err != nil {
			return Attr{}, err
		}
	}
	a.Ino = own.Ino + s.bases[lowest.layer]
	a.Layer = d.source.layer
	a.Implicit = false
	a.Nlink = own.Nlink
	if len(d.parts) > 1 {
		if _, err := s.merge(d); err != nil {
			return Attr{}, err
		}
		a.Nlink = 2 + d.subdirs
	}
	return a, nil
}

func (s *Stacked) Lookup(dir ID, name string) (Entry, error) {
	d, err := s.dir(dir)
	if err != nil {
		return Entry{}, err
	}
	entries, err := s.merge(d)
	if err != nil {
		return Entry{}, err
	}
	i, ok := findEntry(entries, name)
	if !ok {
		return Entry{}, syscall.ENOENT
	}
	return entries[i].entry(), nil
}

func findEntry(entries []stackEntry, name string) (int, bool) {
	return slices.BinarySearchFunc(entries, name, func(e stackEntry, name string) int { return cmp.Compare(e.name, name) })
}

func (e *stackEntry) entry() Entry { return Entry{Name: e.name, ID: ID(e.id), Type: e.typ} }

func (s *Stacked) ReadDir(dir ID, from int, entries []Entry) (int, error) {
	d, err := s.dir(dir)
	if err != nil {
		return 0, err
	}
	if from < 0 {
		return 0, syscall.EINVAL
	}
	all, err := s.merge(d)
	if err != nil || from >= len(all) {
		return 0, err
	}
	n := min(len(all)-from, len(entries))
	for i := range n {
		entries[i] = all[from+i].entry()
	}
	return n, nil
}

func (s *Stacked) Parent(dir ID) (ID, error) {
	in, err := s.inode(dir)
	if err != nil {
		return None, err
	}
	if in.dir == nil {
		return None, syscall.ENOTDIR
	}
	return ID(in.parent), nil
}

func (s *Stacked) Names(id ID) ([]Name, error) {
	in, err := s.inode(id)
	if err != nil || id == Root {
		return nil, err
	}
	if in.hasLinks {
		names, err := s.visibleNames(id, in)
		return slices.Clone(names), err
	}
	name, err := s.nameAt(in)
	if err != nil {
		return nil, err
	}
	return []Name{name}, nil
}

// nameAt returns the name that in was found by.
func (s *Stacked) nameAt(in stackInode) (Name, error) {
	d, err := s.dir(ID(in.parent))
	if err != nil {
		return Name{}, err
	}
	entries, err := s.merge(d)
	if err != nil {
		return Name{}, err
	}
	return Name{Dir: d.id, Name: entries[in.at].name}, nil
}

func (s *Stacked) Readlink(id ID) (string, error) {
	p, err := s.file(id)
	if err != nil {
		return "", err
	}
	return s.layers[p.layer].Readlink(p.id)
}

func (s *Stacked) Xattr(id ID, name string) ([]byte, error) {
	p, err := s.part(id)
	if err != nil {
		return nil, err
	}
	if p.id == None {
		return nil, syscall.ENODATA
	}
	return s.layers[p.layer].Xattr(p.id, name)
}

func (s *Stacked) Xattrs(id ID) ([]string, error) {
	p, err := s.part(id)
	if err != nil || p.id == None {
		return nil, err
	}
	return s.layers[p.layer].Xattrs(p.id)
}

// Opaque is always false.
func (s *Stacked) Opaque(dir ID) (bool, error) {
	_, err := s.dir(dir)
	return false, err
}

func (s *Stacked) Content(id ID) (Content, error) {
	p, err := s.data(id)
	if err != nil {
		return Content{}, err
	}
	return s.layers[p.layer].Content(p.id)
}

func (s *Stacked) Open(id ID) (*os.File, error) {
	p, err := s.data(id)
	if err != nil {
		return nil, err
	}
	return s.layers[p.layer].Open(p.id)
}

// file returns the part of something that is no directory; the layer checks
// the rest.
func (s *Stacked) file(id ID) (stackPart, error) {
	in, err := s.inode(id)
	if err == nil && in.dir != nil {
		err = syscall.EINVAL
	}
	return in.part, err
}

func (s *Stacked) Space() Space { return s.space }
