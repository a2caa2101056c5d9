package tree

import (
	"cmp"
	"os"
	"slices"
	"syscall"
)

// node returns the node of id.
func (b *Builder) node(id ID) (*builderNode, error) {
	if !b.finished || id == None || id >= ID(len(b.nodes)) {
		return nil, syscall.EINVAL
	}
	return &b.nodes[id], nil
}

func (b *Builder) dirNode(id ID) (*builderNode, error) {
	n, err := b.node(id)
	if err == nil && !n.isDir() {
		return nil, syscall.ENOTDIR
	}
	return n, err
}

func (b *Builder) ofType(id ID, typ uint32) (*builderNode, error) {
	n, err := b.node(id)
	if err == nil && n.mode&ModeType != typ {
		return nil, syscall.EINVAL
	}
	return n, err
}

func (b *Builder) Attr(id ID) (Attr, error) {
	n, err := b.node(id)
	if err != nil {
		return Attr{}, err
	}
	t := Time{Sec: n.mtime, Nsec: n.nsec}
	a := Attr{
		Ino: uint64(id), Mode: n.mode, UID: n.uid, GID: n.gid, Nlink: n.nlink,
		Atime: t, Mtime: t, Ctime: t,
		Xattrs: n.xattrs != 0, Implicit: n.implicit,
	}
	switch n.mode & ModeType {
	case ModeRegular:
		a.Size = n.size
		a.Blocks = (uint64(n.size) + 4095) / 4096 * 8
	case ModeSymlink:
		a.Size = int64(len(b.targets[n.extra]))
	case ModeChar, ModeBlock:
		a.Rdev = uint64(n.size)
	}
	return a, nil
}

func (b *Builder) entry(e *builderEntry) Entry {
	if e.node == 0 {
		return Entry{Name: e.name, Whiteout: true}
	}
	return Entry{Name: e.name, ID: ID(e.node), Type: b.nodes[e.node].mode & ModeType}
}

func (b *Builder) Lookup(dir ID, name string) (Entry, error) {
	n, err := b.dirNode(dir)
	if err != nil {
		return Entry{}, err
	}
	entries := b.entries[n.first : n.first+n.count]
	i, ok := slices.BinarySearchFunc(entries, name, func(e builderEntry, name string) int { return cmp.Compare(e.name, name) })
	if !ok {
		return Entry{}, syscall.ENOENT
	}
	return b.entry(&entries[i]), nil
}

func (b *Builder) ReadDir(dir ID, from int, entries []Entry) (int, error) {
	n, err := b.dirNode(dir)
	if err != nil {
		return 0, err
	}
	if from < 0 {
		return 0, syscall.EINVAL
	}
	all := b.entries[n.first : n.first+n.count]
	if from >= len(all) {
		return 0, nil
	}
	all = all[from:]
	count := min(len(all), len(entries))
	for i := range count {
		entries[i] = b.entry(&all[i])
	}
	return count, nil
}

func (b *Builder) Parent(dir ID) (ID, error) {
	n, err := b.dirNode(dir)
	if err != nil {
		return None, err
	}
	if dir == Root {
		return Root, nil
	}
	return ID(b.entries[n.name].dir), nil
}

func (b *Builder) Names(id ID) ([]Name, error) {
	n, err := b.node(id)
	if err != nil || id == Root {
		return nil, err
	}
	at := b.links[id]
	if at == nil {
		at = []uint32{n.name}
	}
	names := make([]Name, len(at))
	for i, e := range at {
		names[i] = Name{Dir: ID(b.entries[e].dir), Name: b.entries[e].name}
	}
	return names, nil
}

func (b *Builder) Readlink(id ID) (string, error) {
	n, err := b.ofType(id, ModeSymlink)
	if err != nil {
		return "", err
	}
	return b.targets[n.extra], nil
}

func (b *Builder) Xattr(id ID, name string) ([]byte, error) {
	n, err := b.node(id)
	if err != nil {
		return nil, err
	}
	for _, x := range b.xattrs[n.xattrs] {
		if x.Name == name {
			return x.Value, nil
		}
	}
	return nil, syscall.ENODATA
}

func (b *Builder) Xattrs(id ID) ([]string, error) {
	n, err := b.node(id)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, x := range b.xattrs[n.xattrs] {
		names = append(names, x.Name)
	}
	return names, nil
}

func (b *Builder) Opaque(dir ID) (bool, error) {
	n, err := b.dirNode(dir)
	if err != nil {
		return false, err
	}
	return n.opaque, nil
}

func (b *Builder) Content(id ID) (Content, error) {
	n, err := b.ofType(id, ModeRegular)
	if err != nil {
		return Content{}, err
	}
	if b.opens[n.extra] != nil {
		return Content{Size: n.size}, nil
	}
	return Content{Known: true, Digest: b.digests[n.extra], Size: n.size}, nil
}

func (b *Builder) Open(id ID) (*os.File, error) {
	n, err := b.ofType(id, ModeRegular)
	if err != nil {
		return nil, err
	}
	if open := b.opens[n.extra]; open != nil {
		return open()
	}
	if b.objects == nil {
		return nil, syscall.ENODATA
	}
	return b.objects.OpenObject(b.digests[n.extra])
}

func (b *Builder) Space() Space { return Space{Size: uint64(max(len(b.nodes)-1, 1))} }
