package tree

import (
	"fmt"
	"syscall"
)

// MaxDepth is how deep a directory may lie below the root: twice as deep as
// any path that Linux takes can name. It keeps a walk finite on a Tree whose
// directories contain each other.
const MaxDepth = 4096

var errTooDeep = fmt.Errorf("more than %d directories deep: %w", MaxDepth, syscall.ELOOP)

// Walk calls fn for everything in t, whiteouts included: a directory before
// what is in it, the names of one directory in the order of their bytes. path
// is slash-separated and relative to the root, which is "" and comes first. a
// is nil for a whiteout, and must not be kept after fn returns. Walk ends with
// the first error, its own or fn's, which it returns as it is.
//
// A hard link is met once for each of its names.
func Walk(t Tree, fn func(path string, e Entry, a *Attr) error) error {
	a, err := t.Attr(Root)
	if err != nil {
		return fmt.Errorf("walk /: %w", err)
	}
	if err := fn("", Entry{ID: Root, Type: ModeDir}, &a); err != nil {
		return err
	}
	var dirs walkDirs
	dirs.push(Root, "")
	for len(dirs) > 0 {
		d := &dirs[len(dirs)-1]
		e, ok, err := d.next(t)
		if err != nil {
			return fmt.Errorf("walk /%s: %w", d.path, err)
		}
		if !ok {
			dirs = dirs[:len(dirs)-1]
			continue
		}
		path := joinPath(d.path, e.Name)
		if e.Whiteout {
			if err := fn(path, e, nil); err != nil {
				return err
			}
			continue
		}
		if a, err = t.Attr(e.ID); err != nil {
			return fmt.Errorf("walk /%s: %w", path, err)
		}
		if err := fn(path, e, &a); err != nil {
			return err
		}
		if e.Type != ModeDir {
			continue
		}
		if len(dirs) > MaxDepth {
			return fmt.Errorf("walk /%s: %w", path, errTooDeep)
		}
		dirs.push(e.ID, path)
	}
	return nil
}

// walkDirs are the directories from the root to where a walk is.
type walkDirs []walkDir

// walkDir is a directory that is being read, a piece at a time.
type walkDir struct {
	id      ID
	path    string
	read    int     // how many entries were read
	entries []Entry // of those, the ones to come
	last    bool    // whether no more are to be read
	piece   []Entry // what entries is a part of
}

func (w *walkDirs) push(id ID, path string) {
	const pieceLen = 64
	n := len(*w)
	if n == cap(*w) {
		*w = append(*w, walkDir{})
	} else {
		*w = (*w)[:n+1] // a directory that was left, whose piece is used again
	}
	d := &(*w)[n]
	if d.piece == nil {
		d.piece = make([]Entry, pieceLen)
	}
	*d = walkDir{id: id, path: path, piece: d.piece}
}

func (d *walkDir) next(t Tree) (e Entry, ok bool, err error) {
	if len(d.entries) == 0 && !d.last {
		n, err := t.ReadDir(d.id, d.read, d.piece)
		if err != nil {
			return Entry{}, false, err
		}
		d.entries = d.piece[:n]
		d.read += n
		d.last = n < len(d.piece)
	}
	if len(d.entries) == 0 {
		return Entry{}, false, nil
	}
	e = d.entries[0]
	d.entries = d.entries[1:]
	return e, true, nil
}

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
