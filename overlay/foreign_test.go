package overlay

import (
	"context"
	"math/rand/v2"
	"os"
	"strata/internal/histories"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kernelDoes mounts the fixture's layers and upper as the kernel's overlayfs, calls
// fn with where, and tells what is seen at the end.
func kernelDoes(t testing.TB, x *fixture, fn func(root string)) histories.Tree {
	t.Helper()
	x.close()
	dir := t.TempDir()
	mountKernel(t, x, dir, "index=off")
	defer unix.Unmount(dir, 0)
	fn(dir)
	d := dumpDir(t, dir)
	x.open()
	return d
}

// TestKernelsUpper: histories run on the kernel's overlayfs, then the upper is ours,
// then the kernel's again.
func TestKernelsUpper(t *testing.T) {
	needRoot(t)
	seed := rand.Uint64()
	for i := range uint64(count("STRATA_HISTORIES", 15)) {
		r := rand.New(rand.NewPCG(seed+i, 0))
		top := tempDir(t)
		layers, _ := makeLayers(t, top)
		guardLowers(t, layers...)
		x := newFixtureAt(t, top, FormatKernel, layers...)
		kernels := func() {
			x.close()
			dir := t.TempDir()
			mountKernel(t, x, dir, "index=off")
			w := &histories.Directory{}
			x.must(w.Enter(dir))
			for range 60 {
				w.Do(histories.DrawNameStep(r.IntN))
			}
			x.must(w.Leave())
			want := dumpDir(t, dir)
			if err := unix.Unmount(dir, 0); err != nil {
				t.Fatal(err)
			}
			x.open()
			got := x.dump()
			compare(t, "what the kernel wrote", want, got, true)
			wantUniqueInodes(t, got)
		}
		ours := func() {
			for range 60 {
				x.do(histories.DrawNameStep(r.IntN))
			}
			want := x.dump()
			wantUniqueInodes(t, want)
			x.reopen()
			after := x.dump()
			compare(t, "after remount", want, after, true)
			wantSameInodes(t, want, after)
			x.close()
			compare(t, "the kernel's view of what we wrote on", want, kernelView(t, x), true)
			x.open()
		}
		kernels()
		ours()
		kernels()
		ours()
		x.close()
		if t.Failed() {
			t.Fatalf("seed %d", seed+i)
		}
	}
}

// wantUniqueInodes is histories.CheckLinks but for the number of names, which in plain lower
// directories counts those that are hidden.
func wantUniqueInodes(t testing.TB, dump histories.Tree) {
	t.Helper()
	report(t, histories.CheckInodes("merged", dump))
}

// TestKernelsMarks looks at one thing after another that the kernel writes.
func TestKernelsMarks(t *testing.T) {
	needRoot(t)
	lower := shell(t, `
		mkdir -p d/sub e; echo f > f; echo g > g; echo deep > d/sub/file; echo h > one; ln one two
		head -c 100000 /dev/zero | tr '\0' x > big
	`)
	guardLowers(t, lower)
	inos := map[string]uint64{}
	x := newFixture(t, FormatKernel, lower)
	for _, p := range []string{"f", "g", "big", "d", "d/sub", "d/sub/file"} {
		inos[p] = x.stat(p).Ino
	}
	want := kernelDoes(t, x, func(root string) {
		run(t, root, `
			chmod 600 f big             # copied up with and without data
			echo more >> g
			mv d/sub d/moved            # a relative redirect
			mv d e/d                    # an absolute one
			chmod 600 e/d/moved/file
			mkdir pure; mv one pure/one # no mark at the directory
		`)
	})
	compare(t, "what the kernel wrote", want, x.dump(), true)
	if v, err := (inode{name: x.upper + "/e/d/moved"}).hostXattr("trusted.overlay.redirect"); err != nil || strings.HasPrefix(string(v), "/") {
		t.Errorf("the kernel's redirect is %q, %v: want a relative one", v, err)
	}
	for p, at := range map[string]string{"f": "f", "g": "g", "big": "big", "d": "e/d", "d/sub": "e/d/moved", "d/sub/file": "e/d/moved/file"} {
		if got := x.stat(at).Ino; got != inos[p] {
			t.Errorf("%s is inode %d, the lower's %s is %d", at, got, p, inos[p])
		}
	}
	// The numbers stay when we move them.
	x.must(x.rename("g", "e/g2", 0))
	x.must(x.rename("big", "e/big2", 0))
	x.must(x.write("e/big2", "y", 0))
	x.reopen()
	for p, at := range map[string]string{"g": "e/g2", "big": "e/big2"} {
		if got := x.stat(at).Ino; got != inos[p] {
			t.Errorf("moved to %s it is inode %d, was %d", at, got, inos[p])
		}
	}
	x.wantData("moved and written", "e/big2", "y"+strings.Repeat("x", 99999))
	x.wantData("in a pure directory", "pure/one", "h\n")
	wantSameAfterRemount(x)
}

// TestXattrWhiteouts: the other form of whiteouts, in a directory that says so.
func TestXattrWhiteouts(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		ns := format.namespace()
		lower := shell(t, `mkdir -p d/gone d/there; echo a > d/a; echo b > d/b; echo c > d/c; echo x > d/gone/x`)
		guardLowers(t, lower)
		x := newFixture(t, format, lower)
		x.close()
		run(t, x.upper, `
			mkdir -m 755 d; setfattr -n `+ns+`overlay.opaque -v x d
			: > d/a; : > d/gone; setfattr -n `+ns+`overlay.whiteout -v y d/a d/gone
			: > d/b # no whiteout
		`)
		x.open()
		wantNames(t, "d", x.names("d"), "b", "c", "there")
		for _, p := range []string{"d/a", "d/gone", "d/gone/x"} {
			if _, err := x.walk(p); errnoOf(err) != unix.ENOENT {
				t.Errorf("%s: %v", p, err)
			}
		}
		if a := x.stat("d"); a.Nlink != 3 {
			t.Errorf("nlink %d", a.Nlink)
		}
		x.must(x.create("d/a", "new"))
		x.must(x.mkdir("d/gone"))
		wantNames(t, "d/gone", x.names("d/gone"))
		x.must(x.in("d/c", x.Unlink))
		x.must(x.in("d/a", x.Unlink))
		wantNames(t, "d", x.names("d"), "b", "gone", "there")
		wantSameAfterRemount(x)
	})
}

// TestReadOnlyWritesNothing shows an upper on a filesystem that cannot be written.
func TestReadOnlyWritesNothing(t *testing.T) {
	needRoot(t)
	lower := shell(t, renameLower)
	x := newFixture(t, FormatKernel, lower)
	upperPart(x)
	x.must(x.chmod("file", 0o600))
	x.must(x.rename("file", "moved", 0))
	want := x.dump()
	x.close()
	dir := t.TempDir()
	if err := unix.Mount(x.upper, dir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	before := dumpDir(t, dir)
	x.openWith(func(o *Options) { o.Upper, o.Work, o.ReadOnly = dir, "", true })
	compare(t, "read-only", want, x.dump(), true)
	wantErrno(t, "chmod", x.chmod("moved", 0o644), unix.EROFS)
	wantErrno(t, "open for writing", x.write("moved", "x", 0), unix.EROFS)
	wantErrno(t, "rename", x.rename("moved", "x", 0), unix.EROFS)
	wantErrno(t, "setting nothing", x.setattr("moved", SetAttr{}), 0)
	// A second one may look, too; one that writes may not come in.
	o := x.options()
	o.ReadOnly = true
	second, err := Open(o)
	x.must(err)
	o.ReadOnly = false
	if _, err := Open(o); errnoOf(err) != unix.EBUSY {
		t.Errorf("a writer beside readers: %v", err)
	}
	x.must(second.Close())
	x.must(second.Close()) // twice
	compare(t, "the upper afterwards", before, dumpDir(t, dir), true)
	x.close()
}

func TestNothingToChangeCopiesNothingUp(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, renameLower+`mkfifo fifo`))
	ctx := context.Background()
	size := int64(1)
	for path, want := range map[string]error{"full": unix.EISDIR, "sym": unix.ELOOP, "fifo": unix.ENXIO} {
		for _, flags := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_TRUNC} {
			err := x.on(path, func(id ID) error { _, err := x.Open(ctx, id, flags); return err })
			wantErrno(t, "open "+path, err, errnoOf(want))
		}
		if err := x.setattr(path, SetAttr{Size: &size}); err == nil {
			t.Errorf("truncate %s says nothing", path)
		}
	}
	x.must(x.setattr("file", SetAttr{}))
	if entries, err := os.ReadDir(x.upper); err != nil || len(entries) > 0 {
		t.Errorf("in the upper: %v, %v", entries, err)
	}
}

// TestHardLinksInMovedDirectories: some names of a lower inode are in directories that
// were moved by an earlier mount, one in the other, and nobody has looked there yet.
func TestHardLinksInMovedDirectories(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, linkedLower)
		guardLowers(t, lower)
		for name, moves := range map[string][][2]string{
			"one":        {{"b", "z"}},
			"nested":     {{"b/deep", "c/d"}, {"c", "x"}, {"b", "x/b"}},
			"of its own": {{"a", "c/a"}},
			"twice":      {{"b", "z"}, {"z", "c/z"}, {"c", "y"}},
			"over":       {{"b/deep", "d"}, {"c", "b/deep"}},
		} {
			for _, remount := range []bool{true, false} {
				t.Run(name, func(t *testing.T) {
					x := newFixture(t, format, lower)
					paths := append([]string{}, linkedNames...)
					for _, m := range moves {
						x.must(x.rename(m[0], m[1], 0))
						for i, p := range paths {
							if rest, ok := strings.CutPrefix(p, m[0]+"/"); ok {
								paths[i] = m[1] + "/" + rest
							}
						}
					}
					if remount {
						x.reopen()
					}
					x.must(x.write(paths[0], "DATA\n", 0))
					for _, p := range paths {
						x.wantData(name, p, "DATA\n")
					}
					wantLinkedEverywhere(x, name, paths...)
				})
			}
		}
	})
}

// TestMovedDirectoriesForgotten: a lower directory below one that was moved can be
// used by who has nothing else in hand.
func TestMovedDirectoriesForgotten(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `mkdir -p a/b/c`))
	x.must(x.rename("a", "n", 0))
	x.reopen()
	c := x.hold("n/b/c")
	n, h, err := x.Create(Caller{}, c.ID, "new", 0o644)
	x.must(err)
	x.must(h.Close())
	x.forget(n)
	wantNames(t, "n/b/c", x.names("n/b/c"), "new")
	d, err := x.OpenDir(c.ID)
	x.must(err)
	if p, err := d.Parent(); err != nil || p.Ino != x.stat("n/b").Ino {
		t.Errorf("parent %d, %v", p.Ino, err)
	}
	x.must(d.Close())
	x.forget(c)
	x.must(x.in("n/b/c/new", x.Unlink))
	x.must(x.in("n/b/c", x.Rmdir))
	x.must(x.in("n/b", x.Rmdir))
	x.must(x.in("n", x.Rmdir))
	wantForgotten(x)
}

// TestLinksMarkTooLong: the path by which an interrupted copy-up of an inode with
// several names is completed does not fit into an xattr.
func TestLinksMarkTooLong(t *testing.T) {
	needRoot(t)
	lower := t.TempDir()
	name := strings.Repeat("n", 250)
	run(t, lower, `for i in $(seq 17); do mkdir `+name+`; cd -P `+name+`; done; echo data > one; ln one two`)
	deep := strings.Repeat(name+"/", 17)
	x := newFixtureAt(t, t.TempDir(), FormatKernel, lower)
	ino := x.stat(deep + "one").Ino
	x.must(x.write(deep+"one", "DATA\n", 0))
	wantLinked(x, "copied up", deep+"one", deep+"two")
	// As after a crash between the links.
	x.close()
	run(t, x.upper, `
		for i in $(seq 17); do cd -P `+name+`; done
		ln one `+x.work+`/work/#crash
		setfattr -n trusted.overlay.strata.links `+x.work+`/work/#crash
		rm two
	`)
	x.open()
	wantLinked(x, "after the crash", deep+"one", deep+"two")
	if got := x.stat(deep + "two").Ino; got != ino {
		t.Errorf("inode %d, was %d", got, ino)
	}
}
