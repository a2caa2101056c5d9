package tree

import (
	"os"
	"path"
	"slices"
	"strings"
)

// Between makes the layer that lies between two trees: laid over lower it shows what
// merged shows. Neither has whiteouts. It holds what differs and nothing else:
// directories in which only something else differs are implicit. Contents that merged
// knows the digest of are opened through objects.
func Between(lower, merged Tree, objects Objects) (*Builder, error) {
	differences, err := Compare(lower, merged, CompareOptions{})
	if err != nil {
		return nil, err
	}
	w := between{lower: lower, merged: merged, b: NewBuilder(objects), first: map[ID]string{}, differs: map[string]bool{}, added: map[string]bool{}}
	if err := w.root(); err != nil {
		return nil, err
	}
	for i := range differences {
		w.differs[differences[i].Path] = true
		if err := w.add(&differences[i]); err != nil {
			return nil, err
		}
	}
	if err := w.otherNames(); err != nil {
		return nil, err
	}
	return w.b, w.b.Finish()
}

type between struct {
	lower, merged Tree
	b             *Builder
	first         map[ID]string   // of merged's inodes that were added: a path
	differs       map[string]bool // paths
	added         map[string]bool // paths of what is no directory
}

func (w *between) root() error {
	was, err := w.lower.Attr(Root)
	if err != nil {
		return err
	}
	is, err := w.merged.Attr(Root)
	if err != nil {
		return err
	}
	c := comparer{was: w.lower, is: w.merged}
	what, err := c.what(&Difference{Old: Root, New: Root, Was: was, Is: is})
	if err != nil || what == 0 {
		return err
	}
	meta, err := MetaOf(w.merged, Root, &is)
	if err != nil {
		return err
	}
	return w.b.AddDir("", meta)
}

// add adds what differs at one path.
func (w *between) add(d *Difference) error {
	switch {
	case d.New == None:
		return w.b.AddWhiteout(d.Path)
	case !d.Is.IsDir():
		return w.name(d.Path, d.New, &d.Is)
	case d.Old != None && d.What == 0:
		return nil
	}
	meta, err := MetaOf(w.merged, d.New, &d.Is)
	if err != nil {
		return err
	}
	return w.b.AddDir(d.Path, meta)
}

// name adds a name of what is no directory.
func (w *between) name(path string, id ID, a *Attr) error {
	w.added[path] = true
	if first, ok := w.first[id]; ok {
		return w.b.AddLink(path, first)
	}
	w.first[id] = path
	meta, err := MetaOf(w.merged, id, a)
	if err != nil {
		return err
	}
	switch a.Mode & ModeType {
	case ModeRegular:
		c, err := w.merged.Content(id)
		if err != nil {
			return err
		}
		if c.Known {
			return w.b.AddFile(path, meta, c.Digest, c.Size)
		}
		return w.b.AddContent(path, meta, a.Size, func() (*os.File, error) { return w.merged.Open(id) })
	case ModeSymlink:
		target, err := w.merged.Readlink(id)
		if err != nil {
			return err
		}
		return w.b.AddSymlink(path, meta, target)
	}
	return w.b.AddSpecial(path, meta, a.Mode&ModeType, a.Rdev)
}

// otherNames adds names at which nothing differs but which inode they name: one
// inode cannot be in two layers, nor two be one.
func (w *between) otherNames() error {
	before, err := linkedPaths(w.lower)
	if err != nil {
		return err
	}
	now, err := linkedPaths(w.merged)
	if err != nil {
		return err
	}
	var again []string // paths of inodes that must be in this layer whole
	for id, paths := range now.of {
		if w.mustHave(id, paths, before, now) {
			again = append(again, paths...)
		}
	}
	for name := range before.at { // what had other names, and has none
		if now.at[name] != None || w.differs[name] {
			continue
		}
		id, err := Resolve(w.merged, name)
		if err != nil {
			if w.goneWith(name) {
				continue
			}
			return err
		}
		if w.mustHave(id, []string{name}, before, now) {
			again = append(again, name)
		}
	}
	slices.Sort(again)
	for _, name := range again {
		if w.added[name] {
			continue
		}
		id, err := Resolve(w.merged, name)
		if err != nil {
			return err
		}
		a, err := w.merged.Attr(id)
		if err != nil {
			return err
		}
		if err := w.name(name, id, &a); err != nil {
			return err
		}
	}
	return nil
}

// goneWith tells whether a path went with a directory above it.
func (w *between) goneWith(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if w.differs[dir] {
			return true
		}
	}
	return false
}

// mustHave tells whether the names of an inode, which has those paths in merged,
// would be of another inode, or of several, if the layer had only what differs.
func (w *between) mustHave(id ID, paths []string, before, now linked) bool {
	was := before.at[paths[0]]
	if was == None {
		if len(paths) == 1 {
			return false
		}
	}
	for _, p := range paths {
		if w.differs[p] || before.at[p] != was || was == None {
			return true
		}
	}
	for _, p := range before.of[was] {
		if slices.Contains(paths, p) || w.differs[p] || w.goneWith(p) {
			continue
		}
		return true // it is another inode now
	}
	return false
}

// linked are the paths of a tree's inodes with several names.
type linked struct {
	at map[string]ID
	of map[ID][]string
}

func linkedPaths(t Tree) (linked, error) {
	l := linked{map[string]ID{}, map[ID][]string{}}
	err := Walk(t, func(path string, e Entry, a *Attr) error {
		if !a.IsDir() && a.Nlink > 1 {
			l.at[strings.Clone(path)] = e.ID
			l.of[e.ID] = append(l.of[e.ID], path)
		}
		return nil
	})
	return l, err
}
