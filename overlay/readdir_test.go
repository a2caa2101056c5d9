package overlay

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

func TestReadDirMerges(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		base := shell(t, `mkdir -p d/sub d/gone; echo 1 > d/one; echo 2 > d/two; ln -s x d/sym; mkfifo d/fifo`)
		mid := shell(t, `mkdir d; echo 3 > d/three; mknod d/two c 0 0`)
		x := newFixture(t, format, base, mid)
		wantNames(t, "d of the lowers", x.names("d"), "fifo", "gone", "one", "sub", "sym", "three")
		x.must(x.create("d/new", "x"))
		x.must(x.create("d/two", "x"))
		x.must(x.mkdir("d/newdir"))
		x.must(x.in("d/gone", x.Rmdir))
		x.must(x.in("d/one", x.Unlink))
		x.must(x.chmod("d/three", 0o600))
		wantNames(t, "d", x.names("d"), "fifo", "new", "newdir", "sub", "sym", "three", "two")
		wantSameAfterRemount(x) // dump compares types and inode numbers with Lookup's
	})
}

// TestReadDirOfForeignUpper: what the upper's filesystem may hold otherwise.
func TestReadDirOfForeignUpper(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `mkdir d; echo 1 > d/one`))
	x.close()
	run(t, x.upper, `mkdir d; mknod d/nothing c 0 0; mknod d/null c 1 3; ln -s y d/one; setfattr -n trusted.overlay.impure -v y .`)
	x.open()
	wantNames(t, "d", x.names("d"), "null", "one")
	wantErrno(t, "Lookup of a whiteout of nothing", x.on("d/nothing", func(ID) error { return nil }), unix.ENOENT)
	wantSameAfterRemount(x)
}

// TestReadDirStable lists in small steps while others make and remove names: all
// that stay are seen once, those that come and go at most once.
func TestReadDirStable(t *testing.T) {
	needRoot(t)
	lower := shell(t, `mkdir d lowOnly; for i in $(seq 300); do echo > d/low$i; echo > lowOnly/low$i; done`)
	for _, dir := range []string{"d", "lowOnly"} {
		t.Run(dir, func(t *testing.T) {
			x := newFixture(t, FormatKernel, lower)
			if dir == "d" {
				for i := range 300 {
					x.must(x.create(fmt.Sprintf("d/up%d", i+1), ""))
				}
			}
			want := x.names(dir)
			for round := range 5 {
				n := x.hold(dir)
				d, err := x.OpenDir(n.ID)
				x.must(err)
				var wg sync.WaitGroup
				stop := make(chan struct{})
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						name := fmt.Sprintf("%s/new%d", dir, i%50)
						if err := x.create(name, ""); err != nil {
							t.Errorf("create: %v", err)
							return
						}
						if err := x.in(name, x.Unlink); err != nil {
							t.Errorf("unlink: %v", err)
							return
						}
					}
				})
				seen := map[string]int{}
				batch := make([]DirEntry, 3)
				for pos := 0; ; {
					k, err := d.ReadDir(pos, batch)
					x.must(err)
					for _, e := range batch[:k] {
						seen[e.Name]++
					}
					if pos += k; k < len(batch) {
						break
					}
				}
				close(stop)
				wg.Wait()
				for _, name := range want {
					if seen[name] != 1 {
						t.Errorf("round %d: %s was seen %d times", round, name, seen[name])
					}
				}
				for name, k := range seen {
					if k > 1 || !strings.HasPrefix(name, "new") && !slices.Contains(want, name) {
						t.Errorf("round %d: %s was seen %d times", round, name, k)
					}
				}
				x.must(d.Close())
				x.forget(n)
			}
			wantNames(t, dir, x.names(dir), want...)
		})
	}
}

// TestReadDirPositions: a position taken while the directory was lower-only
// is good after its copy-up; position 0 looks again.
func TestReadDirPositions(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `mkdir d; for i in 1 2 3 4 5 6; do echo > d/f$i; done`))
	n := x.hold("d")
	d, err := x.OpenDir(n.ID)
	x.must(err)
	batch := make([]DirEntry, 3)
	_, err = d.ReadDir(0, batch)
	x.must(err)
	x.must(x.create("d/a", "")) // sorts first
	x.must(x.in("d/f1", x.Unlink))
	rest := make([]DirEntry, 10)
	k, err := d.ReadDir(3, rest)
	x.must(err)
	got := []string{}
	for _, e := range rest[:k] {
		got = append(got, e.Name)
	}
	wantNames(t, "the rest", got, "f4", "f5", "f6")
	again, err := d.ReadDir(1, batch) // seekdir back
	if err != nil || again != 3 || batch[0].Name != "f2" {
		t.Errorf("position 1: %d %q %v", again, batch[0].Name, err)
	}
	names, err := listDir(d)
	x.must(err)
	wantNames(t, "from the start", names, "a", "f2", "f3", "f4", "f5", "f6")
	if k, err := d.ReadDir(1000, batch); k != 0 || err != nil {
		t.Errorf("far behind the end: %d, %v", k, err)
	}
	x.must(d.Close())
	x.forget(n)
}

func TestReadDirHuge(t *testing.T) {
	needRoot(t)
	const n = 50_000 // in the lower, and as many in the upper
	lower := tempDir(t)
	for i := range n {
		if err := unix.Mknod(filepath.Join(lower, "low"+itoa(i)), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
	x := newFixture(t, FormatKernel, lower)
	x.close()
	for i := range n {
		if err := unix.Mknod(filepath.Join(x.upper, "up"+itoa(i)), unix.S_IFREG|0o644, 0); err != nil {
			t.Fatal(err)
		}
	}
	x.open()
	for i := range 1000 {
		x.must(x.Unlink(Root, "low"+itoa(i*7)))
	}
	d, err := x.OpenDir(Root)
	x.must(err)
	defer d.Close()
	seen := make(map[string]bool, 2*n)
	batch := make([]DirEntry, 1000)
	for pos := 0; ; {
		k, err := d.ReadDir(pos, batch)
		x.must(err)
		for _, e := range batch[:k] {
			if seen[e.Name] || e.Ino == 0 || e.Type != tree.ModeRegular {
				t.Fatalf("%+v is wrong or seen twice", e)
			}
			seen[e.Name] = true
		}
		if pos += k; k < len(batch) {
			break
		}
	}
	if len(seen) != 2*n-1000 {
		t.Errorf("%d names, want %d", len(seen), 2*n-1000)
	}
	if len(x.nodes) != 1 {
		t.Errorf("listing left %d nodes", len(x.nodes))
	}
}

// TestReadDirImpure: a directory of the upper alone shows the lower's number of
// what was moved or linked into it, after a remount too, and needs no xattr of the
// others.
func TestReadDirImpure(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		x := newFixture(t, format, shell(t, `echo f > moved; echo g > linked; echo h > exchanged`))
		want := map[string]uint64{}
		for _, name := range []string{"moved", "linked", "exchanged"} {
			want[name] = x.stat(name).Ino
			x.must(x.mkdir("in-" + name))
		}
		x.must(x.mkdir("pure"))
		held := x.hold("in-moved") // what a node remembers of itself changes, too
		x.stat("in-moved")
		x.must(x.create("pure/born", ""))
		x.must(x.rename("moved", "in-moved/moved", 0))
		x.must(x.link("linked", "in-linked/linked"))
		x.must(x.create("in-exchanged/exchanged", ""))
		x.must(x.rename("exchanged", "in-exchanged/exchanged", unix.RENAME_EXCHANGE))
		x.dump()
		if got := x.stat("in-moved/moved").Ino; got != want["moved"] {
			t.Errorf("moved is inode %d, was %d", got, want["moved"])
		}
		x.forget(held)
		for range 2 {
			x.dump() // compares d_ino with st_ino
			for name, ino := range want {
				if got := x.stat("in-" + name + "/" + name).Ino; got != ino {
					t.Errorf("%s is inode %d, was %d", name, got, ino)
				}
			}
			x.reopen()
		}
		mark := format.namespace() + xImpure
		for _, dir := range []string{"in-moved", "in-linked", "in-exchanged"} {
			if _, err := unix.Lgetxattr(filepath.Join(x.upper, dir), mark, nil); err != nil {
				t.Errorf("%s is not marked: %v", dir, err)
			}
		}
		if _, err := unix.Lgetxattr(filepath.Join(x.upper, "pure"), mark, nil); err != unix.ENODATA {
			t.Errorf("pure is marked: %v", err)
		}
	})
}

func TestParentOfOpenDirectory(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `mkdir -p a/b/c z`))
	check := func(when, path string) {
		t.Helper()
		n := x.hold(path)
		d, err := x.OpenDir(n.ID)
		x.must(err)
		p, err := d.Parent()
		if want := x.stat(filepath.Dir(path)); err != nil || p.Ino != want.Ino || p.Mode != want.Mode {
			t.Errorf("%s: parent of %q: %+v, %v; want %+v", when, path, p, err, want)
		}
		x.must(d.Close())
		x.forget(n)
	}
	for _, p := range []string{"", "a", "a/b", "a/b/c"} {
		check("lower only", p)
	}
	x.must(x.chmod("a/b", 0o700))
	for _, p := range []string{"", "a", "a/b", "a/b/c"} {
		check("partly copied up", p)
	}
	x.must(x.mkdir("a/b/new"))
	x.must(x.rename("a/b/new", "z/new", 0))
	check("moved", "z/new")
}

func TestLookupOfWhatIsNoName(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `mkdir -p a/b low`))
	x.must(x.chmod("a/b", 0o700))
	for _, path := range []string{"", "a", "a/b", "low"} {
		n := x.hold(path)
		for name, want := range map[string]error{
			"": unix.ENOENT, ".": unix.EINVAL, "..": unix.EINVAL, "b/..": unix.EINVAL, "../work": unix.EINVAL,
			"b\x00": unix.EINVAL, strings.Repeat("n", 256): unix.ENAMETOOLONG, strings.Repeat("n", 255): unix.ENOENT,
		} {
			_, err := x.Lookup(n.ID, name)
			wantErrno(t, fmt.Sprintf("%q in %q", name, path), err, errnoOf(want))
			err = x.Unlink(n.ID, name)
			wantErrno(t, fmt.Sprintf("unlink of %q in %q", name, path), err, errnoOf(want))
		}
		x.forget(n)
	}
}
