package tree

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// fakeTree is a Tree in memory, made by hand and as plain as can be: what the
// tree file is compared with. Its directories and numbers are public to tests,
// so that they can also be wrong.
type fakeTree struct {
	nodes []*fakeNode // by ID; the first is unused
	space Space
}

type fakeNode struct {
	attr    Attr
	entries map[string]ID // None for a whiteout
	names   []Name
	target  string
	xattrs  map[string]string
	opaque  bool
	content Content
}

func newFakeTree() *fakeTree {
	t := &fakeTree{nodes: []*fakeNode{nil}}
	t.add(ModeDir|0o755, nil).attr.Nlink = 2
	return t
}

func (t *fakeTree) add(mode uint32, set func(*fakeNode)) *fakeNode {
	n := &fakeNode{}
	n.attr = Attr{Ino: uint64(len(t.nodes)), Mode: mode, Nlink: 1, Mtime: Time{Sec: 1_700_000_000, Nsec: uint32(len(t.nodes))}}
	if mode&ModeType == ModeDir {
		n.attr.Nlink = 2
		n.entries = make(map[string]ID)
	}
	if set != nil {
		set(n)
	}
	n.attr.Atime, n.attr.Ctime = n.attr.Mtime, n.attr.Mtime
	n.attr.Xattrs = len(n.xattrs) > 0
	t.nodes = append(t.nodes, n)
	t.space.Size = uint64(len(t.nodes) - 1)
	return n
}

// find returns the ID of path, which must be there.
func (t *fakeTree) find(path string) ID {
	id := Root
	for name := range strings.SplitSeq(path, "/") {
		if name == "" {
			continue
		}
		next, ok := t.nodes[id].entries[name]
		if !ok {
			panic("fakeTree: no " + path)
		}
		id = next
	}
	return id
}

func (t *fakeTree) name(path string, id ID) {
	dir, name := Root, path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, name = t.find(path[:i]), path[i+1:]
	}
	d := t.nodes[dir]
	d.entries[name] = id
	if id != None {
		t.nodes[id].names = append(t.nodes[id].names, Name{dir, name})
		if t.nodes[id].attr.IsDir() {
			d.attr.Nlink++
		}
	}
}

func (t *fakeTree) put(path string, mode uint32, set func(*fakeNode)) {
	t.add(mode, set)
	t.name(path, ID(len(t.nodes)-1))
}

func (t *fakeTree) dir(path string) { t.put(path, ModeDir|0o755, nil) }

func (t *fakeTree) file(path, data string) {
	t.put(path, ModeRegular|0o644, func(n *fakeNode) {
		n.content = Content{Known: true, Digest: sha256.Sum256([]byte(data)), Size: int64(len(data))}
		n.attr.Size = int64(len(data))
		n.attr.Blocks = uint64(len(data)+4095) / 4096 * 8
	})
}

func (t *fakeTree) symlink(path, target string) {
	t.put(path, ModeSymlink|0o777, func(n *fakeNode) { n.target, n.attr.Size = target, int64(len(target)) })
}

func (t *fakeTree) device(path string, typ uint32, rdev uint64) {
	t.put(path, typ|0o660, func(n *fakeNode) { n.attr.Rdev = rdev })
}

func (t *fakeTree) link(path, target string) {
	id := t.find(target)
	t.name(path, id)
	t.nodes[id].attr.Nlink++
}

func (t *fakeTree) whiteout(path string) { t.name(path, None) }

// xattr gives path attributes: name, value, name, value.
func (t *fakeTree) xattr(path string, pairs ...string) {
	n := t.nodes[t.find(path)]
	n.xattrs = make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		n.xattrs[pairs[i]] = pairs[i+1]
	}
	n.attr.Xattrs = true
}

func (t *fakeTree) node(id ID, typ uint32, wrong syscall.Errno) (*fakeNode, error) {
	if id == None || id >= ID(len(t.nodes)) {
		return nil, syscall.EINVAL
	}
	n := t.nodes[id]
	if typ != 0 && n.attr.Mode&ModeType != typ {
		return nil, wrong
	}
	return n, nil
}

func (t *fakeTree) Attr(id ID) (Attr, error) {
	n, err := t.node(id, 0, 0)
	if err != nil {
		return Attr{}, err
	}
	return n.attr, nil
}

func (t *fakeTree) entry(name string, id ID) Entry {
	if id == None {
		return Entry{Name: name, Whiteout: true}
	}
	return Entry{Name: name, ID: id, Type: t.nodes[id].attr.Mode & ModeType}
}

func (t *fakeTree) Lookup(dir ID, name string) (Entry, error) {
	d, err := t.node(dir, ModeDir, syscall.ENOTDIR)
	if err != nil {
		return Entry{}, err
	}
	id, ok := d.entries[name]
	if !ok {
		return Entry{}, syscall.ENOENT
	}
	return t.entry(name, id), nil
}

func (t *fakeTree) ReadDir(dir ID, from int, entries []Entry) (int, error) {
	d, err := t.node(dir, ModeDir, syscall.ENOTDIR)
	if err != nil {
		return 0, err
	}
	if from < 0 {
		return 0, syscall.EINVAL
	}
	names := slices.Sorted(maps.Keys(d.entries))
	n := 0
	for ; n < len(entries) && from+n < len(names); n++ {
		name := names[from+n]
		entries[n] = t.entry(name, d.entries[name])
	}
	return n, nil
}

func (t *fakeTree) Parent(dir ID) (ID, error) {
	d, err := t.node(dir, ModeDir, syscall.ENOTDIR)
	if err != nil || dir == Root {
		return dir, err
	}
	return d.names[0].Dir, nil
}

func (t *fakeTree) Names(id ID) ([]Name, error) {
	n, err := t.node(id, 0, 0)
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(slices.Values(n.names), compareNames), nil
}

func compareNames(a, b Name) int {
	return cmp.Or(cmp.Compare(a.Dir, b.Dir), cmp.Compare(a.Name, b.Name))
}

func (t *fakeTree) Readlink(id ID) (string, error) {
	n, err := t.node(id, ModeSymlink, syscall.EINVAL)
	if err != nil {
		return "", err
	}
	return n.target, nil
}

func (t *fakeTree) Xattr(id ID, name string) ([]byte, error) {
	n, err := t.node(id, 0, 0)
	if err != nil {
		return nil, err
	}
	value, ok := n.xattrs[name]
	if !ok {
		return nil, syscall.ENODATA
	}
	return []byte(value), nil
}

func (t *fakeTree) Xattrs(id ID) ([]string, error) {
	n, err := t.node(id, 0, 0)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.xattrs)), nil
}

func (t *fakeTree) Opaque(dir ID) (bool, error) {
	d, err := t.node(dir, ModeDir, syscall.ENOTDIR)
	if err != nil {
		return false, err
	}
	return d.opaque, nil
}

func (t *fakeTree) Content(id ID) (Content, error) {
	n, err := t.node(id, ModeRegular, syscall.EINVAL)
	if err != nil {
		return Content{}, err
	}
	return n.content, nil
}

func (t *fakeTree) Open(ID) (*os.File, error) { return nil, syscall.ENOTSUP }
func (t *fakeTree) Space() Space              { return t.space }

// exampleTree is the tree of doc.go's worked example.
func exampleTree() *fakeTree {
	t := newFakeTree()
	t.dir("etc")
	t.file("etc/motd", "hello\n")
	t.whiteout("etc/old")
	t.symlink("sh", "bin/dash")
	t.nodes[t.find("etc")].opaque = true
	return t
}

// richTree has one of everything.
func richTree() *fakeTree {
	t := newFakeTree()
	t.dir("dev")
	t.device("dev/null", ModeChar, 0x103)
	t.device("dev/sda", ModeBlock, 0x800)
	t.put("dev/fifo", ModeFIFO|0o600, nil)
	t.put("dev/log", ModeSocket|0o666, nil)
	t.dir("bin")
	t.file("bin/dash", strings.Repeat("dash", 5000))
	t.symlink("bin/sh", "dash")
	t.link("bin/ash", "bin/dash")
	t.dir("empty")
	t.dir("usr")
	t.dir("usr/bin")
	t.link("usr/bin/dash", "bin/dash")
	t.file("usr/bin/same", "hello\n")
	t.file("usr/bin/copy", "hello\n")
	t.file("usr/bin/nothing", "")
	t.whiteout("usr/bin/gone")
	t.whiteout("usr/bin/zz")
	t.symlink("usr/lib\xff\n", strings.Repeat("up/", 40))
	t.link("usr/link", "usr/lib\xff\n")
	t.file("usr/"+strings.Repeat("n", nameMax), "long")
	t.xattr("bin/dash", "security.capability", "\x01\x00\x00\x02\x00", "user.empty", "")
	t.xattr("usr/bin/same", "security.capability", "\x01\x00\x00\x02\x00", "user.empty", "")
	t.xattr("usr/bin", "user.dir", strings.Repeat("v", 300))
	t.nodes[t.find("usr/bin")].opaque = true
	t.nodes[t.find("usr")].attr.Implicit = true
	dash := t.nodes[t.find("bin/dash")]
	dash.attr.Mode, dash.attr.UID, dash.attr.GID = ModeRegular|0o4755, 1000, 4_000_000_000
	dash.attr.Layer = 7
	dash.attr.Mtime = Time{Sec: -1, Nsec: 999_999_999}
	dash.attr.Atime, dash.attr.Ctime = dash.attr.Mtime, dash.attr.Mtime
	t.space.Size = 1 << 40 // some layer below had more
	dash.attr.Ino = 1 << 40
	return t
}

// bigTree has n files and a directory for each 100, as packages have them.
func bigTree(n int) *fakeTree {
	t := newFakeTree()
	for i := range n {
		dir := fmt.Sprintf("package-%04d", i/100)
		if i%100 == 0 {
			t.dir(dir)
		}
		t.file(fmt.Sprintf("%s/some-file-name.%d", dir, i), fmt.Sprint(i))
	}
	return t
}

// listTree lists everything that t says, a line for each name and one for each
// attribute of its own, IDs left out: equal trees have equal lists.
func listTree(tb testing.TB, t Tree) string {
	tb.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "space %d %d\n", t.Space().Key, t.Space().Size)
	err := Walk(t, func(path string, e Entry, a *Attr) error {
		if e.Whiteout {
			fmt.Fprintf(&b, "%q whiteout\n", path)
			return nil
		}
		fmt.Fprintf(&b, "%q %06o %d:%d ino=%d nlink=%d size=%d blocks=%d mtime=%d.%09d", path,
			a.Mode, a.UID, a.GID, a.Ino, a.Nlink, a.Size, a.Blocks, a.Mtime.Sec, a.Mtime.Nsec)
		if a.Atime != a.Mtime || a.Ctime != a.Mtime || a.Mode&ModeType != e.Type {
			tb.Errorf("%q: attributes are %+v, entry is %+v", path, a, e)
		}
		if a.Rdev != 0 {
			fmt.Fprintf(&b, " rdev=%x", a.Rdev)
		}
		if a.Layer != 0 {
			fmt.Fprintf(&b, " layer=%d", a.Layer)
		}
		if a.Implicit {
			fmt.Fprintf(&b, " implicit")
		}
		b.WriteByte('\n')
		return listInode(&b, t, e)
	})
	if err != nil {
		tb.Errorf("list: %v", err)
	}
	return b.String()
}

func listInode(b *strings.Builder, t Tree, e Entry) error {
	switch e.Type {
	case ModeSymlink:
		target, err := t.Readlink(e.ID)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "  -> %q\n", target)
	case ModeRegular:
		c, err := t.Content(e.ID)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "  content %t %s %d\n", c.Known, c.Digest, c.Size)
	case ModeDir:
		opaque, err := t.Opaque(e.ID)
		if err != nil {
			return err
		}
		if opaque {
			b.WriteString("  opaque\n")
		}
	}
	xattrs, err := t.Xattrs(e.ID)
	if err != nil {
		return err
	}
	for _, name := range xattrs {
		value, err := t.Xattr(e.ID, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(b, "  xattr %q %q\n", name, value)
	}
	names, err := t.Names(e.ID)
	if err != nil {
		return err
	}
	if len(names) > 1 {
		if !slices.IsSortedFunc(names, compareNames) {
			return fmt.Errorf("names are not sorted: %v", names)
		}
		var lines []string
		for _, n := range names {
			d, err := t.Attr(n.Dir)
			if err != nil {
				return err
			}
			lines = append(lines, fmt.Sprintf("  name %q in %d\n", n.Name, d.Ino))
		}
		slices.Sort(lines) // IDs, and so the order of directories, are each Tree's own
		b.WriteString(strings.Join(lines, ""))
	}
	return nil
}

// encodeTree returns t as a tree file.
func encodeTree(tb testing.TB, t Tree) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := Write(&b, t); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// openBytes opens a tree file that is data, from a file on disk.
func openBytes(tb testing.TB, data []byte) (*File, error) {
	tb.Helper()
	path := tb.TempDir() + "/tree"
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	f, err := OpenFile(path, nil)
	if err == nil {
		tb.Cleanup(func() { _ = f.Close() })
	}
	return f, err
}

func mustOpenBytes(tb testing.TB, data []byte) *File {
	tb.Helper()
	f, err := openBytes(tb, data)
	if err != nil {
		tb.Fatal(err)
	}
	return f
}
