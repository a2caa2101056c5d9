package tree

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"strata/internal/need"
)

// needRoot skips tests that mount or make devices.
func needRoot(t *testing.T) {
	t.Helper()
	need.Overlayfs(t)
}

func must(t failer, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// materialise writes the layer ops into dir as overlayfs has layers.
func materialise(t failer, dir string, ops []layerOp) {
	t.Helper()
	b, m := NewBuilder(nil), newModelLayer()
	contents := map[ObjectDigest]string{}
	for _, o := range ops {
		if err := o.apply(b); err != nil {
			t.Fatalf("%v: %v", o, err)
		}
		m.apply(o)
	}
	for _, f := range m.files {
		if f.mode == ModeRegular {
			contents[digestOf(f.op.target)] = f.op.target
		}
	}
	must(t, b.Finish())
	first := map[ID]string{}
	var dirs []func() // times are set when nothing is added any more
	err := Walk(b, func(p string, e Entry, a *Attr) error {
		at := filepath.Join(dir, p)
		if e.Whiteout {
			return unix.Mknod(at, unix.S_IFCHR, 0)
		}
		if old, ok := first[e.ID]; ok {
			return os.Link(old, at)
		}
		first[e.ID] = at
		var err error
		switch e.Type {
		case ModeDir:
			if p != "" {
				err = os.Mkdir(at, 0o700)
			}
			if opaque, _ := b.Opaque(e.ID); opaque {
				must(t, unix.Setxattr(at, "trusted.overlay.opaque", []byte("y"), 0))
			}
		case ModeRegular:
			c, _ := b.Content(e.ID)
			err = os.WriteFile(at, []byte(contents[c.Digest]), 0o600)
		case ModeSymlink:
			target, _ := b.Readlink(e.ID)
			err = os.Symlink(target, at)
		default:
			err = unix.Mknod(at, a.Mode, int(a.Rdev))
		}
		if err != nil {
			return err
		}
		must(t, os.Lchown(at, int(a.UID), int(a.GID)))
		if e.Type != ModeSymlink {
			must(t, unix.Chmod(at, a.Mode&ModePerm))
		}
		names, _ := b.Xattrs(e.ID)
		for _, x := range names {
			v, _ := b.Xattr(e.ID, x)
			must(t, unix.Setxattr(at, x, v, 0))
		}
		mtime := *a
		dirs = append(dirs, func() {
			ts := unix.Timespec{Sec: mtime.Mtime.Sec, Nsec: int64(mtime.Mtime.Nsec)}
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
		})
		return nil
	})
	must(t, err)
	for _, set := range slices.Backward(dirs) {
		set()
	}
}

func digestOf(s string) ObjectDigest {
	b := NewBuilder(nil)
	_ = layerOp{do: "file", path: "f", target: s}.apply(b)
	return b.digests[0]
}

func openHostDir(t failer, dir string, o HostDirOptions) *HostDir {
	t.Helper()
	h, err := OpenHostDir(dir, o)
	must(t, err)
	return h
}

// seenByStack walks a tree and describes what a kernel's overlayfs and a stack have
// in common: it leaves out inode numbers, links and what changes by itself.
func seenByStack(t failer, tr Tree, contents bool) []string {
	t.Helper()
	var lines []string
	err := Walk(tr, func(p string, e Entry, a *Attr) error {
		line := fmt.Sprintf("/%s %o %d:%d %d %d %+v", p, a.Mode, a.UID, a.GID, a.Size, a.Rdev, a.Mtime)
		if a.IsSymlink() {
			target, err := tr.Readlink(e.ID)
			must(t, err)
			line += " -> " + target
		}
		if a.IsRegular() && contents {
			f, err := tr.Open(e.ID)
			must(t, err)
			data, err := io.ReadAll(f)
			must(t, err)
			f.Close()
			line += " " + string(data)
		}
		names, err := tr.Xattrs(e.ID)
		must(t, err)
		if a.Xattrs != (len(names) > 0) {
			t.Fatalf("/%s: Attr.Xattrs is %v, but Xattrs are %v", p, a.Xattrs, names)
		}
		for _, x := range names {
			v, err := tr.Xattr(e.ID, x)
			must(t, err)
			line += fmt.Sprintf(" %s=%s", x, v)
		}
		lines = append(lines, line)
		return nil
	})
	must(t, err)
	slices.Sort(lines)
	return lines
}

// seenByKernel is seenByStack of a mount, with the system's own calls.
func seenByKernel(t failer, root string, contents bool) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(root, func(at string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err == unix.ENOENT {
			// In a directory that only one layer has, the kernel lists
			// the names of whiteouts, though it finds nothing there.
			return nil
		} else if err != nil {
			return err
		}
		p := strings.TrimPrefix(strings.TrimPrefix(at, root), "/")
		size, rdev := st.Size, st.Rdev
		if typ := st.Mode & ModeType; typ != ModeRegular && typ != ModeSymlink {
			size = 0
		}
		line := fmt.Sprintf("/%s %o %d:%d %d %d %+v", p, st.Mode, st.Uid, st.Gid, size, rdev, Time{st.Mtim.Sec, uint32(st.Mtim.Nsec)})
		switch st.Mode & ModeType {
		case ModeSymlink:
			target, err := os.Readlink(at)
			must(t, err)
			line += " -> " + target
		case ModeRegular:
			if contents {
				data, err := os.ReadFile(at)
				must(t, err)
				line += " " + string(data)
			}
		}
		buf := make([]byte, 4096)
		n, err := unix.Llistxattr(at, buf)
		must(t, err)
		var names []string
		for x := range bytes.SplitSeq(buf[:n], []byte{0}) {
			if len(x) > 0 {
				names = append(names, string(x))
			}
		}
		slices.Sort(names)
		for _, x := range names {
			n, err := unix.Lgetxattr(at, x, buf)
			must(t, err)
			line += fmt.Sprintf(" %s=%s", x, buf[:n])
		}
		lines = append(lines, line)
		return nil
	})
	must(t, err)
	slices.Sort(lines)
	return lines
}

// mountOverlay mounts dirs, base first, with the kernel's overlayfs. The
// kernel wants two, so an empty one is put below.
func mountOverlay(t failer, tmp string, dirs []string, option string) (at string, unmount func()) {
	t.Helper()
	empty, at := filepath.Join(tmp, "empty"), filepath.Join(tmp, "merged")
	must(t, os.MkdirAll(empty, 0o755))
	must(t, os.MkdirAll(at, 0o755))
	lower := []string{}
	for _, d := range slices.Backward(dirs) {
		lower = append(lower, d)
	}
	lower = append(lower, empty)
	flags := uintptr(unix.MS_RDONLY)
	if strings.Contains(option, "upperdir=") {
		flags = 0
	}
	if err := unix.Mount("overlay", at, "overlay", flags, "lowerdir="+strings.Join(lower, ":")+option); err != nil {
		t.Fatalf("mount overlayfs: %v", err)
	}
	return at, func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Fatalf("unmount %s: %v", at, err)
		}
	}
}

// TestStackEqualsKernel: of random layers, overlayfs shows what a stack of
// Builders and a stack of host directories show.
func TestStackEqualsKernel(t *testing.T) {
	needRoot(t)
	top := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		tmp, err := os.MkdirTemp(top, "")
		must(rt, err)
		defer os.RemoveAll(tmp)
		var builders, hostDirs []Tree
		var dirs []string
		for i := range rapid.IntRange(1, 5).Draw(rt, "layers") {
			ops := drawLayer(rt, i, true)
			b, _ := build(rt, ops)
			builders = append(builders, b)
			dir := filepath.Join(tmp, fmt.Sprint(i))
			must(rt, os.Mkdir(dir, 0o700))
			materialise(rt, dir, ops)
			dirs = append(dirs, dir)
			h := openHostDir(rt, dir, HostDirOptions{})
			defer h.Close()
			if !h.ReadOnlyMount() {
				rt.Fatal("as root there is no read-only mount")
			}
			hostDirs = append(hostDirs, h)
		}
		at, unmount := mountOverlay(rt, tmp, dirs, "")
		defer unmount()
		if d := diffLines(seenByStack(rt, Stack(builders...), false), seenByKernel(rt, at, false)); d != "" {
			rt.Fatalf("a stack of Builders differs from overlayfs:%s", d)
		}
		s := Stack(hostDirs...)
		if d := diffLines(seenByStack(rt, s, true), seenByKernel(rt, at, true)); d != "" {
			rt.Fatalf("a stack of host directories differs from overlayfs:%s", d)
		}
		checkStackLinks(rt, s)
	})
}

// checkStackLinks: once names are known, Nlink is their number.
func checkStackLinks(t failer, s *Stacked) {
	t.Helper()
	counts := map[ID]uint32{}
	must(t, Walk(s, func(p string, e Entry, a *Attr) error {
		if e.Type != ModeDir {
			counts[e.ID]++
		}
		_, err := s.Names(e.ID)
		return err
	}))
	for id, n := range counts {
		a, err := s.Attr(id)
		must(t, err)
		names, err := s.Names(id)
		must(t, err)
		if a.Nlink != n && s.LinksKnown() || len(names) != int(n) {
			t.Fatalf("inode %d: nlink %d, names %v, want %d", id, a.Nlink, names, n)
		}
	}
}

// TestHostDirXattrsEqualKernel: what overlayfs has special words for.
func TestHostDirXattrsEqualKernel(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name   string
		xattrs map[string]string // "path xattr" to value
	}{
		{"own xattrs are hidden", map[string]string{"f trusted.overlay.origin": "x", "d trusted.overlay.impure": "y"}},
		{"escaped xattrs are unescaped once", map[string]string{"f trusted.overlay.overlay.opaque": "y", "f trusted.overlay.overlay.overlay.x": "1"}},
		{"the other prefix means nothing", map[string]string{"d user.overlay.opaque": "y", "f user.overlay.overlay.x": "1"}},
		{"opaque", map[string]string{"d trusted.overlay.opaque": "y"}},
		{"the root is never opaque", map[string]string{". trusted.overlay.opaque": "y"}},
		{"a value other than y is not opaque", map[string]string{"d trusted.overlay.opaque": "n"}},
		{"an empty value is not opaque", map[string]string{"d trusted.overlay.opaque": ""}},
		{"xattr whiteout", map[string]string{"d trusted.overlay.opaque": "x", "d/e trusted.overlay.whiteout": "", "d/f trusted.overlay.whiteout": "y"}},
		{"xattr whiteout in the root", map[string]string{". trusted.overlay.opaque": "x", "f trusted.overlay.whiteout": ""}},
		{"others are shown", map[string]string{"f user.x": "1", "d trusted.y": "2", "f security.z": "3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tmp := t.TempDir()
			var dirs []string
			for i := range 2 {
				dir := filepath.Join(tmp, fmt.Sprint(i))
				must(t, os.Mkdir(dir, 0o700))
				materialise(t, dir, []layerOp{{do: "file", path: "d/e"}, {do: "file", path: "d/f", target: fmt.Sprint(i)}, {do: "file", path: "f"}, {do: "file", path: fmt.Sprint("d/", i)}})
				dirs = append(dirs, dir)
			}
			for at, value := range tt.xattrs {
				p, x, _ := strings.Cut(at, " ")
				must(t, unix.Setxattr(filepath.Join(dirs[1], p), x, []byte(value), 0))
			}
			at, unmount := mountOverlay(t, tmp, dirs, "")
			defer unmount()
			var layers []Tree
			for _, dir := range dirs {
				h := openHostDir(t, dir, HostDirOptions{})
				defer h.Close()
				layers = append(layers, h)
			}
			if d := diffLines(seenByStack(t, Stack(layers...), true), seenByKernel(t, at, true)); d != "" {
				t.Errorf("differs from overlayfs:%s", d)
			}
		})
	}
}
