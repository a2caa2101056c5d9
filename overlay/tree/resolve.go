package tree

import (
	"path"
	"strings"
	"syscall"
)

// Resolve follows a slash-separated path from the root, as plain names: no
// symlink is followed, "." and empty parts are skipped, ".." is EINVAL. ENOENT if
// a part does not exist or is whited out, ENOTDIR if one in the middle is no
// directory.
func Resolve(t Tree, path string) (ID, error) {
	id := Root
	for part := range strings.SplitSeq(path, "/") {
		switch part {
		case "", ".":
			continue
		case "..":
			return None, syscall.EINVAL
		}
		e, err := t.Lookup(id, part)
		if err != nil {
			return None, err
		}
		if e.Whiteout {
			return None, syscall.ENOENT
		}
		id = e.ID
	}
	return id, nil
}

// maxLinks is how many symlinks lead to one place, as for the kernel.
const maxLinks = 40

// Follow is Resolve as programs do it whose root is the Tree's: symlinks on the way
// are followed, and with last one at the end, too; ".." of the root is the root. It
// also tells the path that was arrived at, without symlinks, from the root; if only
// the last name does not exist (ENOENT, and ID None), then as well.
func Follow(t Tree, name string, last bool) (id ID, at string, err error) {
	id, at = Root, "/"
	rest := name
	if strings.HasSuffix(name, "/") {
		last = true
	}
	for links := 0; ; {
		var part string
		part, rest, _ = strings.Cut(strings.TrimLeft(rest, "/"), "/")
		switch part {
		case "":
			return id, at, nil
		case ".":
			continue
		case "..":
			at = path.Dir(at)
			if id, err = Resolve(t, at); err != nil {
				return None, at, err
			}
			continue
		}
		e, err := t.Lookup(id, part)
		if err == nil && e.Whiteout {
			err = syscall.ENOENT
		}
		if err != nil {
			at = path.Join(at, part)
			if strings.Trim(rest, "/") != "" {
				at = "" // and what is beyond
			}
			return None, at, err
		}
		if e.Type != ModeSymlink || strings.Trim(rest, "/") == "" && !last {
			id, at = e.ID, path.Join(at, part)
			continue
		}
		if links++; links > maxLinks {
			return None, "", syscall.ELOOP
		}
		target, err := t.Readlink(e.ID)
		if err != nil {
			return None, "", err
		}
		if path.IsAbs(target) {
			id, at = Root, "/"
		}
		rest = target + "/" + rest
	}
}

// ReadDirAll returns all entries of a directory.
func ReadDirAll(t Tree, dir ID) ([]Entry, error) {
	var all []Entry
	for batch := make([]Entry, 64); ; {
		n, err := t.ReadDir(dir, len(all), batch)
		if err != nil {
			return nil, err
		}
		all = append(all, batch[:n]...)
		if n < len(batch) {
			return all, nil
		}
	}
}
