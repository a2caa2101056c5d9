package fusefs

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/histories"
)

// odd are answers that no call of a sound filesystem gives, whatever others do
// meanwhile.
var odd = []syscall.Errno{histories.Bad, unix.EIO, unix.ENOTCONN, unix.ENOSYS, unix.EFAULT, unix.ESTALE, unix.EREMOTEIO, unix.ECONNABORTED, unix.ENOMEM}

// TestParallelChurn lets four processes at one mount, each in a subtree of its own and
// all in a shared one, as fsstress does. This process serves: with -race the detector
// sees all that the server does.
func TestParallelChurn(t *testing.T) {
	s := newStage(t)
	seed := rand.Uint64()
	for i, w := range ways[:3] {
		t.Run(w.name, func(t *testing.T) {
			churn(t, s, w, seed+uint64(i), 600)
		})
	}
}

func churn(t *testing.T, s *stage, w way, seed uint64, steps int) {
	t.Logf("seed %d", seed)
	top, err := s.memory.MkdirTemp()
	if err != nil {
		t.Fatal(err)
	}
	a, err := histories.NewArena(top, histories.DrawMounted(seed, 0).Lowers)
	if err == nil {
		err = histories.WriteTreeFile(top, a.Layers...)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer a.Remove()

	second, err := histories.StartChild(0) // root has two
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	four := append(slices.Clone(s.ours), second)
	var before, after histories.Tree
	m, err := serveHere(a, w, "upper", "work")
	if err != nil {
		t.Fatal(err)
	}
	err = four.Enter(a.Dir("merged"))
	if err == nil {
		var wg sync.WaitGroup
		for i := range four {
			wg.Go(func() { busy(t, four, i, rand.New(rand.NewPCG(seed, uint64(i))), steps) })
		}
		wg.Wait()
		if err = four.End(); err == nil {
			before, err = four.Tree()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	wantClosed(t, m, false)
	finish(t, m, four)
	report := func(wrong []string) {
		for _, w := range wrong {
			t.Error(w)
		}
	}
	report(histories.CheckInodes("after the churn", before))
	report(histories.CheckLinks("after the churn", before))

	if m, err = serveHere(a, w, "upper", "work"); err != nil {
		t.Fatal(err)
	}
	if err = four.Enter(a.Dir("merged")); err == nil {
		after, err = four.Tree()
	}
	if err != nil {
		t.Fatal(err)
	}
	report(histories.Compare("after remount", before, after, histories.SameTime))
	report(histories.CompareInodes("after remount", before, after))
	removeAll(t, four, after)
	wantClosed(t, m, true)
	m.conn.nodes.mu.RLock()
	n := len(m.conn.nodes.splits)
	m.conn.nodes.mu.RUnlock() // to unmount takes it
	if n != 0 {
		t.Errorf("%d inodes have several node ids, and no names", n)
	}
	finish(t, m, four)
	report(a.CheckLowers())
}

// busy is what one of the processes does.
func busy(t *testing.T, all histories.Children, me int, r *rand.Rand, steps int) {
	own := string(rune('0' + me))
	all.Do(histories.Step{Proc: 0, Call: "mkdirat", Path: "shared", Mode: 0o1777})
	all.Do(histories.Step{Proc: me, Call: "mkdirat", Path: own, Mode: 0o755})
	draw := histories.Calls(r.IntN, 1, nil)
	for done := 0; done < steps; {
		place := []string{own, "shared", ""}[r.IntN(3)]
		for _, s := range draw() {
			s.Proc = me
			if s.Path != "" && s.At == histories.AtRoot {
				s.Path = filepath.Join(place, s.Path)
			}
			if s.To != "" && s.ToAt == histories.AtRoot && s.Call != "symlinkat" {
				s.To = filepath.Join(place, s.To)
			}
			a := all.Do(s)
			again := s.Call == "open a descriptor" && a.Errno == unix.ESTALE // see the differences
			if slices.Contains(odd, a.Errno) && !again {
				t.Errorf("%v: %v", s, a)
			}
			done++
		}
	}
}

// removeAll removes what a tree has.
func removeAll(t *testing.T, all histories.Children, tree histories.Tree) {
	t.Helper()
	var paths []string
	for path := range tree {
		if path != "" {
			paths = append(paths, path)
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, path := range paths {
		s := histories.Step{Call: "unlinkat", Path: path}
		if tree[path].IsDir() {
			s.Flags = unix.AT_REMOVEDIR
		}
		if a := all.Do(s); a.Errno != 0 {
			t.Errorf("%v: %v", s, a)
		}
	}
	left, err := all.Tree()
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// wantClosed waits until the kernel has given back what nobody has open: it does so
// after close(2) has returned. When it knows no names either, there is no node.
func wantClosed(t *testing.T, m *serving, nodes bool) {
	t.Helper()
	counting := &counting{connection: m.conn}
	var c counts
	for range 500 {
		if c = counting.counts(); c.Files+c.Dirs == 0 && (c.Nodes == 0 || !nodes) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("nobody has anything open, and %d files, %d directories and %d nodes are", c.Files, c.Dirs, c.Nodes)
}

// finish unmounts.
func finish(t *testing.T, m *serving, in histories.Children) {
	t.Helper()
	if err := in.Leave(); err != nil {
		t.Error(err)
	}
	if err := m.unmount(); err != nil {
		t.Error(err)
	}
}
