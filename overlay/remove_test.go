package overlay

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

func bothFormats(t *testing.T, fn func(t *testing.T, format Format)) {
	needRoot(t)
	for _, format := range []Format{FormatKernel, FormatUser} {
		t.Run(format.String(), func(t *testing.T) { fn(t, format) })
	}
}

// isOpaque tells whether an upper directory has the mark.
func (x *fixture) isOpaque(path string) bool {
	buf := make([]byte, 8)
	n, err := unix.Lgetxattr(filepath.Join(x.upper, path), x.format.namespace()+xOpaque, buf)
	return err == nil && string(buf[:n]) == "y"
}

// wantSameAfterRemount also asks the kernel, where it can read the upper.
func wantSameAfterRemount(x *fixture) {
	x.t.Helper()
	want := x.dump()
	x.reopen()
	compare(x.t, "after remount", want, x.dump(), true)
	if x.format == FormatKernel {
		x.close()
		compare(x.t, "the kernel's view", want, kernelView(x.t, x), true)
		x.open()
	}
}

func TestWhiteouts(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, `mkdir -p d/empty d/full; echo f > d/f; ln -s x d/s; echo g > d/full/g; mkfifo d/p`)
		guardLowers(t, lower)
		x := newFixture(t, format, lower)
		x.must(x.create("d/born", "x"))
		x.must(x.mkdir("d/bornDir"))
		x.must(x.chmod("d/p", 0o600)) // a copied-up one

		x.must(x.in("d/f", x.Unlink))
		x.must(x.in("d/s", x.Unlink))
		x.must(x.in("d/p", x.Unlink))
		x.must(x.in("d/born", x.Unlink))
		x.must(x.in("d/empty", x.Rmdir))
		x.must(x.in("d/bornDir", x.Rmdir))
		for _, p := range []string{"d/f", "d/s", "d/p", "d/empty"} {
			if !x.isWhiteout(p) {
				t.Errorf("%s has no whiteout", p)
			}
		}
		for _, p := range []string{"d/born", "d/bornDir"} {
			if x.inUpper(p) {
				t.Errorf("%s, which the lower never had, left something", p)
			}
		}
		wantNames(t, "d", x.names("d"), "full")
		if left := x.staged(); len(left) > 0 {
			t.Errorf("left in the work directory: %q", left)
		}
		wantErrno(t, "unlink twice", x.in("d/f", x.Unlink), unix.ENOENT)
		wantErrno(t, "rmdir twice", x.in("d/empty", x.Rmdir), unix.ENOENT)
		wantErrno(t, "unlink of a directory", x.in("d/full", x.Unlink), unix.EISDIR)
		wantErrno(t, "rmdir of a file", x.in("d/full/g", x.Rmdir), unix.ENOTDIR)
		wantErrno(t, "rmdir of a full lower directory", x.in("d/full", x.Rmdir), unix.ENOTEMPTY)
		wantErrno(t, "link of what is gone", x.link("d/f", "d/g"), unix.ENOENT)
		wantSameAfterRemount(x)
	})
}

func TestRmdirOfDirectoryWithWhiteouts(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, `mkdir -p d/sub; echo f > d/f; echo g > d/sub/g`)
		x := newFixture(t, format, lower)
		x.must(x.in("d/f", x.Unlink))
		x.must(x.create("d/born", "x"))
		wantErrno(t, "rmdir with names of both", x.in("d", x.Rmdir), unix.ENOTEMPTY)
		x.must(x.in("d/sub/g", x.Unlink))
		x.must(x.in("d/sub", x.Rmdir))
		wantErrno(t, "rmdir with a name of the upper", x.in("d", x.Rmdir), unix.ENOTEMPTY)
		x.must(x.in("d/born", x.Unlink))
		x.must(x.in("d", x.Rmdir))
		if !x.isWhiteout("d") {
			t.Error("d has no whiteout")
		}
		wantNames(t, "/", x.names(""))
		if left := x.staged(); len(left) > 0 {
			t.Errorf("left in the work directory: %q", left)
		}

		// Inside a directory that is only the upper's: whiteouts there come from
		// what was moved in, and go with it.
		x.must(x.mkdir("d"))
		if !x.isOpaque("d") {
			t.Error("a directory over a whiteout is not opaque")
		}
		wantNames(t, "d, made again", x.names("d"))
		wantErrno(t, "stat of what the lower has there", x.on("d/f", func(ID) error { return nil }), unix.ENOENT)
		x.must(x.create("d/f", "second life"))
		wantSameAfterRemount(x)
		x.must(x.in("d/f", x.Unlink))
		if x.inUpper("d/f") {
			t.Error("a whiteout in an opaque directory")
		}
		x.must(x.in("d", x.Rmdir))
		if !x.isWhiteout("d") {
			t.Error("d has no whiteout the second time")
		}
		wantSameAfterRemount(x)
	})
}

func TestEverythingOverAWhiteout(t *testing.T) {
	makers := map[string]func(x *fixture, path string) error{
		"file": func(x *fixture, path string) error { return x.create(path, "new") },
		"dir":  func(x *fixture, path string) error { return x.mkdir(path) },
		"symlink": func(x *fixture, path string) error {
			return x.in(path, func(dir ID, name string) error {
				n, err := x.Symlink(Caller{UID: 3, GID: 4}, dir, name, "to")
				x.forget(n)
				return err
			})
		},
		"device": func(x *fixture, path string) error {
			return x.in(path, func(dir ID, name string) error {
				n, err := x.Mknod(Caller{UID: 3}, dir, name, unix.S_IFCHR|0o600, unix.Mkdev(1, 3))
				x.forget(n)
				return err
			})
		},
		"hard link":    func(x *fixture, path string) error { return x.link("other", path) },
		"renamed file": func(x *fixture, path string) error { return x.rename("other", path, 0) },
		"renamed dir": func(x *fixture, path string) error {
			if err := x.mkdir("newdir"); err != nil {
				return err
			}
			return x.rename("newdir", path, 0)
		},
	}
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, `mkdir -p wasdir; echo f > wasfile; echo g > wasdir/g; echo h > other`)
		for name, mk := range makers {
			for _, was := range []string{"wasfile", "wasdir"} {
				t.Run(name+" where "+was, func(t *testing.T) {
					x := newFixture(t, format, lower)
					if was == "wasdir" {
						x.must(x.in("wasdir/g", x.Unlink))
						x.must(x.in(was, x.Rmdir))
					} else {
						x.must(x.in(was, x.Unlink))
					}
					x.must(mk(x, was))
					if a := x.stat(was); a.IsDir() {
						wantNames(t, was, x.names(was))
						if !x.isOpaque(was) {
							t.Error("the directory is not opaque")
						}
					}
					wantErrno(t, "making it twice", x.mkdir(was), unix.EEXIST)
					if left := x.staged(); len(left) > 0 {
						t.Errorf("left in the work directory: %q", left)
					}
					wantSameAfterRemount(x)
				})
			}
		}
	})
}

// removeAll is rm -rf.
func (x *fixture) removeAll(path string) {
	x.t.Helper()
	if a := x.stat(path); !a.IsDir() {
		x.must(x.in(path, x.Unlink))
		return
	}
	for _, name := range x.names(path) {
		x.removeAll(path + "/" + name)
	}
	x.must(x.in(path, x.Rmdir))
}

func TestRemoveTreeAndRebuild(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, `mkdir -p t/a/b/c t/d; for i in $(seq 30); do echo $i > t/a/f$i; ln t/a/f$i t/d/l$i; ln -s x t/a/b/s$i; done`)
		guardLowers(t, lower)
		x := newFixture(t, format, lower)
		x.removeAll("t")
		wantNames(t, "/", x.names(""))
		wantSameAfterRemount(x)
		for _, d := range []string{"t", "t/a", "t/a/b", "t/d"} {
			x.must(x.mkdir(d))
		}
		x.must(x.create("t/a/f1", "again"))
		x.must(x.link("t/a/f1", "t/d/l1"))
		wantNames(t, "t/a", x.names("t/a"), "b", "f1")
		if x.isOpaque("t/a") {
			t.Error("a directory in an opaque one is marked itself, where the lower has nothing")
		}
		wantSameAfterRemount(x)
		x.removeAll("t")
		wantNames(t, "/", x.names(""))
		wantSameAfterRemount(x)
	})
}

func TestUnlinkedWhileOpen(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, `echo lower > low; echo lower > copied; echo lower > known`)
		x := newFixture(t, format, lower)
		x.must(x.create("born", "lower\n"))
		x.must(x.chmod("copied", 0o600))
		ctx := context.Background()
		for _, name := range []string{"low", "copied", "born"} {
			n := x.hold(name)
			flags := unix.O_RDWR
			if name == "low" {
				flags = unix.O_RDONLY
			}
			h, err := x.Open(ctx, n.ID, flags)
			x.must(err)
			x.must(x.in(name, x.Unlink))
			x.must(x.create(name, "another")) // the name is somebody else's now

			if a, err := x.Getattr(n.ID); err != nil || a.Nlink != 0 || a.Ino != n.Attr.Ino || a.Size != 6 {
				t.Errorf("%s: %+v, %v after unlink", name, a, err)
			}
			buf := make([]byte, 6)
			if _, err := h.ReadAt(buf, 0); err != nil || string(buf) != "lower\n" {
				t.Errorf("%s: read %q, %v", name, buf, err)
			}
			if name != "low" {
				if _, err := h.WriteAt([]byte("more"), 6); err != nil {
					t.Errorf("%s: write: %v", name, err)
				}
				if a, err := x.Getattr(n.ID); err != nil || a.Size != 10 {
					t.Errorf("%s: size %d, %v", name, a.Size, err)
				}
			}
			mode, uid, size, when := uint32(0o611), uint32(9), int64(3), tree.Time{Sec: 1, Nsec: 2}
			a, err := x.Setattr(ctx, n.ID, SetAttr{Mode: &mode, UID: &uid, Size: &size, Mtime: &when})
			if err != nil || a.Nlink != 0 || a.Mode&tree.ModePerm != mode || a.UID != uid || a.Size != size || a.Mtime != when || a.Ino != n.Attr.Ino {
				t.Errorf("%s: setattr gives %+v, %v", name, a, err)
			}
			x.must(x.Setxattr(ctx, n.ID, "user.x", []byte("y"), 0))
			if v, err := x.Getxattr(n.ID, "user.x"); err != nil || string(v) != "y" {
				t.Errorf("%s: xattr %q, %v", name, v, err)
			}
			again, err := x.Open(ctx, n.ID, unix.O_RDWR) // as through /proc/self/fd
			x.must(err)
			if _, err := again.ReadAt(buf[:3], 0); err != nil || string(buf[:3]) != "low" {
				t.Errorf("%s: opened again it reads %q, %v", name, buf[:3], err)
			}
			x.must(again.Close())
			if _, err := x.Link(ctx, n.ID, Root, "back"); !errors.Is(err, unix.ENOENT) {
				t.Errorf("%s: link of a removed file: %v", name, err)
			}
			if data, err := x.read(name); err != nil || data != "another" {
				t.Errorf("%s: the new file reads %q, %v", name, data, err)
			}
			x.must(h.Close())
			x.forget(n)
			if _, err := x.Getattr(n.ID); n.ID >= firstUpperID && !errors.Is(err, unix.ESTALE) {
				t.Errorf("%s: Getattr after the last Forget: %v", name, err)
			}
		}
		wantSameAfterRemount(x)
	})
}

func TestDirectoryRemovedWhileOpen(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, `mkdir -p low copied; echo f > copied/f; chmod 750 low`)
		x := newFixture(t, format, lower)
		x.must(x.mkdir("born"))
		x.must(x.in("copied/f", x.Unlink))
		ctx := context.Background()
		for _, name := range []string{"low", "copied", "born"} {
			n := x.hold(name)
			d, err := x.OpenDir(n.ID)
			x.must(err)
			x.must(x.in(name, x.Rmdir))
			x.must(x.mkdir(name))
			x.must(x.create(name+"/f", "x"))

			x.must(x.Fsyncdir(n.ID))
			a, err := x.Getattr(n.ID)
			if err != nil || a.Nlink != 0 || a.Ino != n.Attr.Ino || a.Mode != n.Attr.Mode {
				t.Errorf("%s: %+v, %v after rmdir", name, a, err)
			}
			if names, err := listDir(d); err != nil || len(names) > 0 {
				t.Errorf("%s: the open directory lists %q, %v", name, names, err)
			}
			_, err = x.Lookup(n.ID, "f")
			wantErrno(t, name+": Lookup", err, unix.ENOENT)
			_, _, err = x.Create(Caller{}, n.ID, "g", 0o600)
			wantErrno(t, name+": Create", err, unix.ENOENT)
			_, err = x.Mkdir(Caller{}, n.ID, "g", 0o700)
			wantErrno(t, name+": Mkdir", err, unix.ENOENT)
			wantErrno(t, name+": Unlink", x.Unlink(n.ID, "f"), unix.ENOENT)
			wantErrno(t, name+": Rename from it", x.Rename(ctx, n.ID, "f", Root, "z", 0), unix.ENOENT)
			wantErrno(t, name+": Rename to it", x.Rename(ctx, Root, name, n.ID, "z", 0), unix.ENOENT)
			f := x.hold(name + "/f")
			_, err = x.Link(ctx, f.ID, n.ID, "z")
			wantErrno(t, name+": Link to it", err, unix.ENOENT)
			x.forget(f)
			mode := uint32(0o711)
			if a, err := x.Setattr(ctx, n.ID, SetAttr{Mode: &mode}); err != nil || a.Mode&tree.ModePerm != mode || a.Nlink != 0 {
				t.Errorf("%s: setattr gives %+v, %v", name, a, err)
			}
			if _, err := d.Parent(); err != nil {
				t.Errorf("%s: Parent: %v", name, err)
			}
			x.must(x.Fsyncdir(n.ID))
			x.must(d.Close())
			x.forget(n)
		}
		wantSameAfterRemount(x)
	})
}

// TestManyWhiteouts: more of them than an inode may have names.
func TestManyWhiteouts(t *testing.T) {
	needRoot(t)
	lower := shell(t, `mkdir d; for i in $(seq 20); do echo > d/f$i; done`)
	x := newFixtureAt(t, t.TempDir(), FormatKernel, lower) // on a disk, where there is a limit
	x.must(x.in("d/f1", x.Unlink))
	first := x.upperStat("d/f1")
	elsewhere := filepath.Join(x.work, "more")
	x.must(os.Mkdir(elsewhere, 0o700))
	for i := 0; ; i++ {
		err := os.Link(filepath.Join(x.upper, "d/f1"), filepath.Join(elsewhere, itoa(i)))
		if errors.Is(err, unix.EMLINK) || i == 1<<17 {
			break
		}
		x.must(err)
	}
	x.must(os.Remove(filepath.Join(elsewhere, "0"))) // room for the next
	for i := 2; i <= 20; i++ {
		x.must(x.in("d/f"+itoa(i), x.Unlink))
	}
	if second := x.upperStat("d/f2"); second.Ino != first.Ino {
		t.Error("whiteouts do not share an inode")
	}
	wantNames(t, "d", x.names("d"))
	if left := x.staged(); len(left) > 0 {
		t.Errorf("left in the work directory: %q", left)
	}
	wantSameAfterRemount(x)
}
