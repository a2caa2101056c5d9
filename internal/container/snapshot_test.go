package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"strata/layerstore"
	"strata/overlay/tree"
)

// snapshotForTest makes the test binary take a snapshot: ROOT RUN ID.
const snapshotForTest = "snapshot-for-test"

func snapshotMain(args []string) error {
	store, err := layerstore.Open(args[0], layerstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	containers, err := Open(store, Options{RunBase: args[1]})
	if err != nil {
		return err
	}
	ct, err := containers.Find(args[2])
	if err != nil {
		return err
	}
	_, _, err = ct.Snapshot(context.Background(), "")
	return err
}

// put writes a file into a container that is not mounted.
func put(t *testing.T, ct *Container, name, text string) {
	t.Helper()
	to, err := ct.CopyTo(t.Context(), "/")
	if err != nil {
		t.Fatal(err)
	}
	w, err := to.files.create(name)
	if err == nil {
		_, err = io.WriteString(w, text)
		err = errors.Join(err, w.Close())
	}
	if err := errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
}

// shown lists the regular files that a container shows, with what they hold.
func shown(t *testing.T, ct *Container) string {
	t.Helper()
	chain, err := ct.all.store.Chain(t.Context(), ct.Layers)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	upper, err := ct.OpenUpper()
	if err != nil {
		t.Fatal(err)
	}
	defer upper.Close()
	merged := tree.Stack(chain.Tree(), upper)
	var lines []string
	err = tree.Walk(merged, func(path string, e tree.Entry, a *tree.Attr) error {
		if !a.IsRegular() {
			return nil
		}
		f, err := merged.Open(e.ID)
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		lines = append(lines, fmt.Sprintf("%s=%.20q", path, b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, " ")
}

// TestSnapshotsAreHeld: gc keeps what a container can go back to, and what others
// that were forked from it stand on, and nothing else.
func TestSnapshotsAreHeld(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	states := []string{shown(t, ct)}
	for i := range 3 {
		put(t, ct, fmt.Sprint("file", i), strings.Repeat("contents", i*1000))
		states = append(states, shown(t, ct))
		if _, _, err := ct.Snapshot(t.Context(), fmt.Sprint("s", i)); err != nil {
			t.Fatal(err)
		}
		if got := shown(t, ct); got != states[i+1] {
			t.Errorf("after snapshot %d it shows\n%s\nwas\n%s", i, got, states[i+1])
		}
	}
	if got, want := len(ct.Layers), len(w.image.Layers)+3; got != want {
		t.Errorf("%d layers, want %d", got, want)
	}
	put(t, ct, "lost", "x")
	forked, _, err := ct.Fork(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	withLost := shown(t, ct)
	for _, i := range []int{0, 2, 1} {
		if _, err := ct.Rollback(t.Context(), fmt.Sprint("s", i)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.GC(t.Context(), layerstore.GCOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := shown(t, ct); got != states[i+1] {
			t.Errorf("rolled back to %d it shows\n%s\nwant\n%s", i, got, states[i+1])
		}
		if got := shown(t, forked); got != withLost {
			t.Errorf("the fork shows\n%s\nwant\n%s", got, withLost)
		}
	}
	if err := ct.ForgetSnapshot(t.Context(), "s2"); err != nil {
		t.Fatal(err)
	}
	if _, err := forked.Remove(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	freed, err := w.store.GC(t.Context(), layerstore.GCOptions{})
	if err != nil || freed.Layers != 2 {
		t.Errorf("gc freed %d layers (%v), want those of s2 and of the fork", freed.Layers, err)
	}
	again, err := w.Find("web")
	if err != nil || !slices.Equal(again.Layers, ct.Layers) || len(again.Snapshots) != 2 {
		t.Errorf("found again: %+v (%v)", again, err)
	}
}

// TestSnapshotKilled kills snapshots at any moment: the container shows the same, and
// what they left behind goes away.
func TestSnapshotKilled(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	for i := range 20 {
		put(t, ct, fmt.Sprint("file", i), strings.Repeat("contents", rand.IntN(100_000)))
		want := shown(t, ct)
		cmd := exec.Command("/proc/self/exe", snapshotForTest, w.store.Root(), filepath.Join(w.dir, "run"), string(ct.ID))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rand.IntN(25)) * time.Millisecond)
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		var err error
		if ct, err = w.Find("web"); err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.GC(t.Context(), layerstore.GCOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := shown(t, ct); got != want {
			t.Fatalf("after kill %d it shows\n%s\nwant\n%s", i, got, want)
		}
	}
	put(t, ct, "last", "") // whoever has the lock sweeps
	entries, err := os.ReadDir(ct.dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("the container's directory holds %v (%v)", entries, err)
	}
	t.Logf("%d snapshots were taken", len(ct.Snapshots))
}
