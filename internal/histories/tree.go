package histories

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Tree describes a tree of files, by path from the root, which is "".
type Tree map[string]Node

// Node describes one path: Line is all that must be equal.
type Node struct {
	Ino                 uint64
	Mode                uint32
	UID, GID            uint32
	Nlink               uint32
	Size                int64
	Rdev                uint64
	Atime, Mtime, Ctime Time
	Line                string
}

// Time is a point in time.
type Time struct {
	Sec  int64
	Nsec uint32
}

func (n Node) IsDir() bool     { return n.Mode&unix.S_IFMT == unix.S_IFDIR }
func (n Node) IsRegular() bool { return n.Mode&unix.S_IFMT == unix.S_IFREG }
func (n Node) IsSymlink() bool { return n.Mode&unix.S_IFMT == unix.S_IFLNK }

// Describe fills in the Line; body is the data of a file or the target of a symlink.
func (n Node) Describe(body string, xattrs map[string]string) Node {
	var b strings.Builder
	fmt.Fprintf(&b, "mode %06o owner %d:%d rdev %x", n.Mode, n.UID, n.GID, n.Rdev)
	if !n.IsDir() {
		fmt.Fprintf(&b, " nlink %d size %d body %.8x", n.Nlink, n.Size, sha256.Sum256([]byte(body)))
	}
	for _, k := range slices.Sorted(maps.Keys(xattrs)) {
		fmt.Fprintf(&b, " %s=%q", k, xattrs[k])
	}
	n.Line = b.String()
	return n
}

// nodeOf takes over what stat(2) says.
func nodeOf(st *unix.Stat_t) Node {
	n := Node{
		Ino: st.Ino, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Size: st.Size,
		Atime: timeOf(st.Atim), Mtime: timeOf(st.Mtim), Ctime: timeOf(st.Ctim),
	}
	if t := n.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
		n.Rdev = st.Rdev
	}
	return n
}

func timeOf(ts unix.Timespec) Time { return Time{ts.Sec, uint32(ts.Nsec)} }

// recently is a Sec that separates the past, which steps and lowers set, from when a
// history runs.
const recently = 1_500_000_000

// When says when it was modified; of a FIFO nothing: see the differences.
func (n Node) When() string {
	if n.Mode&unix.S_IFMT == unix.S_IFIFO {
		return ""
	}
	return n.Mtime.When()
}

// When says when a file was changed as far as that is the same in every world: the
// exact time if somebody set it, else "now".
func (t Time) When() string {
	if t.Sec > recently {
		return "now"
	}
	return fmt.Sprintf("%d.%09d", t.Sec, t.Nsec)
}

// ReadTree describes a directory of the host.
func ReadTree(root string) (Tree, error) {
	out := Tree{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		n := nodeOf(&st)
		xattrs, err := readXattrs(path)
		if err != nil {
			return &fs.PathError{Op: "xattrs", Path: path, Err: err}
		}
		var body []byte
		switch {
		case n.IsRegular():
			body, err = os.ReadFile(path)
		case n.IsSymlink():
			var target string
			target, err = os.Readlink(path)
			body = []byte(target)
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if rel == "." {
			rel = ""
		}
		out[rel] = n.Describe(string(body), xattrs)
		return err
	})
	return out, err
}

func readXattrs(path string) (map[string]string, error) {
	list := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, list)
	if err != nil || n == 0 {
		return nil, err
	}
	xattrs := map[string]string{}
	value := make([]byte, 1<<16)
	for _, name := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		k, err := unix.Lgetxattr(path, name, value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		xattrs[name] = string(value[:k])
	}
	return xattrs, nil
}

// Times says which times Compare looks at.
type Times int

const (
	NoTimes  Times = iota
	When           // of modification, as Node.When has it
	SameTime       // of modification, exactly
)

// Compare tells where two trees differ: which names there are, all that is in their
// lines, and which of them are the same inode.
func Compare(what string, want, got Tree, times Times) (wrong []string) {
	say := func(format string, a ...any) { wrong = append(wrong, what+": "+fmt.Sprintf(format, a...)) }
	shared := map[uint64]uint64{} // inode in want -> inode in got
	names := map[uint64]string{}  // inode in want -> a path
	for _, path := range slices.Sorted(maps.Keys(want)) {
		w := want[path]
		g, ok := got[path]
		switch {
		case !ok:
			say("%q is missing (want %s)", path, w.Line)
			continue
		case w.Line != g.Line:
			say("%q\n want %s\n got  %s", path, w.Line, g.Line)
		case times == SameTime && w.Mtime != g.Mtime:
			say("%q: mtime %v, want %v", path, g.Mtime, w.Mtime)
		case times == When && w.When() != g.When():
			say("%q: mtime %s, want %s", path, g.When(), w.When())
		}
		if other, ok := shared[w.Ino]; ok && other != g.Ino && !w.IsDir() {
			say("%q (%s) is no longer the same inode as %q (%s)", path, g.Line, names[w.Ino], got[names[w.Ino]].Line)
		}
		shared[w.Ino], names[w.Ino] = g.Ino, path
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			say("%q is too much: %s", path, got[path].Line)
		}
	}
	return wrong
}

// CompareInodes wants every path to have the inode number that it had.
func CompareInodes(what string, want, got Tree) (wrong []string) {
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if w, g := want[path], got[path]; w.Ino != g.Ino {
			wrong = append(wrong, fmt.Sprintf("%s: %q was inode %d and is %d", what, path, w.Ino, g.Ino))
		}
	}
	return wrong
}

// CheckInodes wants names with one number to be equal in everything.
func CheckInodes(what string, t Tree) (wrong []string) {
	first := map[uint64]string{}
	for _, path := range slices.Sorted(maps.Keys(t)) {
		n := t[path]
		if other, ok := first[n.Ino]; ok && t[other].Line != n.Line {
			wrong = append(wrong, fmt.Sprintf("%s: %q and %q are both inode %d and differ:\n%s\n%s", what, path, other, n.Ino, t[other].Line, n.Line))
		}
		first[n.Ino] = path
	}
	return wrong
}

// CheckLinks wants each file to have as many names as it says.
func CheckLinks(what string, t Tree) (wrong []string) {
	count := map[uint64]int{}
	for _, n := range t {
		count[n.Ino]++
	}
	for _, path := range slices.Sorted(maps.Keys(t)) {
		if n := t[path]; !n.IsDir() && int(n.Nlink) != count[n.Ino] {
			wrong = append(wrong, fmt.Sprintf("%s: %q has nlink %d and %d names", what, path, n.Nlink, count[n.Ino]))
		}
	}
	return wrong
}

// WithoutNlink leaves out how many names a file has: of one that was not copied up
// overlayfs, and a lower of plain directories, count those that are hidden, too.
func (t Tree) WithoutNlink() Tree {
	out := Tree{}
	for path, n := range t {
		before, rest, ok := strings.Cut(n.Line, " nlink ")
		if ok {
			_, after, _ := strings.Cut(rest, " ")
			n.Line = before + " " + after
		}
		out[path] = n
	}
	return out
}
