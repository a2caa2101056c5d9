package container

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/need"
	"strata/overlay/tree"
)

func TestCheckoutIsWhatTheKernelStacks(t *testing.T) {
	need.Root(t)
	need.Overlayfs(t)
	w := newWorld(t)
	image := w.load(t, `
image two:1
layer one
dir d mode=0711 owner=7:8
file d/f mode=4755 owner=1:2 xattr=user.k=v
link d/g d/f
symlink d/s nowhere
dir o
char dev/null 1 3
layer two
whiteout d/s
opaque o
implicit d
file d/n mtime=2001-02-03T04:05:06.789012345Z
-- one/o/hidden --
x
-- one/d/f --
data
-- two/o/shown --
y
`)
	var trees []tree.Tree
	var dirs []string // base first
	out := t.TempDir()
	for i, id := range image.Layers {
		l, err := w.store.Layer(id)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		trees = append(trees, l.Tree())
		dirs = append(dirs, filepath.Join(out, string(rune('a'+i))))
		if err := Checkout(t.Context(), trees, dirs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := Checkout(t.Context(), trees, dirs[0]); err == nil {
		t.Error("checked out over something that is there")
	}
	mnt := filepath.Join(out, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", mnt, "overlay", unix.MS_RDONLY, TopmostFirst(dirs).String()); err != nil {
		t.Fatalf("the kernel does not take it: %v", err)
	}
	defer unix.Unmount(mnt, 0)
	stat := func(name string) unix.Stat_t {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(mnt, name), &st); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return st
	}
	wantFile(t, filepath.Join(mnt, "d/f"), "data\n")
	if st := stat("d/f"); st.Mode != unix.S_IFREG|0o4755 || st.Uid != 1 || st.Gid != 2 || st.Nlink != 2 || st.Ino != stat("d/g").Ino {
		t.Errorf("d/f is %+v", st)
	}
	if st := stat("d"); st.Mode&0o7777 != 0o711 || st.Uid != 7 {
		t.Errorf("d has lost the attributes that only the lower layer gives: mode %o, owner %d", st.Mode, st.Uid)
	}
	if st := stat("d/n"); st.Mtim != (unix.Timespec{Sec: 981173106, Nsec: 789012345}) {
		t.Errorf("d/n has mtime %v", st.Mtim)
	}
	if st := stat("dev/null"); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		t.Errorf("dev/null is %+v", st)
	}
	var value [8]byte
	if n, err := unix.Lgetxattr(filepath.Join(mnt, "d/f"), "user.k", value[:]); err != nil || string(value[:n]) != "v" {
		t.Errorf("xattr: %q, %v", value[:max(n, 0)], err)
	}
	for _, gone := range []string{"d/s", "o/hidden"} {
		if _, err := os.Lstat(filepath.Join(mnt, gone)); !os.IsNotExist(err) {
			t.Errorf("%s is seen: %v", gone, err)
		}
	}
	wantFile(t, filepath.Join(mnt, "o/shown"), "y\n")
}

func TestCheckoutRefusesWhatWouldBecomeAWhiteout(t *testing.T) {
	need.Root(t)
	w := newWorld(t)
	image := w.load(t, "image odd:1\nlayer one\nchar zero 0 0\n-- one/f --\nx\n")
	l, err := w.store.Layer(image.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "out")
	wantError(t, Checkout(t.Context(), []tree.Tree{l.Tree()}, dir), "check out /zero", "would be a whiteout")
	if _, err := os.Lstat(dir); !os.IsNotExist(err) {
		t.Errorf("half a checkout stays: %v", err)
	}
}
