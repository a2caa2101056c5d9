package overlay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strata/internal/histories"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// watchOnly collects the events of fn, the operation that is meant and what it
// does inside, without the lookups on the way.
func watchOnly(x *fixture, fn func()) []string {
	var mu sync.Mutex
	var got []string
	stop := x.Observe(func(e Event) {
		if e.Op == OpLookup || e.Time.IsZero() || e.Duration < 0 {
			return
		}
		s := fmt.Sprintf("%s %s", e.Op, e.Path)
		if e.To != "" {
			s += " [" + e.To + "]"
		}
		s += fmt.Sprintf(" layer %d", e.Layer)
		if e.Bytes > 0 {
			s += fmt.Sprintf(" bytes %d", e.Bytes)
		}
		if e.Err != 0 {
			s += " " + unix.ErrnoName(e.Err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, s)
	})
	defer stop()
	fn()
	return got
}

func TestEvents(t *testing.T) {
	needRoot(t)
	base := shell(t, `mkdir -p d/sub; head -c 1000 /dev/zero > d/big; echo f > d/f; echo v > d/victim; ln -s to sym; echo one > one; ln one two`)
	top := shell(t, `mkdir d; echo top > d/top; setfattr -n user.x -v 1 d/top`)
	ctx := context.Background()
	open := func(path string, flags int, then func(h *File)) func(x *fixture) {
		return func(x *fixture) {
			x.must(x.on(path, func(id ID) error {
				h, err := x.Open(ctx, id, flags)
				if err != nil {
					return err
				}
				defer h.Close()
				then(h)
				return nil
			}))
		}
	}
	nothing := func(*File) {}
	tests := []struct {
		name string
		do   func(x *fixture)
		want []string
	}{
		{"getattr", func(x *fixture) { x.stat("d/f") }, []string{"getattr /d/f layer 0"}},
		{"getattr of the top layer", func(x *fixture) { x.stat("d/top") }, []string{"getattr /d/top layer 1"}},
		{"readlink", func(x *fixture) {
			x.must(x.on("sym", func(id ID) error { _, err := x.Readlink(id); return err }))
		}, []string{"readlink /sym [to] layer 0"}},
		{"readdir", func(x *fixture) { x.names("d") }, []string{"readdir /d layer 1"}},
		{"read", open("d/big", unix.O_RDONLY, func(h *File) { h.ReadAt(make([]byte, 600), 500) }), []string{
			"open /d/big [read] layer 0", "read /d/big layer 0 bytes 500"}},
		{"chmod copies metadata", func(x *fixture) { x.must(x.chmod("d/big", 0o600)) }, []string{
			"copy-up /d layer -1", "copy-up /d/big layer -1", "setattr /d/big [mode] layer -1"}},
		{"truncating open copies nothing", open("d/big", unix.O_WRONLY|unix.O_TRUNC, nothing), []string{
			"copy-up /d layer -1", "copy-up /d/big layer -1", "open /d/big [write truncate] layer -1"}},
		{"append copies all", open("d/big", unix.O_WRONLY, func(h *File) { h.WriteAt([]byte("abc"), 1000); h.Sync(true) }), []string{
			"copy-up /d layer -1", "copy-up /d/big layer -1 bytes 1000", "open /d/big [write] layer -1",
			"write /d/big layer -1 bytes 3", "fsync /d/big layer -1"}},
		{"truncate copies what remains", func(x *fixture) { size := int64(10); x.must(x.setattr("d/big", SetAttr{Size: &size})) }, []string{
			"copy-up /d layer -1", "copy-up /d/big layer -1 bytes 10", "setattr /d/big [size] layer -1"}},
		{"create", func(x *fixture) { x.must(x.create("new", "data")) }, []string{
			"create /new layer -1", "write /new layer -1 bytes 4"}},
		{"create that fails", func(x *fixture) { x.create("one", "") }, []string{"create /one layer -1 EEXIST"}},
		{"mkdir", func(x *fixture) { x.must(x.mkdir("d/new")) }, []string{"copy-up /d layer -1", "mkdir /d/new layer -1"}},
		{"mknod", func(x *fixture) {
			_, err := x.Mknod(Caller{}, Root, "fifo", unix.S_IFIFO|0o600, 0)
			x.must(err)
		}, []string{"mknod /fifo layer -1"}},
		{"symlink", func(x *fixture) { _, err := x.Symlink(Caller{}, Root, "s", "target"); x.must(err) }, []string{"symlink /s [target] layer -1"}},
		{"link", func(x *fixture) { x.must(x.link("d/f", "l")) }, []string{
			"copy-up /d layer -1", "copy-up /d/f layer -1", "redirect /d/f [/d/f] layer -1", "link /d/f [/l] layer -1"}},
		{"unlink", func(x *fixture) { x.must(x.in("sym", x.Unlink)) }, []string{"whiteout /sym layer -1", "unlink /sym layer -1"}},
		{"unlink of nothing", func(x *fixture) { x.in("nothing", x.Unlink) }, []string{"unlink /nothing layer -2 ENOENT"}},
		{"unlink of a hard link", func(x *fixture) { x.must(x.in("two", x.Unlink)) }, []string{
			"redirect /one [/one] layer -1", "copy-up /one layer -1", "whiteout /two layer -1", "unlink /two layer -1"}},
		{"rmdir", func(x *fixture) { x.must(x.in("d/sub", x.Rmdir)) }, []string{
			"copy-up /d layer -1", "whiteout /d/sub layer -1", "rmdir /d/sub layer -1"}},
		{"rename of a directory", func(x *fixture) { x.must(x.rename("d", "n", 0)) }, []string{
			"copy-up /d layer -1", "redirect /d [/d] layer -1", "whiteout /d layer -1", "rename /d [/n] layer -1"}},
		{"rename of a file", func(x *fixture) { x.must(x.rename("d/f", "d/victim", 0)) }, []string{
			"copy-up /d layer -1", "copy-up /d/f layer -1", "redirect /d/f [/d/f] layer -1", "whiteout /d/f layer -1", "rename /d/f [/d/victim] layer -1"}},
		{"getxattr", func(x *fixture) {
			x.must(x.on("d/top", func(id ID) error { _, err := x.Getxattr(id, "user.x"); return err }))
		}, []string{"getxattr /d/top [user.x] layer 1"}},
		{"listxattr", func(x *fixture) {
			x.must(x.on("d/top", func(id ID) error { _, err := x.Listxattr(id); return err }))
		}, []string{"listxattr /d/top layer 1"}},
		{"setxattr", func(x *fixture) {
			x.must(x.on("d", func(id ID) error { return x.Setxattr(ctx, id, "user.y", nil, 0) }))
		}, []string{"copy-up /d layer -1", "setxattr /d [user.y] layer -1"}},
		{"removexattr of none", func(x *fixture) {
			x.on("d", func(id ID) error { return x.Removexattr(ctx, id, "user.none") })
		}, []string{"removexattr /d [user.none] layer -1 ENODATA"}},
		{"fsyncdir", func(x *fixture) { x.must(x.on("d", x.Fsyncdir)) }, []string{"fsync /d layer 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newFixture(t, FormatKernel, base, top)
			got := watchOnly(x, func() { tt.do(x) })
			if !slices.Equal(got, tt.want) {
				t.Errorf("events:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"))
			}
		})
	}
}

// TestEventsOfLookup: who answered, and who has no such name.
func TestEventsOfLookup(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `mkdir d; echo f > d/f`))
	x.must(x.create("d/up", "x"))
	var got []string
	stop := x.Observe(func(e Event) { got = append(got, fmt.Sprint(e.Op, " ", e.Path, " ", e.Layer, " ", e.Err != 0)) })
	x.must(x.on("d/f", func(ID) error { return nil }))
	x.must(x.on("d/up", func(ID) error { return nil }))
	x.on("d/none", func(ID) error { return nil })
	stop()
	x.must(x.on("d/f", func(ID) error { return nil }))
	want := []string{"lookup /d -1 false", "lookup /d/f 0 false", "lookup /d -1 false", "lookup /d/up -1 false", "lookup /d -1 false", "lookup /d/none -2 true"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

// TestObserveAtOnce lets watchers come and go while histories run. Every event is a
// whole one, and after stop has returned and the histories are over none comes.
func TestObserveAtOnce(t *testing.T) {
	needRoot(t)
	top := tempDir(t)
	layers, _ := makeLayers(t, top)
	x := newFixtureAt(t, top, FormatKernel, layers...)
	seed := rand.Uint64()
	var seen atomic.Int64
	var wg sync.WaitGroup
	for i := range uint64(3) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, i))
			for range 200 {
				x.do(histories.DrawNameStep(r.IntN))
			}
		})
		wg.Go(func() {
			for range 50 {
				stop := x.Observe(func(e Event) {
					seen.Add(1)
					if e.Op == "" || e.Path != "" && !strings.HasPrefix(e.Path, "/") {
						t.Errorf("event %+v", e)
					}
				})
				stop()
			}
		})
	}
	always := x.Observe(func(Event) { seen.Add(1) })
	wg.Wait()
	always()
	before := seen.Load()
	if before == 0 {
		t.Error("nothing was seen")
	}
	x.stat("a")
	if seen.Load() != before {
		t.Error("an event came after stop")
	}
	wantForgotten(x)
}

// TestUnwatchedAllocatesNothing: asking whether anybody watches is all that an
// operation pays.
func TestUnwatchedAllocatesNothing(t *testing.T) {
	needRoot(t)
	x := treeFixture(t, FormatKernel, shell(t, benchLower))
	x.Observe(func(Event) {})() // comes and goes
	f := x.hold("usr/lib/f1")
	h, err := x.Open(context.Background(), f.ID, unix.O_RDONLY)
	x.must(err)
	buf := make([]byte, 1)
	if k := testing.AllocsPerRun(100, func() {
		h.ReadAt(buf, 0)
		x.Getattr(f.ID)
		x.Listxattr(f.ID)
	}); k != 0 {
		t.Errorf("%v allocations", k)
	}
	x.must(h.Close())
	x.forget(f)
}
