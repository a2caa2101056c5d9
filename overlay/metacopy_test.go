package overlay

import (
	"context"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// metacopyFixture has a lower file "d/big" of a megabyte and a counter of how often
// the lower's data is opened.
func metacopyFixture(t *testing.T, format Format) (x *fixture, o *opens, data string) {
	t.Helper()
	lower := shell(t, `mkdir d e; head -c 1M /dev/urandom > d/big; chmod 640 d/big; touch -d '2001-02-03 04:05:06.789' d/big`)
	guardLowers(t, lower)
	b, err := os.ReadFile(lower + "/d/big")
	if err != nil {
		t.Fatal(err)
	}
	x = newFixture(t, format, lower)
	x.withLower(func(l tree.Tree) tree.Tree { o = &opens{Tree: l}; return o })
	return x, o, string(b)
}

// allocated is how much room a path takes in the upper.
func (x *fixture) allocated(path string) int64 { st := x.upperStat(path); return st.Blocks * 512 }

func (x *fixture) wantData(when, path, want string) {
	x.t.Helper()
	if got, err := x.read(path); err != nil || got != want {
		x.t.Errorf("%s: %s has %d bytes (%v), and not the %d that it should", when, path, len(got), err, len(want))
	}
}

func TestMetadataOnly(t *testing.T) {
	now := time.Now().Unix()
	changes := map[string]func(x *fixture) error{
		"chmod": func(x *fixture) error { return x.chmod("d/big", 0o600) },
		"chown": func(x *fixture) error { id := uint32(7); return x.setattr("d/big", SetAttr{UID: &id}) },
		"utimes": func(x *fixture) error {
			return x.setattr("d/big", SetAttr{Mtime: &tree.Time{Sec: 5, Nsec: 6}})
		},
		"setxattr": func(x *fixture) error {
			return x.on("d/big", func(id ID) error { return x.Setxattr(context.Background(), id, "user.x", []byte("1"), 0) })
		},
		"rename": func(x *fixture) error {
			if err := x.rename("d/big", "e/big", 0); err != nil {
				return err
			}
			return x.rename("e/big", "d/big", 0)
		},
		"link": func(x *fixture) error {
			if err := x.link("d/big", "e/big"); err != nil {
				return err
			}
			return x.in("e/big", x.Unlink)
		},
	}
	bothFormats(t, func(t *testing.T, format Format) {
		for name, change := range changes {
			t.Run(name, func(t *testing.T) {
				x, o, data := metacopyFixture(t, format)
				before := x.stat("d/big")
				x.must(change(x))
				if n := o.n.Load(); n > 0 {
					t.Errorf("the lower's data was opened %d times", n)
				}
				if n := x.allocated("d/big"); n > 8192 {
					t.Errorf("%d bytes are allocated in the upper", n)
				}
				if !x.hasXattr("d/big", xMetacopy) {
					t.Error("there is no mark")
				}
				a := x.stat("d/big")
				if a.Size != before.Size || a.Blocks != before.Blocks || a.Ino != before.Ino {
					t.Errorf("size %d blocks %d inode %d, were %d, %d, %d", a.Size, a.Blocks, a.Ino, before.Size, before.Blocks, before.Ino)
				}
				if name != "utimes" && a.Mtime != before.Mtime {
					t.Errorf("mtime %v, was %v", a.Mtime, before.Mtime)
				}
				if a.Ctime.Sec < now {
					t.Errorf("ctime %v is before the change", a.Ctime)
				}
				x.wantData("without data", "d/big", data)
				wantSameAfterRemount(x)
				x.wantData("after remount", "d/big", data)

				x.must(x.write("d/big", "", 0))
				if x.hasXattr("d/big", xMetacopy) || x.hasXattr("d/big", xRedirect) {
					t.Error("the marks are still there after it was opened for writing")
				}
				if b := x.stat("d/big"); b.Mtime != a.Mtime || b.Mode != a.Mode || b.UID != a.UID || b.Ino != a.Ino {
					t.Errorf("bringing the data changed %+v to %+v", a, b)
				}
				x.wantData("with data", "d/big", data)
				x.must(x.write("d/big", "NEW", 0))
				x.wantData("written to", "d/big", "NEW"+data[3:])
				wantSameAfterRemount(x)
			})
		}
	})
}

// TestMetacopyTravels moves and links files without data, also in directories that
// move themselves, and finds the data after each remount.
func TestMetacopyTravels(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		x, _, data := metacopyFixture(t, format)
		ino := x.stat("d/big").Ino
		at := "d/big"
		check := func(when string, paths ...string) {
			t.Helper()
			for _, p := range append(paths, at) {
				x.wantData(when, p, data)
				if got := x.stat(p).Ino; got != ino {
					t.Errorf("%s: %s is inode %d, was %d", when, p, got, ino)
				}
			}
			wantSameAfterRemount(x)
			if format == FormatKernel {
				want := x.dump()
				x.close()
				compare(t, when+": the kernel's view", want, kernelView(t, x), true)
				x.open()
			}
		}
		x.must(x.rename("d/big", "e/moved", 0))
		at = "e/moved"
		check("moved")
		x.must(x.create("d/big", "another"))
		check("with another in its old place")
		x.must(x.link("e/moved", "d/link"))
		check("linked", "d/link")
		x.must(x.rename("d", "e/d", 0))
		check("in a moved directory", "e/d/link")
		x.must(x.in("e/moved", x.Unlink))
		at = "e/d/link"
		check("with one name less")
		x.must(x.rename("e/d/link", "e/d/big", unix.RENAME_EXCHANGE))
		at = "e/d/big"
		check("exchanged")
		h := x.hold(at)
		x.must(x.in(at, x.Unlink))
		f, err := x.Open(context.Background(), h.ID, unix.O_RDWR)
		x.must(err)
		buf := make([]byte, 10)
		if _, err := f.ReadAt(buf, 5); err != nil || string(buf) != data[5:15] {
			t.Errorf("opened after it lost its last name it reads %q, %v", buf, err)
		}
		x.must(f.Close())
		x.forget(h)
		wantForgotten(x)
	})
}

func TestMetacopyTruncated(t *testing.T) {
	needRoot(t)
	for _, size := range []int64{0, 1, 4096, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		x, _, data := metacopyFixture(t, FormatKernel)
		x.must(x.chmod("d/big", 0o600))
		var copied int64
		stop := x.Observe(func(e Event) {
			if e.Op == OpCopyUp {
				copied += e.Bytes
			}
		})
		x.must(x.setattr("d/big", SetAttr{Size: &size}))
		stop()
		if want := min(size, 1<<20); copied != want {
			t.Errorf("truncate to %d copied %d bytes", size, copied)
		}
		want := data[:min(size, 1<<20)] + strings.Repeat("\x00", int(max(0, size-1<<20)))
		x.wantData("truncated", "d/big", want)
		if x.hasXattr("d/big", xMetacopy) {
			t.Error("the mark is still there")
		}
		wantSameAfterRemount(x)
		x.wantData("after remount", "d/big", want)
	}
}

// TestBringDataAfterCrash starts from what a crash leaves behind each step.
func TestBringDataAfterCrash(t *testing.T) {
	needRoot(t)
	crashes := map[string]struct {
		script string // in the upper
		want   func(data string) string
		whole  bool // the data has come
	}{
		"before anything":     {`true`, func(d string) string { return d }, false},
		"amid the data":       {`printf junk | dd of=d/big conv=notrunc status=none`, func(d string) string { return d }, false},
		"shortened":           {`head -c 100 LOWER/d/big | dd of=d/big conv=notrunc status=none; truncate -s 100 d/big`, func(d string) string { return d[:100] }, true},
		"shortened to none":   {`truncate -s 0 d/big`, func(string) string { return "" }, true},
		"unmarked":            {`cat LOWER/d/big > d/big; setfattr -n trusted.overlay.redirect -v /d/big d/big; setfattr -x trusted.overlay.metacopy d/big`, func(d string) string { return d }, true},
		"a redirect too much": {`setfattr -n trusted.overlay.redirect -v /d/big d/big`, func(d string) string { return d }, false},
	}
	for name, c := range crashes {
		t.Run(name, func(t *testing.T) {
			x, _, data := metacopyFixture(t, FormatKernel)
			x.must(x.chmod("d/big", 0o600))
			x.close()
			run(t, x.upper, strings.ReplaceAll(c.script, "LOWER", x.layers[0]))
			x.openWith(func(o *Options) { o.ReadOnly = true })
			want := c.want(data)
			x.wantData("read-only", "d/big", want)
			x.reopen()
			x.wantData("after the crash", "d/big", want)
			if x.hasXattr("d/big", xMetacopy) == c.whole {
				t.Errorf("marked: %v", !c.whole)
			}
			// To the lower's size again: the mark must not mean anything by then.
			x.must(x.on("d/big", func(id ID) error {
				h, err := x.Open(context.Background(), id, unix.O_WRONLY)
				if err != nil {
					return err
				}
				defer h.Close()
				_, err = h.WriteAt([]byte("end"), 1<<20-3)
				return err
			}))
			want += strings.Repeat("\x00", 1<<20-len(want))
			want = want[:1<<20-3] + "end"
			x.wantData("written", "d/big", want)
			wantSameAfterRemount(x)
			x.wantData("after remount", "d/big", want)
		})
	}
}

// TestBringDataKeepsAttributes: what others set while the data is on its way stays,
// and so do capabilities, which writing takes away.
func TestBringDataKeepsAttributes(t *testing.T) {
	needRoot(t)
	x, o, data := metacopyFixture(t, FormatKernel)
	caps := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	x.must(x.on("d/big", func(id ID) error {
		return x.Setxattr(context.Background(), id, "security.capability", []byte(caps), 0)
	}))
	other := make(chan error, 1)
	o.hook = func() {
		o.hook = nil
		go func() {
			other <- x.setattr("d/big", SetAttr{Mtime: &tree.Time{Sec: 77}})
		}()
		time.Sleep(20 * time.Millisecond)
	}
	x.must(x.write("d/big", "", 0))
	x.must(<-other)
	if a := x.stat("d/big"); a.Mtime.Sec != 77 {
		t.Errorf("mtime %v", a.Mtime)
	}
	x.must(x.on("d/big", func(id ID) error {
		v, err := x.Getxattr(id, "security.capability")
		if string(v) != caps {
			t.Errorf("capability %q", v)
		}
		return err
	}))
	x.wantData("afterwards", "d/big", data)
}

// TestBringDataAtOnce: many writers and movers, one copy.
func TestBringDataAtOnce(t *testing.T) {
	needRoot(t)
	x, o, data := metacopyFixture(t, FormatKernel)
	x.must(x.chmod("d/big", 0o600))
	n := x.hold("d/big")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			h, err := x.Open(context.Background(), n.ID, unix.O_WRONLY)
			if err != nil {
				t.Error(err)
				return
			}
			defer h.Close()
			if _, err := h.WriteAt([]byte{byte(i)}, int64(i)); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() { x.rename("d/big", "e/big", 0); x.rename("e/big", "d/big", 0) })
		wg.Go(func() { x.link("d/big", "e/l"+itoa(i)) })
	}
	wg.Wait()
	x.forget(n)
	if got := o.n.Load(); got != 1 {
		t.Errorf("the lower's data was opened %d times", got)
	}
	path := "d/big"
	if _, err := x.walk("d/big"); err != nil {
		path = "e/big"
	}
	x.wantData("afterwards", path, "\x00\x01\x02\x03\x04\x05\x06\x07"+data[8:])
	wantSameAfterRemount(x)
}

// TestUnlinkDuringBringData: the last name goes while the data is on its way.
func TestUnlinkDuringBringData(t *testing.T) {
	needRoot(t)
	x, o, data := metacopyFixture(t, FormatKernel)
	x.must(x.chmod("d/big", 0o600))
	o.hook = func() { o.hook = nil; x.must(x.in("d/big", x.Unlink)) }
	n := x.hold("d/big")
	h, err := x.Open(context.Background(), n.ID, unix.O_RDWR)
	x.must(err)
	buf := make([]byte, len(data))
	if _, err := h.ReadAt(buf, 0); err != nil || string(buf) != data {
		t.Errorf("other data: %v", err)
	}
	x.must(h.Close())
	x.forget(n)
	wantNames(t, "d", x.names("d"))
	wantForgotten(x)
}

func TestNoMetacopy(t *testing.T) {
	needRoot(t)
	x, _, data := metacopyFixture(t, FormatKernel)
	x.must(x.rename("d/big", "e/big", 0)) // while it is on
	x.openWith(func(o *Options) { o.NoMetacopy = true })
	x.wantData("what was copied up without before", "e/big", data)
	x.must(x.chmod("e/big", 0o600))

	y, o, data := metacopyFixture(t, FormatKernel)
	y.openWith(func(op *Options) { op.NoMetacopy = true; o.Tree = op.Lower; op.Lower = o })
	y.must(y.chmod("d/big", 0o600))
	if n := o.n.Load(); n != 1 {
		t.Errorf("the lower's data was opened %d times", n)
	}
	if y.hasXattr("d/big", xMetacopy) {
		t.Error("it is marked")
	}
	y.wantData("copied up", "d/big", data)
}
