package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"strata/internal/need"
)

// seenTree is what a program sees of a directory, by path; "." is the
// directory itself.
type seenTree map[string]seenNode

// seenNode is what system calls say of one path. What was refused stands in
// Refused, and its field is empty.
type seenNode struct {
	Mode     uint32
	UID, GID uint32
	Nlink    uint64
	Rdev     uint64
	Size     int64 // 0 for directories: it is the filesystem's own business
	Mtime    string
	Data     bool              // whether any blocks are allocated
	Same     string            // the first path, in sorted order, with the same inode
	Dino     bool              // whether d_ino is st_ino
	Target   string            `json:",omitempty"`
	Xattrs   map[string]string `json:",omitempty"`
	SHA256   string            `json:",omitempty"`
	Refused  string            `json:",omitempty"`
}

func (n *seenNode) isDir() bool { return n.Mode&unix.S_IFMT == unix.S_IFDIR }

// walkTreeOf names the directory that this program is to walk instead of
// testing, so that it can do so as another user.
const walkTreeOf = "STRATA_TEST_WALKTREE"

func init() {
	if dir := os.Getenv(walkTreeOf); dir != "" {
		walkTreeMain(dir)
		os.Exit(0)
	}
}

// walkTreeMain writes a seenTree as JSON.
func walkTreeMain(dir string) {
	w := treeWalk{seen: seenTree{}, first: map[[2]uint64]string{}}
	err := os.Chdir(dir)
	if err == nil {
		err = w.walk(".", 0)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(w.seen)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "walktree:", err)
		os.Exit(1)
	}
}

type treeWalk struct {
	seen  seenTree
	first map[[2]uint64]string
}

// walk looks at name, which its directory has under inode number dino. It calls
// the kernel without the help of packages that smooth over what is wrong.
func (w *treeWalk) walk(name string, dino uint64) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: name, Err: err}
	}
	n := seenNode{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: st.Nlink, Rdev: st.Rdev, Size: st.Size,
		Mtime: fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec),
		Data:  st.Blocks != 0, Same: name, Dino: name == "." || dino == st.Ino,
	}
	id := [2]uint64{st.Dev, st.Ino}
	if first, ok := w.first[id]; ok {
		n.Same = first
	} else {
		w.first[id] = name
	}
	var refused []string
	allow := func(op string, err error) error {
		if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			refused = append(refused, op)
			return nil
		}
		if err != nil {
			return &os.PathError{Op: op, Path: name, Err: err}
		}
		return nil
	}
	var err error
	n.Xattrs, err = xattrsOf(name)
	if err := allow("xattrs", err); err != nil {
		return err
	}
	var entries []dirent
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		n.Size, n.Data = 0, false
		entries, err = direntsOf(name)
		err = allow("readdir", err)
	case unix.S_IFREG:
		n.SHA256, err = sha256Of(name)
		err = allow("read", err)
	case unix.S_IFLNK:
		n.Data = false // short targets may stand in the inode
		n.Target, err = os.Readlink(name)
		err = allow("readlink", err)
	}
	if err != nil {
		return err
	}
	n.Refused = strings.Join(refused, " ")
	w.seen[name] = n
	for _, e := range entries {
		err := w.walk(path.Join(name, e.name), e.ino)
		if err := allow("lookup", err); err != nil { // a directory that may be read and not searched
			return err
		}
	}
	return nil
}

func xattrsOf(name string) (map[string]string, error) {
	var list [1 << 16]byte
	n, err := unix.Llistxattr(name, list[:])
	if err != nil || n == 0 {
		return nil, err
	}
	values := map[string]string{}
	for _, x := range strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		var value [1 << 16]byte
		n, err := unix.Lgetxattr(name, x, value[:])
		if err != nil {
			return nil, err
		}
		values[x] = string(value[:n])
	}
	return values, nil
}

func sha256Of(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

type dirent struct {
	name string
	ino  uint64
}

// direntsOf reads a directory with getdents64(2), sorted.
func direntsOf(name string) ([]dirent, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var all []dirent
	var buf [1 << 16]byte
	for {
		n, err := unix.Getdents(fd, buf[:])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		for at := 0; at < n; {
			d := (*unix.Dirent)(unsafe.Pointer(&buf[at]))
			raw := buf[at+int(unsafe.Offsetof(d.Name)) : at+int(d.Reclen)]
			if i := bytes.IndexByte(raw, 0); i >= 0 {
				raw = raw[:i]
			}
			if e := string(raw); e != "." && e != ".." {
				all = append(all, dirent{e, d.Ino})
			}
			at += int(d.Reclen)
		}
	}
	slices.SortFunc(all, func(a, b dirent) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// walkAs walks dir as a user, who must be able to run program: a copy of this
// one.
func walkAs(t *testing.T, program string, uid uint32, dir string) seenTree {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), walkTreeOf+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("walk %s as user %d: %v: %s", dir, uid, err, stderr.String())
	}
	seen := seenTree{}
	if err := json.Unmarshal(out, &seen); err != nil {
		t.Fatal(err)
	}
	return seen
}

// countSubdirs gives every directory the number of links that it has by its
// names: not all filesystems count.
func countSubdirs(seen seenTree) {
	subdirs := map[string]uint64{}
	for name, n := range seen {
		if n.isDir() && name != "." {
			subdirs[path.Dir(name)]++
		}
	}
	for name, n := range seen {
		if n.isDir() {
			n.Nlink = 2 + subdirs[name]
			seen[name] = n
		}
	}
}

// differences compares what is seen with what should be, a line for each
// field.
func differences(got, want seenTree) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[name]
		if !ok {
			all = append(all, name+": is missing")
			continue
		}
		w := want[name]
		field := func(field string, g, w any) {
			if g, w := fmt.Sprint(g), fmt.Sprint(w); g != w {
				all = append(all, fmt.Sprintf("%s: %s is %s, want %s", name, field, g, w))
			}
		}
		field("mode", fmt.Sprintf("%o", g.Mode), fmt.Sprintf("%o", w.Mode))
		field("owner", fmt.Sprint(g.UID, ":", g.GID), fmt.Sprint(w.UID, ":", w.GID))
		field("nlink", g.Nlink, w.Nlink)
		field("rdev", g.Rdev, w.Rdev)
		field("size", g.Size, w.Size)
		field("mtime", g.Mtime, w.Mtime)
		field("whether it has blocks", g.Data, w.Data)
		field("the path that shares its inode", g.Same, w.Same)
		field("whether d_ino is st_ino", g.Dino, w.Dino)
		field("target", g.Target, w.Target)
		field("xattrs", g.Xattrs, w.Xattrs)
		field("content", g.SHA256, w.SHA256)
		field("what is refused", g.Refused, w.Refused)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			all = append(all, name+": should not be there")
		}
	}
	return all
}

// hashTree maps every file below the directories, which are in root, to its
// SHA-256.
func hashTree(t *testing.T, root string, dirs ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(file string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			all[name], err = sha256Of(file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// The comparison sees what it claims to see.
func TestDifferencesAreSeen(t *testing.T) {
	need.Root(t)
	for field, change := range map[string]string{
		"mode":                           "chmod 4755 f",
		"owner":                          "chown 7:8 f; touch -d @1000.5 f",
		"nlink":                          "mkdir d/more; touch -d @1000.5 d",
		"rdev":                           "rm n; mknod n c 1 5; touch -d @1000.5 n",
		"size":                           "truncate -s 200 f; touch -d @1000.5 f",
		"mtime":                          "touch -d @1000.500000001 f",
		"whether it has blocks":          "rm f; truncate -s 100 f; ln -f f g; touch -d @1000.5 f",
		"the path that shares its inode": "cp -p f h; mv h g",
		"target":                         "ln -sfn other l; touch -h -d @1000.5 l",
		"xattrs":                         "setfattr -n user.x -v 1 f",
		"content":                        "printf y | dd of=f conv=notrunc 2>/dev/null; touch -d @1000.5 f",
		"is missing":                     "rm l",
		"should not be there":            "touch new",
	} {
		t.Run(field, func(t *testing.T) {
			if strings.HasPrefix(change, "setfattr") {
				need.Tool(t, "setfattr")
			}
			dir := t.TempDir()
			shell := func(script string) {
				t.Helper()
				cmd := exec.Command("/bin/sh", "-ec", script)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%s: %v: %s", script, err, out)
				}
			}
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			shell("head -c 100 /dev/zero > f; ln f g; mkdir d; ln -s t l; mknod n c 1 3; touch -h -d @1000.5 f d l n")
			want := walkAs(t, program, 0, dir)
			if d := differences(want, want); len(d) > 0 {
				t.Fatalf("a tree differs from itself: %q", d)
			}
			shell(change)
			lines := differences(walkAs(t, program, 0, dir), want)
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, ": "+field) }) {
				t.Errorf("after %q these differences are seen: %q", change, lines)
			}
		})
	}
}
