package overlay

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A difference is a thing in which a plain directory and the kernel's overlayfs do
// not agree, or we with both.
type difference struct {
	what                string
	plain, kernel, ours string
	why                 string // we answer so
	probe               func(w *world) string

	// What histories may meet of it: a kind of step and what a plain directory and
	// the kernel say. The kernel's tree then goes another way, and is left alone.
	kind   string
	errnos [2]syscall.Errno
}

// differences is all that is known where no FUSE is involved. A line needs a probe
// that shows it.
var differences = []difference{
	{
		what:  "mknod of the character device 0:0",
		plain: "ok", kernel: "EPERM", ours: "EPERM",
		why:   "it is a whiteout in the upper",
		probe: func(w *world) string { return w.mknod("new", unix.S_IFCHR|0o600, 0) },
	},
	{
		what:  "renameat2 with RENAME_WHITEOUT",
		plain: "ok", kernel: "EINVAL", ours: "EINVAL",
		why:   "it would make a whiteout that is seen",
		probe: func(w *world) string { return w.rename("file", "new", unix.RENAME_WHITEOUT) },
	},
	{
		what:  "rename of a lower directory whose path has more than 256 bytes",
		plain: "ok", kernel: "EXDEV", ours: "ok",
		why:   "overlayfs has redirect_max; a path may be as long as an xattr of the upper's filesystem",
		probe: func(w *world) string { return w.rename(differenceDir, "new", 0) },
		kind:  "mv", errnos: [2]syscall.Errno{0, unix.EXDEV},
	},
	{
		what:  "link to a lower file whose path has more than 256 bytes",
		plain: "ok", kernel: "EXDEV", ours: "ok",
		why:   "as above; if the path does not fit even so, the data is copied up",
		probe: func(w *world) string { return w.link(differenceDir+"/file", "new") },
		kind:  "ln", errnos: [2]syscall.Errno{0, unix.EXDEV},
	},
	{
		what:  "read from a descriptor that was open when another process first wrote",
		plain: "new", kernel: "new", ours: "old",
		why:   "an open File stays on the file that it opened; who serves it to the kernel makes it coherent",
		probe: (*world).staleRead,
	},
	{
		what:  "nlink of a file of plain lower directories, one of its names hidden by a layer",
		plain: "1", kernel: "2", ours: "2",
		why:   "counting would read all lowers; an image's tree knows, and says 1",
		probe: func(w *world) string { return w.nlink("left") },
	},
}

var differenceDir = strings.Repeat(strings.Repeat("n", 200)+"/", 2) + "dir"

func (w *world) mknod(path string, mode uint32, dev uint64) string {
	if w.x == nil {
		return nameOf(errnoOf(unix.Mknod(w.root+"/"+path, mode, int(dev))))
	}
	return nameOf(errnoOf(w.x.in(path, func(dir ID, name string) error {
		n, err := w.x.Mknod(Caller{}, dir, name, mode, dev)
		if err == nil {
			w.x.forget(n)
		}
		return err
	})))
}

func (w *world) rename(from, to string, flags uint32) string {
	if w.x == nil {
		return nameOf(errnoOf(unix.Renameat2(unix.AT_FDCWD, w.root+"/"+from, unix.AT_FDCWD, w.root+"/"+to, uint(flags))))
	}
	return nameOf(errnoOf(w.x.rename(from, to, flags)))
}

func (w *world) link(path, newPath string) string {
	if w.x == nil {
		return nameOf(errnoOf(unix.Link(w.root+"/"+path, w.root+"/"+newPath)))
	}
	return nameOf(errnoOf(w.x.link(path, newPath)))
}

func (w *world) staleRead() string {
	if err := w.open(0, "data", unix.O_RDONLY); err != nil {
		return err.Error()
	}
	defer w.closeAll()
	if err := w.open(1, "data", unix.O_RDWR); err != nil {
		return err.Error()
	}
	if err := w.files[1].write(0, "new"); err != nil {
		return err.Error()
	}
	data, err := w.files[0].read(0, 3)
	if err != nil {
		return err.Error()
	}
	return data
}

func (w *world) nlink(path string) string {
	if w.x != nil {
		return itoa(int(w.x.stat(path).Nlink))
	}
	var st unix.Stat_t
	if err := unix.Lstat(w.root+"/"+path, &st); err != nil {
		return err.Error()
	}
	return itoa(int(st.Nlink))
}

// TestDifferences shows each line and prints the table.
func TestDifferences(t *testing.T) {
	needRoot(t)
	base := shell(t, "mkdir -p "+differenceDir+"; echo in > "+differenceDir+"/file; echo file > file; printf old > data; echo x > left; ln left hidden")
	top := shell(t, "mknod hidden c 0 0")
	plain := shell(t, "mkdir -p "+differenceDir+"; echo in > "+differenceDir+"/file; echo file > file; printf old > data; echo x > left")
	t.Logf("%-80s %-8s %-9s %-8s %s", "", "plain", "overlayfs", "strata", "because")
	for _, d := range differences {
		x, k := newFixture(t, FormatKernel, base, top), newFixture(t, FormatKernel, base, top)
		k.close()
		at := t.TempDir()
		mountKernel(t, k, at, "index=off")
		kernel := d.probe(&world{root: at})
		if err := unix.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
		copied := tempDir(t)
		if err := os.CopyFS(copied, os.DirFS(plain)); err != nil {
			t.Fatal(err)
		}
		got := [3]string{d.probe(&world{root: copied}), kernel, d.probe(&world{x: x})}
		if want := [3]string{d.plain, d.kernel, d.ours}; got != want {
			t.Errorf("%s: plain, overlayfs, strata: %q, the table says %q", d.what, got, want)
		}
		t.Logf("%-80s %-8s %-9s %-8s %s", d.what, d.plain, d.kernel, d.ours, d.why)
	}
}
