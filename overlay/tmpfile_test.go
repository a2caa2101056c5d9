package overlay

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// TestTmpfile makes a file without a name, writes it, and gives it one; another is
// never given one and leaves nothing.
func TestTmpfile(t *testing.T) {
	needRoot(t)
	for _, format := range []Format{FormatKernel, FormatUser} {
		t.Run(format.String(), func(t *testing.T) {
			x := newFixture(t, format, shell(t, `mkdir d; chmod 2775 d; chown 0:7 d; echo low > d/low`))
			d, err := x.walk("d")
			x.must(err)
			defer x.forget(d)
			n, h, err := x.Tmpfile(Caller{UID: 5, GID: 6}, d.ID, 0o4640)
			x.must(err)
			if a := n.Attr; a.Nlink != 0 || a.UID != 5 || a.GID != 7 || a.Mode != tree.ModeRegular|0o4640 {
				t.Errorf("made as %+v", a)
			}
			_, err = h.WriteAt([]byte("hello"), 0)
			x.must(err)
			x.must(h.Close())
			if a, err := x.Getattr(n.ID); err != nil || a.Size != 5 || a.Ino != n.Attr.Ino {
				t.Errorf("written: %+v, %v", a, err)
			}
			if _, err := x.walk("d/new"); errnoOf(err) != unix.ENOENT {
				t.Errorf("it has a name: %v", err)
			}
			linked, err := x.Link(context.Background(), n.ID, d.ID, "new")
			x.must(err)
			if linked.ID != n.ID || linked.Attr.Nlink != 1 {
				t.Errorf("linked as %+v, was %+v", linked, n)
			}
			x.forget(linked)
			x.forget(n)

			other, h, err := x.Tmpfile(Caller{}, Root, 0o600)
			x.must(err)
			x.must(h.Close())
			x.forget(other)
			x.reopen()
			if got, err := x.read("d/new"); err != nil || got != "hello" {
				t.Errorf("after remount: %q, %v", got, err)
			}
			if tree := x.dump(); len(tree) != 4 { // the root, d, d/low, d/new
				t.Errorf("%d names: %v", len(tree), tree)
			}
		})
	}
}

func TestTmpfileRefused(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `echo f > f; mkdir d`))
	f, err := x.walk("f")
	x.must(err)
	defer x.forget(f)
	_, _, err = x.Tmpfile(Caller{}, f.ID, 0o600)
	wantErrno(t, "in a file", err, unix.ENOTDIR)
	d, err := x.walk("d")
	x.must(err)
	defer x.forget(d)
	x.must(x.in("d", x.Rmdir))
	_, _, err = x.Tmpfile(Caller{}, d.ID, 0o600)
	wantErrno(t, "in a directory that is gone", err, unix.ENOENT)
}
