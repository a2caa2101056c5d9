package tree

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// The naive side: a layer and a stack as maps from path to what is there. It
// is slow and plain, and shares nothing with the code that it checks.

// failer is a *testing.T or a *rapid.T, which shrinks what failed.
type failer interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// layerOp is one entry of a layer, as a tar would have it.
type layerOp struct {
	do     string // dir file symlink fifo device link whiteout opaque
	path   string
	target string // of symlink and link; contents of file
	n      int    // makes attributes differ
}

func (o layerOp) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", o.do, o.path, o.target))
}

func (o layerOp) meta() Meta {
	m := Meta{
		Mode: uint32(0o700 + o.n%0o100), UID: uint32(o.n % 7), GID: uint32(o.n % 5),
		Mtime: Time{Sec: int64(1_000_000 + o.n), Nsec: uint32(o.n)},
	}
	if o.do == "symlink" {
		m.Mode = 0o777 // Linux knows no other
	}
	if o.n%3 == 0 && (o.do == "dir" || o.do == "file") {
		m.Xattrs = []Xattr{{"user.n", fmt.Append(nil, o.n)}}
	}
	return m
}

// apply runs o on b.
func (o layerOp) apply(b *Builder) error {
	switch o.do {
	case "dir":
		return b.AddDir(o.path, o.meta())
	case "file":
		return b.AddFile(o.path, o.meta(), sha256.Sum256([]byte(o.target)), int64(len(o.target)))
	case "symlink":
		return b.AddSymlink(o.path, o.meta(), o.target)
	case "fifo":
		return b.AddSpecial(o.path, o.meta(), ModeFIFO, 0)
	case "device":
		return b.AddSpecial(o.path, o.meta(), ModeChar, unix.Mkdev(uint32(o.n), 1))
	case "link":
		return b.AddLink(o.path, o.target)
	case "whiteout":
		return b.AddWhiteout(o.path)
	case "opaque":
		return b.AddOpaque(o.path)
	}
	panic("no such operation: " + o.do)
}

// modelInode is an inode; hard links share it.
type modelInode struct {
	op       layerOp
	mode     uint32
	ino      uint64
	layer    int
	implicit bool
	opaque   bool
	plain    bool // not implicit, but has the attributes of implicit directories
}

func (i *modelInode) isDir() bool { return i.mode == ModeDir }

type modelLayer struct {
	files     map[string]*modelInode
	whiteouts map[string]bool
}

func newModelLayer() *modelLayer {
	return &modelLayer{
		files:     map[string]*modelInode{"": {mode: ModeDir, implicit: true}},
		whiteouts: map[string]bool{},
	}
}

func dirOf(p string) string {
	i := strings.LastIndexByte(p, '/')
	return p[:max(i, 0)]
}

// apply tells whether o is possible, and does it.
func (l *modelLayer) apply(o layerOp) bool {
	var linked *modelInode
	if o.do == "link" {
		if linked = l.files[o.target]; linked == nil || linked.isDir() {
			return false
		}
	}
	if o.path != "" && !l.implicit(dirOf(o.path)) {
		return false
	}
	if o.path == "" && o.do != "dir" && o.do != "opaque" {
		return false
	}
	old := l.files[o.path]
	switch o.do {
	case "whiteout":
		l.whiteouts[o.path] = true
		return true
	case "opaque":
		if !l.implicit(o.path) {
			return false
		}
		l.files[o.path].opaque = true
		return true
	case "dir":
		if old != nil && old.isDir() {
			old.op, old.implicit = o, false
			return true
		}
		l.put(o.path, &modelInode{op: o, mode: ModeDir})
	case "link":
		l.put(o.path, linked)
	default:
		kinds := map[string]uint32{"file": ModeRegular, "symlink": ModeSymlink, "fifo": ModeFIFO, "device": ModeChar}
		l.put(o.path, &modelInode{op: o, mode: kinds[o.do]})
	}
	return true
}

func (l *modelLayer) implicit(dir string) bool {
	if f := l.files[dir]; f != nil {
		return f.isDir()
	}
	if !l.implicit(dirOf(dir)) {
		return false
	}
	l.files[dir] = &modelInode{mode: ModeDir, implicit: true}
	return true
}

func (l *modelLayer) put(p string, i *modelInode) {
	below := func(q string) bool { return strings.HasPrefix(q, p+"/") }
	maps.DeleteFunc(l.files, func(q string, _ *modelInode) bool { return below(q) })
	maps.DeleteFunc(l.whiteouts, func(q string, _ bool) bool { return below(q) })
	l.files[p] = i
}

// walkOrder sorts paths as a walk meets them: a directory, what is in it, its
// sibling.
func walkOrder(a, b string) int {
	return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
}

func (l *modelLayer) finish() {
	for p := range l.whiteouts {
		if f := l.files[p]; f != nil {
			delete(l.whiteouts, p)
			if f.isDir() {
				f.plain = f.implicit
				f.opaque, f.implicit = true, false
			}
		}
	}
	n := uint64(0)
	for _, p := range slices.SortedFunc(maps.Keys(l.files), walkOrder) {
		if f := l.files[p]; f.ino == 0 {
			n++
			f.ino = n
		}
	}
}

// mergeModel lays layers, base first, over each other.
func mergeModel(layers []*modelLayer) map[string]modelInode {
	type view struct {
		attr *modelInode
		ino  uint64
	}
	merged := map[string]view{}
	remove := func(p string) {
		maps.DeleteFunc(merged, func(q string, _ view) bool { return p == "" && q != "" || p != "" && strings.HasPrefix(q, p+"/") })
	}
	base := uint64(0)
	for i, l := range layers {
		for p := range l.whiteouts {
			remove(p)
			delete(merged, p)
		}
		for _, p := range slices.SortedFunc(maps.Keys(l.files), walkOrder) {
			f := l.files[p]
			f.layer = i
			old, ok := merged[p]
			if !f.isDir() || !ok || !old.attr.isDir() {
				remove(p)
				merged[p] = view{f, base + f.ino}
				continue
			}
			if f.opaque {
				remove(p)
				old.ino = base + f.ino
			}
			if !f.implicit || old.attr.implicit {
				old.attr = f
			}
			merged[p] = old
		}
		inodes := map[*modelInode]bool{}
		for _, f := range l.files {
			inodes[f] = true
		}
		base += uint64(len(inodes))
	}
	out := map[string]modelInode{}
	for p, v := range merged {
		f := *v.attr
		f.ino = v.ino
		out[p] = f
	}
	if len(layers) == 0 {
		out[""] = modelInode{mode: ModeDir, implicit: true, ino: 1}
	}
	return out
}

// describe gives a line for everything that a stack must show.
func describeModel(merged map[string]modelInode) []string {
	links := map[uint64]uint32{}
	subdirs := map[string]uint32{}
	for p, f := range merged {
		if f.isDir() && p != "" {
			subdirs[dirOf(p)]++
		}
		links[f.ino]++
	}
	var lines []string
	for p, f := range merged {
		m := Meta{Mode: 0o755}
		if !f.implicit && !f.plain {
			m = f.op.meta()
		}
		a := Attr{
			Ino: f.ino, Mode: f.mode | m.Mode, UID: m.UID, GID: m.GID, Nlink: links[f.ino],
			Atime: m.Mtime, Mtime: m.Mtime, Ctime: m.Mtime, Xattrs: m.Xattrs != nil, Layer: uint32(f.layer),
		}
		data := f.op.target
		switch f.mode {
		case ModeDir:
			a.Nlink = 2 + subdirs[p]
			data = ""
		case ModeRegular:
			a.Size = int64(len(data))
			a.Blocks = uint64(8 * min(len(data), 1))
			data = fmt.Sprintf("%x", sha256.Sum256([]byte(data)))
		case ModeSymlink:
			a.Size = int64(len(data))
		case ModeChar:
			a.Rdev = unix.Mkdev(uint32(f.op.n), 1)
		}
		lines = append(lines, describeLine(p, a, data, m.Xattrs))
	}
	slices.Sort(lines)
	return lines
}

func describeLine(p string, a Attr, data string, xattrs []Xattr) string {
	line := fmt.Sprintf("/%s %+v %s", p, a, data)
	for _, x := range xattrs {
		line += fmt.Sprintf(" %s=%s", x.Name, x.Value)
	}
	return line
}

// describeTree is describeModel for a Tree, with all methods of it used and
// held against each other.
func describeTree(t failer, tr Tree) []string {
	t.Helper()
	check := func(what string, err error) {
		if err != nil {
			t.Helper()
			t.Fatalf("%s: %v", what, err)
		}
	}
	var lines []string
	names := map[ID][]Name{}
	err := Walk(tr, func(p string, e Entry, a *Attr) error {
		if e.Whiteout {
			t.Fatalf("/%s is a whiteout", p)
		}
		if a.Mode&ModeType != e.Type {
			t.Fatalf("/%s: entry has type %o, inode %o", p, e.Type, a.Mode)
		}
		data := ""
		var err error
		switch e.Type {
		case ModeSymlink:
			data, err = tr.Readlink(e.ID)
		case ModeRegular:
			var c Content
			c, err = tr.Content(e.ID)
			data = c.Digest.String()
		case ModeDir:
			opaque, err := tr.Opaque(e.ID)
			if opaque || err != nil {
				t.Fatalf("/%s: opaque %v, %v", p, opaque, err)
			}
		}
		check(p, err)
		if p != "" {
			parent, err := findPath(tr, dirOf(p))
			check(p, err)
			names[e.ID] = append(names[e.ID], Name{parent.ID, e.Name})
			again, err := tr.Lookup(parent.ID, e.Name)
			if err != nil || again != e {
				t.Fatalf("/%s: ReadDir gives %v, Lookup %v, %v", p, e, again, err)
			}
			if e.Type == ModeDir {
				up, err := tr.Parent(e.ID)
				if err != nil || up != parent.ID {
					t.Fatalf("parent of /%s: %d, %v, want %d", p, up, err, parent.ID)
				}
			}
		}
		var xattrs []Xattr
		xnames, err := tr.Xattrs(e.ID)
		check(p, err)
		for _, x := range xnames {
			v, err := tr.Xattr(e.ID, x)
			check(p, err)
			xattrs = append(xattrs, Xattr{x, v})
		}
		lines = append(lines, describeLine(p, *a, data, xattrs))
		return nil
	})
	check("walk", err)
	for id, want := range names {
		got, err := tr.Names(id)
		check("Names", err)
		slices.SortFunc(want, func(a, b Name) int {
			if a.Dir != b.Dir {
				return int(a.Dir) - int(b.Dir)
			}
			return strings.Compare(a.Name, b.Name)
		})
		if !slices.Equal(got, want) {
			t.Fatalf("Names(%d): %v, want %v", id, got, want)
		}
	}
	slices.Sort(lines)
	return lines
}

func findPath(tr Tree, p string) (Entry, error) {
	e := Entry{ID: Root, Type: ModeDir}
	if p == "" {
		return e, nil
	}
	for name := range strings.SplitSeq(p, "/") {
		var err error
		if e, err = tr.Lookup(e.ID, name); err != nil {
			return e, err
		}
	}
	return e, nil
}

// drawLayer draws the entries of a layer over few names, so that they clash.
// With parents, each directory has an entry before what is in it.
func drawLayer(t *rapid.T, number int, parents bool) []layerOp {
	name := rapid.SampledFrom([]string{"a", "b", "c", "a-"})
	var known []string
	drawPath := func() string {
		if len(known) > 0 && rapid.IntRange(0, 3).Draw(t, "known") == 0 {
			return rapid.SampledFrom(known).Draw(t, "path")
		}
		return strings.Join(rapid.SliceOfN(name, 1, 3).Draw(t, "names"), "/")
	}
	m := newModelLayer()
	var ops []layerOp
	do := func(o layerOp) {
		o.n = number*100 + len(ops) + 1
		if m.apply(o) || !parents {
			ops = append(ops, o)
			known = append(known, o.path)
		}
	}
	if parents {
		do(layerOp{do: "dir"})
	}
	kind := rapid.SampledFrom([]string{"dir", "dir", "file", "file", "symlink", "fifo", "device", "link", "link", "whiteout", "whiteout", "opaque"})
	for range rapid.IntRange(0, 12).Draw(t, "entries") {
		o := layerOp{do: kind.Draw(t, "do"), path: drawPath()}
		switch o.do {
		case "file", "symlink":
			o.target = rapid.SampledFrom([]string{"x", "yy", "zzz"}).Draw(t, "target")
		case "link":
			o.target = drawPath()
		case "opaque":
			if !parents && rapid.IntRange(0, 9).Draw(t, "root") == 0 {
				o.path = ""
			} else if parents && o.path == "" {
				continue // overlayfs knows no opaque root
			}
		}
		if parents {
			missing := dirOf(o.path)
			if o.do == "opaque" {
				missing = o.path
			}
			var add []string
			for ; m.files[missing] == nil; missing = dirOf(missing) {
				add = append(add, missing)
			}
			if !m.files[missing].isDir() {
				continue
			}
			for _, p := range slices.Backward(add) {
				do(layerOp{do: "dir", path: p})
			}
		}
		do(o)
	}
	return ops
}

// build makes both sides of a layer, and holds their errors against each other.
func build(t failer, ops []layerOp) (*Builder, *modelLayer) {
	t.Helper()
	b, m := NewBuilder(nil), newModelLayer()
	for _, o := range ops {
		err := o.apply(b)
		if possible := m.apply(o); possible != (err == nil) {
			t.Fatalf("%v: %v, but the model says possible=%v", o, err, possible)
		}
	}
	if err := b.Finish(); err != nil {
		t.Fatal(err)
	}
	m.finish()
	return b, m
}

func diffLines(got, want []string) string {
	var b strings.Builder
	for _, l := range want {
		if !slices.Contains(got, l) {
			b.WriteString("\n  missing:    " + l)
		}
	}
	for _, l := range got {
		if !slices.Contains(want, l) {
			b.WriteString("\n  unexpected: " + l)
		}
	}
	if b.Len() == 0 && len(got) != len(want) {
		fmt.Fprintf(&b, "\n  %d lines, want %d", len(got), len(want))
	}
	return b.String()
}
