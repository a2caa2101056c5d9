package tree

import (
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
