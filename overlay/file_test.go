package overlay

import (
	"context"
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFileFlags opens with flags that would be in the way of reads and writes at
// offsets.
func TestFileFlags(t *testing.T) {
	needRoot(t)
	x := newFixtureAt(t, t.TempDir(), FormatKernel, shell(t, `printf 0123456789 > f`)) // on a disk, for O_DIRECT
	for name, flags := range map[string]int{
		"O_WRONLY": unix.O_WRONLY, "O_APPEND": unix.O_RDWR | unix.O_APPEND, "O_DIRECT": unix.O_RDWR | unix.O_DIRECT,
		"O_EXCL": unix.O_RDWR | unix.O_CREAT | unix.O_EXCL, "O_NONBLOCK": unix.O_RDWR | unix.O_NONBLOCK, "O_SYNC": unix.O_RDWR | unix.O_SYNC,
		"O_DIRECTORY": unix.O_RDWR | unix.O_DIRECTORY,
	} {
		n := x.hold("f")
		h, err := x.Open(context.Background(), n.ID, flags)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if k, err := h.WriteAt([]byte("abc"), 5); k != 3 || err != nil {
			t.Errorf("%s: write %d, %v", name, k, err)
		}
		buf := make([]byte, 100)
		if k, err := h.ReadAt(buf, 1); err != nil || string(buf[:k]) != "1234abc89" {
			t.Errorf("%s: read %q, %v", name, buf[:k], err)
		}
		if _, err := h.ReadAt(buf, 10); err != io.EOF {
			t.Errorf("%s: at the end: %v", name, err)
		}
		x.must(h.Sync(true))
		x.must(h.Close())
		x.forget(n)
	}
}

func TestFileHolesAndRanges(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `truncate -s 1M f; printf end >> f; echo x > low`))
	ctx := context.Background()
	n, low := x.hold("f"), x.hold("low")
	from, err := x.Open(ctx, n.ID, unix.O_RDONLY)
	x.must(err)
	defer from.Close()
	if off, err := from.Lseek(0, unix.SEEK_DATA); err != nil || off != 1<<20 {
		t.Errorf("data at %d, %v", off, err)
	}
	onLower, err := x.Open(ctx, low.ID, unix.O_RDONLY)
	x.must(err)
	defer onLower.Close()
	_, err = from.CopyRange(0, onLower, 0, 10)
	wantErrno(t, "CopyRange to the lower", err, unix.EBADF)
	wantErrno(t, "Fallocate on the lower", onLower.Fallocate(0, 10, 0), unix.EBADF)
	x.must(onLower.Sync(false))

	to, err := x.Open(ctx, low.ID, unix.O_RDWR)
	x.must(err)
	defer to.Close()
	if to.OnLower() || !onLower.OnLower() {
		t.Error("a file on the lower became one on the upper")
	}
	if k, err := from.CopyRange(1<<20, to, 2, 10); err != nil && !errors.Is(err, unix.EXDEV) || err == nil && k != 3 {
		t.Errorf("CopyRange: %d, %v", k, err)
	}
	x.must(to.Fallocate(0, 100, 0))
	if a := x.stat("low"); a.Size != 100 {
		t.Errorf("size %d after Fallocate", a.Size)
	}
	x.must(to.Fallocate(0, 1, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE))
	if data, err := x.read("low"); err != nil || data[:2] != "\x00\n" {
		t.Errorf("read %q, %v", data[:2], err)
	}
	x.forget(n)
	x.forget(low)
}

// TestOpenOfWhatIsNoFile: these never come from the kernel, and must not do harm.
func TestOpenOfWhatIsNoFile(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `mkdir d; ln -s x s; mkfifo p`))
	for name, want := range map[string]error{"d": unix.EISDIR, "s": unix.ELOOP, "p": unix.ENXIO} {
		err := x.on(name, func(id ID) error { _, err := x.Open(context.Background(), id, unix.O_RDWR); return err })
		wantErrno(t, "open of "+name, err, errnoOf(want))
	}
	_, err := x.Open(context.Background(), firstUpperID+1e6, unix.O_RDONLY)
	wantErrno(t, "an ID that nothing has", err, unix.ESTALE)
	_, err = x.Getattr(firstUpperID + 1e6)
	wantErrno(t, "Getattr of it", err, unix.ESTALE)
	x.Forget(firstUpperID+1e6, 1)
}

// What was open before a copy-up can be opened again as it was, while the inode
// is held; what was never in the lower cannot.
func TestOpenLower(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `echo old > f; echo gone > g`))
	wantLower := func(id ID, want string) {
		t.Helper()
		h, err := x.OpenLower(id)
		x.must(err)
		defer h.Close()
		buf := make([]byte, 100)
		if k, err := h.ReadAt(buf, 0); err != nil || string(buf[:k]) != want || !h.OnLower() {
			t.Errorf("it reads %q, %v", buf[:k], err)
		}
		_, err = h.WriteAt([]byte("new"), 0)
		wantErrno(t, "writing to it", err, unix.EBADF)
	}
	f, g := x.hold("f"), x.hold("g")
	wantLower(f.ID, "old\n")
	x.must(x.write("f", "new\n", unix.O_TRUNC))
	wantLower(f.ID, "old\n")
	x.must(x.write("g", "new\n", 0))
	x.must(x.Unlink(Root, "g"))
	wantLower(g.ID, "gone\n")

	x.must(x.create("n", "born here"))
	n := x.hold("n")
	_, err := x.OpenLower(n.ID)
	wantErrno(t, "of a file of the upper", err, unix.ENOENT)
	x.forget(n)
	x.forget(f)
	x.forget(g)
}
