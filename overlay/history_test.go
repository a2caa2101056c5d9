package overlay

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strata/internal/histories"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// makeLayers returns two lower layers, base first, and makes a plain directory below
// top that holds what they merge to, as the kernel's overlayfs sees it. The layers
// are made once: nobody may change them.
func makeLayers(t testing.TB, top string) (layers []string, plain string) {
	t.Helper()
	layersOnce.Do(func() { layersDir = writeLayers(t) })
	if layersDir == "" {
		t.Fatal("there are no layers")
	}
	run(t, top, "cp -a "+layersDir+"/copy plain")
	return []string{layersDir + "/base", layersDir + "/mid"}, top + "/plain"
}

var (
	layersOnce sync.Once
	layersDir  string // removed by TestMain
)

func writeLayers(t testing.TB) string {
	t.Helper()
	script := `
mkdir base mid plain
mkdir -p base/a/d/e base/b/d base/n
echo one > base/f; echo two > base/a/f; echo three > base/a/g; echo four > base/a/d/f
echo five > base/b/f; ln base/b/f base/b/g; ln base/b/f base/a/h
ln -s /dev/null base/a/x; mkfifo base/b/h; echo six > base/a/d/e/f; echo seven > base/n/f
chown 1:2 base/a/g; chmod 4711 base/a/g; setfattr -n user.one -v 1 base/a/g base/b
chmod 2775 base/n; chown 0:1000 base/n
mkdir -p mid/a/d mid/n
mknod mid/a/f c 0 0; echo eight > mid/a/d/g; mkdir mid/b; setfattr -n trusted.overlay.opaque -v y mid/n
echo nine > mid/n/g; echo ten > mid/e; head -c 9000 /dev/urandom > mid/x
find base mid -exec touch -h -d '2001-02-03 04:05:06.789' {} +
mount -t overlay overlay -o ro,lowerdir=mid:base plain
cp -a plain copy
umount plain
`
	top, err := os.MkdirTemp(inMemory(), "strata-overlay-layers-")
	if err != nil {
		t.Fatal(err)
	}
	run(t, top, script)
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	return top
}

// TestHistories does random steps to an FS and to a plain directory and wants the
// same answers and, after that and after a remount, the same tree; and that the
// kernel, mounting the same upper, shows it, too.
func TestHistories(t *testing.T) {
	needRoot(t)
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		history(t, rt, tempDir(t), FormatKernel, seed, steps)
	})
}

// failer is what *rapid.T and *testing.T have in common.
type failer interface {
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

func history(t *testing.T, rt failer, top string, format Format, seed uint64, steps int) {
	layers, plain := makeLayers(t, top)
	guardLowers(t, layers...)
	x := newFixtureAt(t, top, format, layers...)
	defer x.close()
	r := rand.New(rand.NewPCG(seed, 0))
	w := &histories.Directory{}
	x.must(w.Enter(plain))
	defer w.Leave()
	for range steps {
		s := histories.DrawNameStep(r.IntN)
		got, want := errnoOf(x.do(s)), w.Do(s)
		rt.Logf("%v: %v", s, want)
		if got != want.Errno {
			rt.Fatalf("%v: %v, a plain directory says %v", s, histories.NameOf(got), want)
		}
	}
	want := dumpDir(t, plain)
	before := x.dump()
	compare(t, "merged", want, before, false)
	x.reopen()
	after := x.dump()
	compare(t, "after remount", before, after, true)
	wantSameInodes(t, before, after)
	x.close()
	if format == FormatKernel {
		compare(t, "kernel's view of the upper", want, kernelView(t, x), false)
	}
	if t.Failed() {
		rt.Fatalf("see above (seed %d, %d steps)", seed, steps)
	}
}

// kernelView mounts the fixture's layers and upper as the kernel's overlayfs and
// describes what is seen.
func kernelView(t testing.TB, x *fixture) histories.Tree {
	t.Helper()
	dir := t.TempDir()
	mountKernel(t, x, dir, "index=off")
	defer unix.Unmount(dir, 0)
	return dumpDir(t, dir)
}

// mountKernel mounts the fixture's layers and upper as the kernel's overlayfs.
func mountKernel(t testing.TB, x *fixture, dir, more string) {
	t.Helper()
	topmostFirst := slices.Clone(x.layers)
	slices.Reverse(topmostFirst)
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=on,metacopy=on,%s", strings.Join(topmostFirst, ":"), x.upper, x.work, more)
	if err := unix.Mount("overlay", dir, "overlay", 0, opts); err != nil {
		t.Fatalf("mount overlay -o %s: %v", opts, err)
	}
}

// TestHistorySeeds runs some histories that are new each time.
func TestHistorySeeds(t *testing.T) {
	needRoot(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("first seed %d", seed)
	for i := range uint64(count("STRATA_HISTORIES", 10)) {
		for _, format := range []Format{FormatKernel, FormatUser} {
			history(t, t, tempDir(t), format, seed+i, 150)
		}
	}
	history(t, t, t.TempDir(), FormatKernel, seed, 150) // on a disk
}

// count is a number that the environment can make larger, for long runs by hand.
func count(env string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil {
		return n
	}
	return usual
}
