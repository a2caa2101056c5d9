package fusefs

import (
	"errors"
	"strings"
	"testing"

	"strata/internal/histories"
	"strata/overlay"
)

// way is one of the ways in which a mount can be made.
type way struct {
	name        string
	format      overlay.Format
	options     Options
	oldData     bool // see histories.Lockstep
	passthrough bool
}

// ways by turns. All honour set-id bits and devices, as a plain directory does.
var ways = []way{
	{"passthrough", overlay.FormatKernel, Options{}, true, true},
	{"coherent", overlay.FormatKernel, Options{Coherent: true}, false, true},
	{"no passthrough", overlay.FormatKernel, Options{Passthrough: PassthroughOff}, false, false},
	{"observe", overlay.FormatKernel, Options{Observe: true}, false, false},
	{"user format", overlay.FormatUser, Options{}, true, true},
}

// play plays a history, and tells what was wrong. The lower is one tree file, as of an
// image, or plain directories.
func (s *stage) play(h histories.History, w way, file bool) (wrong []string) {
	top, err := s.memory.MkdirTemp()
	if err != nil {
		return []string{err.Error()}
	}
	a, err := histories.NewArena(top, h.Lowers)
	if err != nil {
		return []string{err.Error()}
	}
	defer func() {
		for _, c := range []histories.Children{s.plain, s.ours, s.kernel} {
			if err := c.Leave(); err != nil {
				wrong = append(wrong, err.Error())
			}
		}
		wrong = append(wrong, a.CheckLowers()...)
		if err := a.Remove(); err != nil {
			wrong = append(wrong, err.Error())
		}
	}()
	if file {
		err = histories.WriteTreeFile(top, a.Layers...)
	}
	err = errors.Join(err, a.MountKernel(!h.NoIndex), s.plain.Enter(a.Dir("plain")), s.kernel.Enter(a.Dir("kernel")))
	if err != nil {
		return []string{err.Error()}
	}

	l := &histories.Lockstep{Plain: s.plain, Ours: s.ours, Kernel: s.kernel, OldData: w.oldData, Passthrough: w.passthrough, HiddenLinks: !file, Met: s.met}
	var want, before, after histories.Tree
	wrong = s.mounted(a, w, "upper", "work", func() error {
		if wrong := l.Play(h.Steps); len(wrong) > 0 {
			return errors.New(strings.Join(wrong, "\n"))
		}
		want, before = l.Trees[0], l.Trees[1]
		return nil
	})
	s.steps += l.Steps
	if len(wrong) > 0 {
		return wrong
	}

	wrong = s.mounted(a, w, "upper", "work", func() (err error) {
		after, err = s.ours.Tree()
		return err
	})
	if !file {
		before, after = before.WithoutNlink(), after.WithoutNlink()
	}
	wrong = append(wrong, histories.Compare("after remount", before, after, histories.SameTime)...)
	wrong = append(wrong, histories.CompareInodes("after remount", before, after)...)
	if w.format == overlay.FormatKernel {
		view, err := a.KernelsView("upper", "work")
		if err != nil {
			return append(wrong, err.Error())
		}
		wrong = append(wrong, histories.Compare("the kernel's view of our upper", want.WithoutNlink(), view.WithoutNlink(), histories.When)...)
	}
	if !h.NoIndex || l.Broken {
		return wrong // what has an index is not for us
	}
	return append(wrong, s.takeOver(a, w)...)
}

// takeOver mounts what the kernel's overlayfs wrote.
func (s *stage) takeOver(a *histories.Arena, w way) (wrong []string) {
	want, err := s.kernel.Tree()
	if err == nil {
		err = errors.Join(s.kernel.Leave(), a.UnmountKernel())
	}
	if err != nil {
		return []string{err.Error()}
	}
	var got histories.Tree
	kernels := w
	kernels.format = overlay.FormatKernel
	wrong = s.mounted(a, kernels, "kupper", "kwork", func() (err error) {
		got, err = s.ours.Tree()
		return err
	})
	return append(wrong, histories.Compare("our view of the kernel's upper", want.WithoutNlink(), got.WithoutNlink(), histories.SameTime)...)
}

// TestMountedHistories plays histories of several processes through mounts.
// STRATA_HISTORIES says how many, STRATA_SEED which is the first.
func TestMountedHistories(t *testing.T) {
	s := newStage(t)
	run := histories.RunFromEnv("mounted", 30)
	t.Logf("first seed %d", run.Seed)
	for i := range uint64(run.Count) {
		seed := run.Seed + i
		h := histories.DrawMounted(seed, 120)
		w, file := ways[[]int{0, 1, 0, 2, 0, 1, 4, 3}[seed%8]], seed%3 > 0
		wrong := s.play(h, w, file)
		if len(wrong) == 0 {
			continue
		}
		h.Steps, wrong = histories.Shrink(h.Steps, wrong, func(some []histories.Step) []string {
			less := h
			less.Steps = some
			return s.play(less, w, file)
		})
		t.Fatalf("seed %d (STRATA_SEED=%d STRATA_HISTORIES=1), %s, tree file %v:\n%s\n\n%s",
			seed, seed, w.name, file, strings.Join(wrong, "\n"), h.Script())
	}
	run.Steps = s.steps
	for i, d := range histories.Differences {
		if d.Calls != nil {
			t.Logf("met %d times: %s", s.met[i], d.What)
		}
	}
	if err := run.Done(); err != nil {
		t.Error(err)
	}
}

// TestMountedDifferences shows each line of the table on mounts, and prints it.
func TestMountedDifferences(t *testing.T) {
	s := newStage(t)
	t.Logf("%-85s %-12s %-12s %-12s %-12s %s", "", "plain", "overlayfs", "mounted", "no passthr.", "because")
	for _, d := range histories.Differences {
		if d.Mounted == "" {
			continue
		}
		var got [5]string
		for i, w := range []way{ways[0], ways[2], ways[3]} {
			if w.options.Observe && d.Observe == "" {
				continue
			}
			top, err := s.memory.MkdirTemp()
			if err != nil {
				t.Fatal(err)
			}
			a, err := histories.NewArena(top, histories.DifferencesLowers)
			if err == nil {
				got[0], got[1], err = a.ProbeHost(d, s.plain, s.kernel)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range s.mounted(a, w, "upper", "work", func() (err error) {
				got[2+i], err = d.Ask(s.ours)
				return err
			}) {
				t.Error(w)
			}
			if err := a.Remove(); err != nil {
				t.Error(err)
			}
		}
		if want := [5]string{d.Plain, d.Kernel, d.Mounted, d.NoPassthrough, d.Observe}; got != want {
			t.Errorf("%s: plain, overlayfs, mounted, without passthrough, observe: %q, the table says %q", d.What, got, want)
		}
		t.Logf("%-85s %-12s %-12s %-12s %-12s %s", d.What, d.Plain, d.Kernel, d.Mounted, d.NoPassthrough, d.Why)
	}
}
