package tree

import (
	"bytes"
	"io"
	"slices"
	"strings"
)

// What says in what two inodes of one path differ: a set.
type What uint16

const (
	KindDiffers    What = 1 << iota // of another type altogether; nothing else is compared
	ContentDiffers                  // bytes of a file, target of a symlink, number of a device
	ModeDiffers
	OwnerDiffers
	TimeDiffers // of modification
	XattrDiffers
)

// Difference is a path at which one tree differs from another.
type Difference struct {
	Path     string // relative to the root
	Old, New ID     // None where there is none
	Was, Is  Attr   // valid if there is one
	What     What   // if there are both; nothing for a directory that has differences below
}

// CompareOptions say how trees are compared; the zero value is fully.
type CompareOptions struct {
	// Same tells that two inodes are known to be equal, with all that is below. May
	// be nil.
	Same func(was, is *Attr) bool

	// Quick is for those who want to know whether inodes differ, and not in what:
	// What is whatever was found first.
	Quick bool
}

// Compare lists the paths, parents first, at which tree is differs from tree was.
// Neither has whiteouts. A directory differs if its attributes do, or anything in it;
// what is below a directory that is gone or was replaced is not listed, and what is
// below one that has come is. The root is not listed.
func Compare(was, is Tree, o CompareOptions) ([]Difference, error) {
	c := comparer{was: was, is: is, o: o}
	return c.dir("", Root, Root)
}

// comparer walks two trees side by side.
type comparer struct {
	was, is Tree
	o       CompareOptions
}

// dir compares directory is with directory was, None if there was none.
func (c *comparer) dir(path string, was, is ID) ([]Difference, error) {
	now, err := ReadDirAll(c.is, is)
	if err != nil {
		return nil, err
	}
	var before []Entry
	if was != None {
		if before, err = ReadDirAll(c.was, was); err != nil {
			return nil, err
		}
	}
	var list []Difference
	for len(now) > 0 || len(before) > 0 { // both are sorted by name
		var old, e Entry
		if len(now) == 0 || len(before) > 0 && before[0].Name <= now[0].Name {
			old, before = before[0], before[1:]
		}
		if len(now) > 0 && (old.ID == None || old.Name == now[0].Name) {
			e, now = now[0], now[1:]
		}
		below, err := c.entry(path, old, e)
		if err != nil {
			return nil, err
		}
		list = append(list, below...)
	}
	return list, nil
}

// entry compares one name in directory dir; of old and e one may have ID None.
func (c *comparer) entry(dir string, old, e Entry) (list []Difference, err error) {
	d := Difference{Path: strings.TrimPrefix(dir+"/"+old.Name, "/"), Old: old.ID, New: e.ID}
	if e.ID != None {
		d.Path = strings.TrimPrefix(dir+"/"+e.Name, "/")
		if d.Is, err = c.is.Attr(e.ID); err != nil {
			return nil, err
		}
	}
	if old.ID != None {
		if d.Was, err = c.was.Attr(old.ID); err != nil || e.ID == None {
			return []Difference{d}, err
		}
		if c.o.Same != nil && c.o.Same(&d.Was, &d.Is) {
			return nil, nil
		}
	}
	var below []Difference
	if d.Is.IsDir() {
		low := None
		if old.Type == ModeDir {
			low = old.ID
		}
		if below, err = c.dir(d.Path, low, e.ID); err != nil {
			return nil, err
		}
	}
	if old.ID != None && !(c.o.Quick && len(below) > 0) {
		if d.What, err = c.what(&d); err != nil || d.What == 0 && len(below) == 0 {
			return nil, err
		}
	}
	return append([]Difference{d}, below...), nil
}

// what compares two inodes, the cheapest first.
func (c *comparer) what(d *Difference) (What, error) {
	was, is := &d.Was, &d.Is
	if was.Mode&ModeType != is.Mode&ModeType {
		return KindDiffers, nil
	}
	var what What
	for _, check := range []struct {
		what    What
		differs bool
	}{
		{ModeDiffers, was.Mode != is.Mode},
		{OwnerDiffers, was.UID != is.UID || was.GID != is.GID},
		{TimeDiffers, was.Mtime != is.Mtime},
		{ContentDiffers, was.Rdev != is.Rdev || !is.IsDir() && was.Size != is.Size},
	} {
		if check.differs {
			what |= check.what
		}
	}
	for _, check := range []struct {
		what What
		same func(was, is ID) (bool, error)
	}{{XattrDiffers, c.sameXattrs}, {ContentDiffers, c.sameContent}} {
		if what&check.what != 0 || c.o.Quick && what != 0 {
			continue
		}
		same, err := check.same(d.Old, d.New)
		if err != nil {
			return 0, err
		}
		if !same {
			what |= check.what
		}
	}
	return what, nil
}

func (c *comparer) sameXattrs(was, is ID) (bool, error) {
	before, err := c.was.Xattrs(was)
	if err != nil {
		return false, err
	}
	now, err := c.is.Xattrs(is)
	if err != nil || !slices.Equal(before, now) {
		return false, err
	}
	for _, name := range before {
		v, err := c.was.Xattr(was, name)
		if err != nil {
			return false, err
		}
		w, err := c.is.Xattr(is, name)
		if err != nil || !bytes.Equal(v, w) {
			return false, err
		}
	}
	return true, nil
}

func (c *comparer) sameContent(was, is ID) (bool, error) {
	a, err := c.is.Attr(is)
	switch {
	case err != nil:
		return false, err
	case a.IsSymlink():
		before, err := c.was.Readlink(was)
		if err != nil {
			return false, err
		}
		now, err := c.is.Readlink(is)
		return before == now, err
	case !a.IsRegular():
		return true, nil
	}
	before, err := c.was.Content(was)
	if err != nil {
		return false, err
	}
	now, err := c.is.Content(is)
	if err != nil || before.Known && now.Known {
		return before.Digest == now.Digest, err
	}
	return c.sameBytes(was, is)
}

func (c *comparer) sameBytes(was, is ID) (bool, error) {
	before, err := c.was.Open(was)
	if err != nil {
		return false, err
	}
	defer before.Close()
	now, err := c.is.Open(is)
	if err != nil {
		return false, err
	}
	defer now.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(before, a)
		m, err2 := io.ReadFull(now, b)
		if n != m || !bytes.Equal(a[:n], b[:m]) {
			return false, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return err == err2, nil
		}
		if err != nil {
			return false, err
		}
		if err2 != nil {
			return false, err2
		}
	}
}
