package overlay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// TestCopyUpBringsAll changes nothing but one xattr or mode and wants all else in
// the upper as it was in the lower.
func TestCopyUpBringsAll(t *testing.T) {
	needRoot(t)
	lower := shell(t, `
		mkdir -p d/e dir
		head -c 100000 /dev/urandom > d/e/file
		chown 7:8 d/e/file; chmod 4751 d/e/file
		setfattr -n user.one -v 1 d/e/file
		setfattr -n trusted.two -v 2 d/e/file
		setfattr -n security.three -v 3 d/e/file
		setfattr -n user.long -v $(head -c 900 /dev/zero | tr '\0' x) d/e/file
		ln -s some/where d/link; chown -h 3:4 d/link; setfattr -h -n trusted.two -v 2 d/link
		mkfifo -m 0620 d/fifo
		mknod -m 0604 d/null c 1 3; chown 5:6 d/null
		mknod -m 0606 d/loop b 7 9
		chmod 3705 dir; chown 1:2 dir; setfattr -n user.d -v d dir
		find . -exec touch -h -m -d '2002-03-04 05:06:07.987654321' {} +
		find . -exec touch -h -a -d '2031-02-03 04:05:06.123456789' {} +
	`)
	for _, format := range []Format{FormatKernel, FormatUser} {
		for _, path := range []string{"d/e/file", "d/link", "d/fifo", "d/null", "d/loop", "dir"} {
			t.Run(format.String()+"/"+strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
				x := newFixture(t, format, lower)
				before, dirBefore := x.stat(path), x.stat(filepath.Dir(path))
				want := x.dump()
				owner := before.UID
				x.must(x.setattr(path, SetAttr{UID: &owner, Mtime: &before.Mtime, Mode: modeOf(before)}))
				if !x.inUpper(path) {
					t.Fatal("it is not in the upper")
				}
				check := func(when string) {
					t.Helper()
					a := x.stat(path)
					if a.Atime != before.Atime || a.Mtime != before.Mtime {
						t.Errorf("%s: atime %v mtime %v, want %v %v", when, a.Atime, a.Mtime, before.Atime, before.Mtime)
					}
					if a.Ino != before.Ino {
						t.Errorf("%s: inode %d, was %d", when, a.Ino, before.Ino)
					}
					if d := x.stat(filepath.Dir(path)); path != "dir" && (d.Mtime != dirBefore.Mtime || d.Atime != dirBefore.Atime || d.Ino != dirBefore.Ino) {
						t.Errorf("%s: the directory is %+v, was %+v", when, d, dirBefore)
					}
				}
				check("after copy-up")
				x.reopen()
				check("after remount")
				compare(t, "after copy-up", want, x.dump(), true)
				if left := x.staged(); len(left) > 0 {
					t.Errorf("left in the work directory: %q", left)
				}
			})
		}
	}
}

func modeOf(a tree.Attr) *uint32 {
	if a.IsSymlink() {
		return nil
	}
	m := a.Mode & tree.ModePerm
	return &m
}

// opens counts how often contents of the lower are opened, and lets a test do
// something in the middle of a call.
type opens struct {
	tree.Tree
	n        atomic.Int32
	hook     func()
	looked   string // at the next Lookup of this name
	onLookup func() // this is called, once
}

func (o *opens) Lookup(dir tree.ID, name string) (tree.Entry, error) {
	e, err := o.Tree.Lookup(dir, name)
	if fn := o.onLookup; fn != nil && name == o.looked {
		o.onLookup = nil
		fn()
	}
	return e, err
}

func (o *opens) Open(id tree.ID) (*os.File, error) {
	o.n.Add(1)
	if o.hook != nil {
		o.hook()
	}
	return o.Tree.Open(id)
}

// withLower opens the fixture's upper again over what wrap makes of the lower.
func (x *fixture) withLower(wrap func(tree.Tree) tree.Tree) {
	x.t.Helper()
	x.close()
	o := x.options()
	o.Lower = wrap(o.Lower)
	f, err := Open(o)
	x.must(err)
	x.FS = f
}

func TestCopyUpCopiesNoMoreThanNeeded(t *testing.T) {
	needRoot(t)
	const mib = 1 << 20
	// Data in the first and the 600th MiB, else a hole.
	lower := shell(t, `
		head -c 1M /dev/urandom > big
		head -c 1M /dev/urandom | dd of=big bs=1M seek=600 conv=notrunc status=none
		truncate -s 1G big
	`)
	var counter *opens
	setup := func(t *testing.T) *fixture {
		x := newFixture(t, FormatKernel, lower)
		x.withLower(func(l tree.Tree) tree.Tree { counter = &opens{Tree: l}; return counter })
		return x
	}
	allocated := func(x *fixture) int64 { st := x.upperStat("big"); return st.Blocks * 512 }

	t.Run("O_TRUNC copies nothing", func(t *testing.T) {
		x := setup(t)
		x.must(x.write("big", "new", unix.O_TRUNC))
		if counter.n.Load() != 0 {
			t.Error("the lower file was opened")
		}
		if data, err := x.read("big"); err != nil || data != "new" {
			t.Errorf("read %q, %v", data, err)
		}
	})
	t.Run("truncate keeps what remains", func(t *testing.T) {
		x := setup(t)
		size := int64(4096)
		x.must(x.setattr("big", SetAttr{Size: &size}))
		if a := x.stat("big"); a.Size != size {
			t.Errorf("size %d", a.Size)
		}
		if n := allocated(x); n > 2*size {
			t.Errorf("%d bytes are allocated", n)
		}
		if data, err := x.read("big"); err != nil || data != string(bytesAt(t, filepath.Join(lower, "big"), 0)) {
			t.Errorf("other data after truncate: %v", err)
		}
	})
	t.Run("truncate to nothing copies nothing", func(t *testing.T) {
		x := setup(t)
		size := int64(0)
		x.must(x.setattr("big", SetAttr{Size: &size}))
		if counter.n.Load() != 0 {
			t.Error("the lower file was opened")
		}
	})
	t.Run("holes stay holes", func(t *testing.T) {
		x := setup(t)
		x.must(x.write("big", "", 0))
		if n := allocated(x); n > 3*mib {
			t.Errorf("%d bytes are allocated", n)
		}
		for _, off := range []int64{0, 599 * mib, 600 * mib, 601*mib - 5, 1024*mib - 10} {
			if a, b := bytesAt(t, filepath.Join(lower, "big"), off), bytesAt(t, filepath.Join(x.upper, "big"), off); !bytes.Equal(a, b) {
				t.Errorf("other bytes at %d", off)
			}
		}
		if a := x.stat("big"); a.Size != 1024*mib {
			t.Errorf("size %d", a.Size)
		}
	})
	t.Run("a second change copies nothing", func(t *testing.T) {
		x := setup(t)
		x.must(x.chmod("big", 0o600))
		x.must(x.write("big", "x", 0))
		x.must(x.chmod("big", 0o640))
		if n := counter.n.Load(); n != 1 {
			t.Errorf("the lower file was opened %d times", n)
		}
	})
}

func bytesAt(t *testing.T, path string, off int64) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 4096)
	n, _ := f.ReadAt(buf, off)
	return buf[:n]
}

func TestCopyUpCancelled(t *testing.T) {
	needRoot(t)
	lower := shell(t, `mkdir d; head -c 40M /dev/zero | tr '\0' x > d/big`)
	x := newFixture(t, FormatKernel, lower)
	ctx, cancel := context.WithCancel(context.Background())
	x.withLower(func(l tree.Tree) tree.Tree { return &opens{Tree: l, hook: cancel} })
	n := x.hold("d/big")
	if _, err := x.Open(ctx, n.ID, unix.O_WRONLY); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled copy-up says %v", err)
	}
	if x.inUpper("d/big") {
		t.Error("a cancelled copy-up made the name")
	}
	if left := x.staged(); len(left) > 0 {
		t.Errorf("left in the work directory: %q", left)
	}
	if a, err := x.Getattr(n.ID); err != nil || a != n.Attr {
		t.Errorf("afterwards %+v, %v; want %+v", a, err, n.Attr)
	}
	x.must(x.write("d/big", "", 0))
	x.forget(n)
}

// TestCopyUpFailsWhole lets the lower's data fail in the middle.
func TestCopyUpFailsWhole(t *testing.T) {
	needRoot(t)
	lower := shell(t, `echo data > f; echo more > g`)
	x := newFixture(t, FormatKernel, lower)
	x.withLower(func(l tree.Tree) tree.Tree { return shortTree{l} })
	x.names("")
	fds := openFDs(t)
	wantErrno(t, "copy-up of a lower file that was cut short", x.write("f", "", 0), unix.EIO)
	if x.inUpper("f") || len(x.staged()) > 0 {
		t.Errorf("a failed copy-up left something: %q", x.staged())
	}
	if got := openFDs(t); got > fds {
		t.Errorf("%d descriptors, %d before", got, fds)
	}
	if len(x.nodes) != 1 {
		t.Errorf("%d nodes are left", len(x.nodes))
	}
}

// shortTree says that files are longer than they are.
type shortTree struct{ tree.Tree }

func (s shortTree) Attr(id tree.ID) (tree.Attr, error) {
	a, err := s.Tree.Attr(id)
	if a.IsRegular() {
		a.Size += 100
	}
	return a, err
}

func TestCopyUpInDeepDirectory(t *testing.T) {
	needRoot(t)
	deep := strings.Repeat("d/", 60)
	lower := shell(t, `mkdir -p `+deep+`; echo data > `+deep+`f; chmod 2770 d; chown 1:2 d/d; find . -exec touch -h -d '2001-02-03 04:05:06.7' {} +`)
	guardLowers(t, lower)
	x := newFixture(t, FormatKernel, lower)
	want := x.dump()
	x.must(x.write(deep+"f", "data\n", 0))
	a := want[deep+"f"]
	mt := tree.Time(a.Mtime)
	x.must(x.setattr(deep+"f", SetAttr{Mtime: &mt}))
	compare(t, "after copy-up", want, x.dump(), true)
	x.reopen()
	compare(t, "after remount", want, x.dump(), true)
}

// TestCopyUpKeepsInode asks for the number in every way there is.
func TestCopyUpKeepsInode(t *testing.T) {
	needRoot(t)
	lower := shell(t, `mkdir -p d m; echo f > d/f; ln -s x d/s; ln d/f d/g`)
	for _, format := range []Format{FormatKernel, FormatUser} {
		t.Run(format.String(), func(t *testing.T) {
			x := newFixture(t, format, lower)
			want := map[string]uint64{}
			for _, p := range []string{"d", "d/f", "d/s", "d/g", "m"} {
				want[p] = x.stat(p).Ino
			}
			check := func(when string) {
				t.Helper()
				x.dump() // compares with d_ino
				for p, ino := range want {
					if got := x.stat(p).Ino; got != ino {
						t.Errorf("%s: %s is inode %d, was %d", when, p, got, ino)
					}
				}
			}
			uid := uint32(5)
			for _, p := range []string{"d/f", "d/s", "m"} {
				x.must(x.setattr(p, SetAttr{UID: &uid}))
				check("after copy-up of " + p)
			}
			x.reopen()
			check("after remount")
			x.must(x.mkdir("n"))
			x.must(x.rename("d/f", "n/f", 0))
			x.must(x.link("d/g", "n/h"))
			want["n/f"], want["n/h"] = want["d/f"], want["d/f"]
			delete(want, "d/f")
			check("after rename")
			x.reopen()
			check("after rename and remount")
		})
	}
}

// TestCopyUpAtOnce has many goroutines change one inode for the first time.
func TestCopyUpAtOnce(t *testing.T) {
	needRoot(t)
	lower := shell(t, `mkdir -p a/b c; head -c 1M /dev/urandom > a/b/f; ln a/b/f c/g`)
	guardLowers(t, lower)
	for round := range 10 {
		x := newFixture(t, FormatKernel, lower)
		var counter *opens
		x.withLower(func(l tree.Tree) tree.Tree { counter = &opens{Tree: l}; return counter })
		var wg sync.WaitGroup
		var errs [12]error
		for i := range errs {
			wg.Go(func() {
				path := []string{"a/b/f", "c/g"}[i%2]
				switch i % 4 {
				case 0, 1:
					errs[i] = x.on(path, func(id ID) error {
						return x.Setxattr(context.Background(), id, fmt.Sprintf("user.n%d", i), []byte{1}, 0)
					})
				case 2:
					_, errs[i] = x.read(path)
				case 3:
					errs[i] = x.create(fmt.Sprintf("a/b/new%d", i), "x")
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		f, g := x.hold("a/b/f"), x.hold("c/g")
		if f.ID != g.ID || f.Attr.Nlink != 2 {
			t.Fatalf("round %d: two files: %+v %+v", round, f, g)
		}
		names, err := x.Listxattr(f.ID)
		x.must(err)
		wantNames(t, "xattrs", names, "user.n0", "user.n1", "user.n4", "user.n5", "user.n8", "user.n9")
		if left := x.staged(); len(left) > 0 {
			t.Errorf("left in the work directory: %q", left)
		}
		x.forget(f)
		x.forget(g)
		x.close()
	}
}

// TestCopyUpWhileOpen: who had the lower open goes on seeing it; by name there is
// the new data.
func TestCopyUpWhileOpen(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `echo old > f`))
	n := x.hold("f")
	old, err := x.Open(context.Background(), n.ID, unix.O_RDONLY)
	x.must(err)
	defer old.Close()
	if !old.OnLower() {
		t.Error("a file that nobody changed is not read from the lower")
	}
	x.must(x.write("f", "new\n", 0))
	buf := make([]byte, 4)
	if _, err := old.ReadAt(buf, 0); err != nil || string(buf) != "old\n" {
		t.Errorf("the open file reads %q, %v", buf, err)
	}
	if _, err := old.WriteAt(buf, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("writing through it: %v", err)
	}
	if data, _ := x.read("f"); data != "new\n" {
		t.Errorf("by name: %q", data)
	}
	if again := x.hold("f"); again.ID != n.ID {
		t.Errorf("ID %d, was %d", again.ID, n.ID)
	} else {
		x.forget(again)
	}
	x.forget(n)
}

// TestLookupDuringCopyUp: what the lower said about a name in a lower-only directory
// is old when it arrives.
func TestLookupDuringCopyUp(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `mkdir d; echo f > d/f`))
	var o *opens
	x.withLower(func(l tree.Tree) tree.Tree { o = &opens{Tree: l}; return o })
	d := x.hold("d")
	o.looked, o.onLookup = "f", func() {
		x.must(x.chmod("d/f", 0o600)) // and nobody knows it any more
		x.must(x.in("d/f", x.Unlink))
		x.must(x.create("d/f", "another"))
	}
	n, err := x.Lookup(d.ID, "f")
	x.must(err)
	if n.Attr.Size != int64(len("another")) {
		t.Errorf("Lookup found %+v", n.Attr)
	}
	x.forget(n)
	x.forget(d)
	wantForgotten(x)
}

// TestUnlinkBetweenLinks removes a name that a copy-up under way has not made yet.
func TestUnlinkBetweenLinks(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, linkedLower))
	var o *opens
	x.withLower(func(l tree.Tree) tree.Tree { o = &opens{Tree: l}; return o })
	unlinked := make(chan error, 1)
	lower, err := tree.Resolve(o, "a/one")
	x.must(err)
	names, err := o.Names(lower)
	x.must(err)
	last := map[string]string{"three": "b/deep/three", "four": "c/four"}[names[3].Name]
	o.looked, o.onLookup = names[2].Name, func() { // two names are made, two are not
		go func() { unlinked <- x.in(last, x.Unlink) }()
		time.Sleep(20 * time.Millisecond)
	}
	x.must(x.chmod("a/one", 0o600))
	x.must(<-unlinked)
	left := slices.DeleteFunc(slices.Clone(linkedNames), func(name string) bool { return name == last })
	wantLinkedEverywhere(x, "afterwards", left...)
}
