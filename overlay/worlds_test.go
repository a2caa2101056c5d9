package overlay

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"strata/internal/histories"
)

// quiet is a testing.TB that remembers what failed and does not fail.
type quiet struct {
	testing.TB
	said     []string
	cleanups []func()
}

type giveUp struct{}

func (q *quiet) Helper()                        {}
func (q *quiet) Logf(format string, a ...any)   {}
func (q *quiet) Log(a ...any)                   {}
func (q *quiet) Cleanup(fn func())              { q.cleanups = append(q.cleanups, fn) }
func (q *quiet) Failed() bool                   { return len(q.said) > 0 }
func (q *quiet) Error(a ...any)                 { q.said = append(q.said, fmt.Sprint(a...)) }
func (q *quiet) Errorf(format string, a ...any) { q.said = append(q.said, fmt.Sprintf(format, a...)) }
func (q *quiet) Fatal(a ...any)                 { q.Error(a...); panic(giveUp{}) }
func (q *quiet) Fatalf(f string, a ...any)      { q.Errorf(f, a...); panic(giveUp{}) }

// catch runs fn and tells what it found to be wrong.
func (q *quiet) catch(fn func()) (wrong []string) {
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(giveUp); !ok {
				q.said = append(q.said, fmt.Sprintf("panic: %v\n%s", e, debug.Stack()))
			}
		}
		for _, fn := range slices.Backward(q.cleanups) {
			fn()
		}
		wrong = q.said
	}()
	fn()
	return nil
}

// replay is one history in three worlds: an FS, a plain directory and the kernel's
// overlayfs.
type replay struct {
	histories.History
	format Format
	dir    string // where the arena is made
	file   bool   // the lower is one tree file, as of an image, and no plain directories
	whole  bool   // with NoMetacopy
	met    map[int]int
	steps  int
}

// run plays these steps and tells what was wrong.
func (p *replay) run(t *testing.T, steps []histories.Step) (wrong []string) {
	q := &quiet{TB: t}
	return q.catch(func() { p.play(q, steps) })
}

func (p *replay) play(q *quiet, steps []histories.Step) {
	top, err := os.MkdirTemp(p.dir, "strata-overlay-test-")
	if err != nil {
		q.Fatal(err)
	}
	a, err := histories.NewArena(top, p.Lowers)
	if err != nil {
		os.RemoveAll(top)
		q.Fatal(err)
	}
	q.Cleanup(func() {
		report(q, a.CheckLowers())
		if err := a.Remove(); err != nil {
			q.Error(err)
		}
	})
	x := &fixture{t: q, layers: a.Layers, format: p.format, upper: a.Dir("upper"), work: a.Dir("work")}
	x.open()
	q.Cleanup(x.close)
	reopen := x.reopen
	if p.file {
		x.must(histories.WriteTreeFile(top, a.Layers...))
		reopen = func() {
			x.close()
			lower, err := histories.OpenTreeFile(top)
			x.must(err)
			q.Cleanup(func() { x.close(); lower.Close() })
			x.openWith(func(o *Options) { o.Lower = lower })
		}
		reopen()
	}
	x.noMetacopy = p.whole
	plain := &histories.Directory{}
	x.must(plain.Enter(a.Dir("plain")))
	x.must(a.MountKernel(true))
	kernel := &histories.Directory{}
	x.must(kernel.Enter(a.Dir("kernel")))
	q.Cleanup(func() { kernel.Leave() })
	q.Cleanup(func() { plain.Leave() })
	ours := &inProcess{x: x}
	l := &histories.Lockstep{Plain: plain, Ours: ours, Kernel: kernel, OldData: true, HiddenLinks: !p.file, Met: p.met}
	report(q, l.Play(steps))
	p.steps += l.Steps
	if q.Failed() {
		ours.End()
		return
	}
	p.checkUpper(q, x, a, plain, reopen)
}

// checkUpper wants the same tree of the upper as a layer, after a remount, and the
// kernel to see it, too.
func (p *replay) checkUpper(q *quiet, x *fixture, a *histories.Arena, plain histories.World, reopen func()) {
	want, err := plain.Tree()
	x.must(err)
	before := x.dump()
	checkLayer(q, x, p.file)
	wantForgotten(x)
	reopen()
	after := x.dump()
	if p.file {
		compare(q, "after remount", before, after, true)
	} else {
		compare(q, "after remount", before.WithoutNlink(), after.WithoutNlink(), true)
	}
	wantSameInodes(q, before, after)
	x.close()
	if p.format == FormatKernel {
		view, err := a.KernelsView("upper", "work")
		x.must(err)
		report(q, histories.Compare("the kernel's view of the upper", want.WithoutNlink(), view.WithoutNlink(), histories.When))
	}
}

// TestWorlds plays histories, with files that stay open from step to step, over one to
// eight lowers. STRATA_HISTORIES says how many, STRATA_SEED which is the first.
func TestWorlds(t *testing.T) {
	needRoot(t)
	run := histories.RunFromEnv("in-process", 50)
	t.Logf("first seed %d", run.Seed)
	met := map[int]int{}
	for i := range uint64(run.Count) {
		p := &replay{History: histories.DrawOverlay(run.Seed+i, 120), format: FormatKernel, dir: inMemory(), met: met}
		if i%4 == 3 {
			p.format = FormatUser
		}
		if i%50 == 49 {
			p.dir = "" // on a disk
		}
		p.file, p.whole = i%2 == 0, i%9 == 8
		wrong := p.run(t, p.Steps)
		run.Steps += p.steps
		if len(wrong) == 0 {
			continue
		}
		p.Steps, wrong = histories.Shrink(p.Steps, wrong, func(some []histories.Step) []string { return p.run(t, some) })
		t.Fatalf("seed %d (STRATA_SEED=%d STRATA_HISTORIES=1), format %s:\n%s\n\n%s", run.Seed+i, run.Seed+i, p.format, strings.Join(wrong, "\n"), p.Script())
	}
	for i, d := range histories.Differences {
		if d.Calls != nil {
			t.Logf("met %d times: %s", met[i], d.What)
		}
	}
	if err := run.Done(); err != nil {
		t.Error(err)
	}
}
