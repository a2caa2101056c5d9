package histories

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/need"
)

func TestMain(m *testing.M) {
	ServeChild()
	os.Exit(m.Run())
}

// arenaFor makes the arena of a history, in memory, where set-id bits and devices mean
// something.
func arenaFor(t *testing.T, h History) *Arena {
	t.Helper()
	need.Overlayfs(t)
	m, err := MountMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unmount(); err != nil {
			t.Error(err)
		}
	})
	top, err := m.MkdirTemp()
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewArena(top, h.Lowers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Remove(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func children(t *testing.T, dir string) Children {
	t.Helper()
	c, err := StartChildren()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Enter(dir); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKernelAgrees plays mounted histories on two copies of a plain directory and the
// kernel's overlayfs, and nothing of ours: what differs here is the harness's fault.
func TestKernelAgrees(t *testing.T) {
	seed := rand.Uint64()
	for i := range uint64(10) {
		h := DrawMounted(seed+i, 150)
		a := arenaFor(t, h)
		if out, err := exec.Command("cp", "-a", a.Dir("plain"), a.Dir("second")).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v\n%s", err, out)
		}
		if err := a.MountKernel(!h.NoIndex); err != nil {
			t.Fatal(err)
		}
		kernel := children(t, a.Dir("kernel"))
		l := &Lockstep{Plain: children(t, a.Dir("plain")), Ours: children(t, a.Dir("second")), Kernel: kernel}
		for _, w := range l.Play(h.Steps) {
			t.Error(w)
		}
		if err := kernel.Leave(); err != nil {
			t.Fatal(err)
		}
		for _, w := range a.CheckLowers() {
			t.Error(w)
		}
		if t.Failed() {
			t.Fatalf("seed %d\n%s", seed+i, h.Script())
		}
	}
}

// TestScript runs scripts under sh and wants the answers that the steps had.
func TestScript(t *testing.T) {
	need.Tool(t, "python3")
	for seed := range uint64(4) {
		for name, h := range map[string]History{"overlay": DrawOverlay(seed, 150), "mounted": DrawMounted(seed, 300)} {
			t.Run(fmt.Sprint(name, " ", seed), func(t *testing.T) {
				a := arenaFor(t, h)
				var world World
				if h.Mounted {
					world = children(t, a.Dir("plain"))
				} else {
					d := &Directory{}
					if err := d.Enter(a.Dir("plain")); err != nil {
						t.Fatal(err)
					}
					defer d.Leave()
					world = d
				}
				var want []string
				for i, s := range h.Steps {
					want = append(want, fmt.Sprintf("%d\t%d\t%s", i, s.Proc, NameOf(world.Do(s).Errno)))
				}
				if err := world.End(); err != nil {
					t.Fatal(err)
				}
				tree, err := world.Tree()
				if err != nil {
					t.Fatal(err)
				}
				dir := filepath.Join(a.Top, "script")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command("sh", "-s", "plain")
				cmd.Dir = dir
				cmd.Stdin = strings.NewReader(h.Script())
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					t.Fatalf("%v\n%s", err, &stderr)
				}
				said := strings.Split(string(out), "\n")
				for i, w := range want {
					if i >= len(said) || said[i] != w && !strings.HasPrefix(said[i], w+"\t") && !strings.HasPrefix(said[i], w+" ") {
						t.Fatalf("step %d: the script says\n%s\nwant\n%s\t%s", i, said[min(i, len(said)-1)], w, h.Steps[i])
					}
				}
				got, err := ReadTree(filepath.Join(dir, "merged"))
				if err != nil {
					t.Fatal(err)
				}
				for _, w := range Compare("what the script made", tree, got, When) {
					t.Error(w)
				}
			})
		}
	}
}

// TestShrink wants the one step that matters.
func TestShrink(t *testing.T) {
	steps := DrawMounted(1, 100).Steps
	bad := func(some []Step) (wrong []string) {
		for _, s := range some {
			if s.Call == "mmap" {
				wrong = append(wrong, "mmap")
			}
		}
		return wrong
	}
	got, wrong := Shrink(steps, bad(steps), bad)
	if len(got) != 1 || got[0].Call != "mmap" || len(wrong) != 1 {
		t.Errorf("%v, %q", got, wrong)
	}
}

// TestEveryCallIsDrawn: what nobody draws is tested by nobody.
func TestEveryCallIsDrawn(t *testing.T) {
	drawn := map[string]bool{"nlink": true, "mtime": true, "mode": true} // only differences ask for it
	for seed := range uint64(40) {
		for _, h := range []History{DrawOverlay(seed, 200), DrawMounted(seed, 200)} {
			for _, s := range h.Steps {
				drawn[s.Call] = true
			}
		}
	}
	for name := range calls {
		if !drawn[name] {
			t.Errorf("%s is never drawn", name)
		}
	}
	for name := range drawn {
		if calls[name] == nil {
			t.Errorf("%s is drawn and no call", name)
		}
	}
}

// TestCompareSees changes one thing after another.
func TestCompareSees(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	read := func() Tree {
		tree, err := ReadTree(dir)
		if err != nil {
			t.Fatal(err)
		}
		return tree
	}
	write("f", "one")
	write("g", "two")
	if err := age(dir); err != nil {
		t.Fatal(err)
	}
	f := filepath.Join(dir, "f")
	for name, change := range map[string]func() error{
		"contents": func() error { write("f", "two"); return nil },
		"mode":     func() error { return os.Chmod(f, 0o600) },
		"xattr":    func() error { return unix.Setxattr(f, "user.x", nil, 0) },
		"time":     func() error { write("f", "one"); return nil },
		"missing":  func() error { return os.Remove(f) },
		"new":      func() error { write("new", ""); return nil },
		"link":     func() error { return os.Link(f, filepath.Join(dir, "g2")) },
	} {
		before := read()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if wrong := Compare("after", before, read(), When); len(wrong) == 0 {
			t.Errorf("%s: no difference is seen", name)
		}
		os.RemoveAll(filepath.Join(dir, "new"))
		os.RemoveAll(filepath.Join(dir, "g2"))
		write("f", "one")
		unix.Removexattr(f, "user.x")
		os.Chmod(f, 0o644)
		if err := age(dir); err != nil {
			t.Fatal(err)
		}
	}
}
