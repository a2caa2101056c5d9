package overlay

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strata/internal/histories"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// within ends the program, with all stacks, when fn takes too long: then locks
// wait for each other.
func within(t testing.TB, d time.Duration, fn func()) {
	t.Helper()
	dog := time.AfterFunc(d, func() {
		pprof.Lookup("goroutine").WriteTo(os.Stderr, 2)
		panic("deadlock? " + t.Name())
	})
	defer dog.Stop()
	fn()
}

// usual are the errors that any history may meet; others tell of a mistake.
var usual = map[syscall.Errno]bool{
	0: true, unix.ENOENT: true, unix.EEXIST: true, unix.ENOTDIR: true, unix.EISDIR: true, unix.ENOTEMPTY: true,
	unix.EINVAL: true, unix.EXDEV: true, unix.ENXIO: true, unix.ELOOP: true, unix.ENODATA: true, unix.EPERM: true,
}

// TestParallelHistories runs several histories at once on the same names.
func TestParallelHistories(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		for range count("STRATA_HISTORIES", 6) {
			seed := rand.Uint64()
			top := tempDir(t)
			layers, _ := makeLayers(t, top)
			guardLowers(t, layers...)
			x := newFixtureAt(t, top, format, layers...)
			within(t, time.Minute, func() {
				var wg sync.WaitGroup
				for g := range uint64(6) {
					wg.Go(func() {
						r := rand.New(rand.NewPCG(seed, g))
						for range 250 {
							s := histories.DrawNameStep(r.IntN)
							if err := x.do(s); !usual[errnoOf(err)] {
								t.Errorf("%v: %v", s, err)
							}
							if r.IntN(10) == 0 {
								roam(t, x, r)
							}
						}
					})
				}
				wg.Wait()
			})
			wantForgotten(x)
			if left := x.staged(); len(left) > 0 {
				t.Errorf("left in the work directory: %q", left)
			}
			before := x.dump()
			compare(t, "the second look", before, x.dump(), true)
			report(t, histories.CheckLinks("after all", before))
			wantSameAfterRemount(x)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
			x.close()
		}
	})
}

// roam looks at what is there, as ls -lR does, while others change it.
func roam(t *testing.T, x *fixture, r *rand.Rand) {
	n, err := x.walk([]string{"", "a", "b", "n", "a/d", "b/d"}[r.IntN(6)])
	if err != nil {
		return
	}
	defer x.forget(n)
	if n.ID != Root && !n.Attr.IsDir() {
		return
	}
	d, err := x.OpenDir(n.ID)
	if err != nil {
		t.Errorf("OpenDir: %v", err)
		return
	}
	defer d.Close()
	batch := make([]DirEntry, 100)
	k, err := d.ReadDir(0, batch)
	if err != nil {
		t.Errorf("ReadDir: %v", err)
	}
	if _, err := d.Parent(); !usual[errnoOf(err)] {
		t.Errorf("Parent: %v", err)
	}
	for _, e := range batch[:k] {
		child, err := x.Lookup(n.ID, e.Name)
		if !usual[errnoOf(err)] {
			t.Errorf("Lookup: %v", err)
		}
		if err != nil {
			continue
		}
		if _, err := x.Getattr(child.ID); err != nil {
			t.Errorf("Getattr: %v", err)
		}
		if _, err := x.Listxattr(child.ID); err != nil {
			t.Errorf("Listxattr: %v", err)
		}
		x.forget(child)
	}
}

// TestParallelFirstUse: many find and change a directory that only the lower has,
// all at the same instant.
func TestParallelFirstUse(t *testing.T) {
	needRoot(t)
	lower := shell(t, `mkdir -p a/b/c; for i in $(seq 40); do echo $i > a/b/c/f$i; ln a/b/c/f$i a/g$i; mkdir a/b/c/d$i; done`)
	for range 30 {
		x := newFixture(t, FormatKernel, lower)
		within(t, time.Minute, func() {
			start := make(chan struct{})
			var wg sync.WaitGroup
			errs := make([]error, 10)
			for g := range errs {
				wg.Go(func() {
					c := x.hold("a/b/c")
					defer x.forget(c)
					<-start
					for i := 1; i <= 40; i++ {
						f := fmt.Sprintf("f%d", i)
						switch g % 5 {
						case 0:
							errs[g] = errors.Join(errs[g], x.create(fmt.Sprintf("a/b/c/new%d-%d", g, i), ""))
						case 1:
							n, err := x.Lookup(c.ID, fmt.Sprintf("d%d", i))
							if err == nil {
								_, err = x.Getattr(n.ID)
								x.forget(n)
							}
							errs[g] = errors.Join(errs[g], err)
						case 2:
							errs[g] = errors.Join(errs[g], x.mkdir(fmt.Sprintf("a/b/c/d%d/new%d", i, g)))
						case 3:
							errs[g] = errors.Join(errs[g], x.chmod("a/b/c/"+f, 0o600))
						case 4:
							if a, err := x.Getattr(c.ID); err != nil || a.Nlink != 42 {
								errs[g] = errors.Join(errs[g], fmt.Errorf("nlink %d, %w", a.Nlink, err))
							}
						}
					}
				})
			}
			close(start)
			wg.Wait()
			for g, err := range errs {
				if err != nil {
					t.Errorf("kind %d: %v", g%5, err)
				}
			}
		})
		wantForgotten(x)
		x.close()
	}
}

// TestParallelUnlinkOfHardLinks takes all names of an open file away at once.
func TestParallelUnlinkOfHardLinks(t *testing.T) {
	needRoot(t)
	lower := shell(t, `mkdir a b c d; echo data > a/f; ln a/f b/f; ln a/f c/f; ln a/f d/f`)
	for range 60 {
		x := newFixture(t, FormatKernel, lower)
		n := x.hold("a/f")
		var wg sync.WaitGroup
		errs := make([]error, 4)
		for i, dir := range []string{"a", "b", "c", "d"} {
			wg.Go(func() { errs[i] = x.in(filepath.Join(dir, "f"), x.Unlink) })
		}
		wg.Wait()
		x.must(errors.Join(errs...))
		if a, err := x.Getattr(n.ID); err != nil || a.Nlink != 0 || a.Size != 5 {
			t.Fatalf("%+v, %v", a, err)
		}
		x.forget(n)
		wantForgotten(x)
		x.close()
	}
}

// TestParallelWritersAndRename: an inode is reached while the directories above it
// move.
func TestParallelWritersAndRename(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `echo f > low`))
	x.must(x.mkdir("one"))
	x.must(x.mkdir("one/in"))
	x.must(x.mkdir("two"))
	x.must(x.create("one/in/file", "x"))
	x.must(x.create("target", "never"))
	n := x.hold("one/in/file")
	defer x.forget(n)
	within(t, time.Minute, func() {
		var wg sync.WaitGroup
		done := make(chan struct{})
		wg.Go(func() {
			defer close(done)
			for range 300 {
				x.must(x.rename("one/in", "two/in", 0))
				x.must(x.rename("target", "one/in", 0)) // the old path leads elsewhere
				x.must(x.rename("one/in", "target", 0))
				x.must(x.rename("two/in", "one/in", 0))
			}
		})
		for g := range 3 {
			wg.Go(func() {
				for i := int64(0); ; i++ {
					select {
					case <-done:
						return
					default:
					}
					mode, when := uint32(0o600+g), tree.Time{Sec: i}
					if _, err := x.Setattr(t.Context(), n.ID, SetAttr{Mode: &mode, Mtime: &when}); err != nil {
						t.Errorf("Setattr: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
	if a := x.stat("target"); a.Mode != unix.S_IFREG|0o644 {
		t.Errorf("another file was changed: mode %o", a.Mode)
	}
}
