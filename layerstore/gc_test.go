package layerstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"strata/layerstore"
)

func gc(tb testing.TB, s *layerstore.Store) layerstore.Freed {
	tb.Helper()
	freed, err := s.GC(tb.Context(), layerstore.GCOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return freed
}

func TestGCKeepsWhatIsHeld(t *testing.T) {
	s := openStore(t)
	image := addImage(t, s, imageOf(t, "app", base, top))
	chain, err := s.Chain(t.Context(), image.Layers)
	if err != nil {
		t.Fatal(err)
	}
	chain.Close()
	before := listFiles(t, s.Root())
	if freed := gc(t, s); freed != (layerstore.Freed{}) {
		t.Errorf("freed %+v", freed)
	}
	if after := listFiles(t, s.Root()); !slices.Equal(before, after) {
		t.Errorf("the store has changed to %q", after)
	}
}

func TestGCFreesWhatIsNot(t *testing.T) {
	s := openStore(t)
	empty := listFiles(t, s.Root())
	size := du(t, s.Root())
	image := addImage(t, s, imageOf(t, "app", base, top))
	chain, err := s.Chain(t.Context(), image.Layers)
	if err != nil {
		t.Fatal(err)
	}
	chain.Close()
	full := du(t, s.Root())
	if _, err := s.RemoveImage(t.Context(), "app", false); err != nil {
		t.Fatal(err)
	}
	freed := gc(t, s)
	if freed.Layers != 2 || freed.Chains != 1 || freed.Objects != 3 {
		t.Errorf("freed %+v", freed)
	}
	if want := full - du(t, s.Root()); freed.Bytes != want || du(t, s.Root()) != size {
		t.Errorf("freed %d bytes; du says %d, and %d was %d", freed.Bytes, want, du(t, s.Root()), size)
	}
	if after := listFiles(t, s.Root()); !slices.EqualFunc(empty, after, sameButIndex) {
		t.Errorf("the store holds\n%q, want\n%q", after, empty)
	}
}

// sameButIndex compares two lines of listFiles.
func sameButIndex(a, b string) bool {
	return a == b || strings.HasPrefix(a, "/images/index.json") && strings.HasPrefix(b, "/images/index.json")
}

func TestGCKeepsObjectsOfOverriddenEntries(t *testing.T) {
	s := openStore(t)
	b := tarOf(file("a", "gone from the tree"), file("a", "new"))
	addImage(t, s, imageOf(t, "app", b))
	gc(t, s)
	verifyStore(t, s) // the exact tar needs both
}

func TestGCAndUntagged(t *testing.T) {
	s := openStore(t)
	addImage(t, s, imageOf(t, "app", base))
	addImage(t, s, imageOf(t, "app", top))
	if freed, err := s.GC(t.Context(), layerstore.GCOptions{KeepUntagged: true}); err != nil || freed.Layers != 0 {
		t.Errorf("freed %+v, %v", freed, err)
	}
	if freed := gc(t, s); freed.Images != 1 || freed.Layers != 1 {
		t.Errorf("freed %+v", freed)
	}
}

func TestContainersHold(t *testing.T) {
	s := openStore(t)
	image := addImage(t, s, imageOf(t, "app", base, top))
	config := fmt.Sprintf(`{"image": %q, "layers": [%q, %q], "chain": "ignored", "other": 1}`, image.ID, image.Layers[0], image.Layers[1])
	container := filepath.Join(s.Root(), "containers", "c1")
	if err := os.Mkdir(container, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(container, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RemoveImage(t.Context(), "app", false); err == nil || !strings.Contains(err.Error(), "used by container c1") {
		t.Errorf("error is %v", err)
	}
	chain, err := s.Chain(t.Context(), image.Layers)
	if err != nil {
		t.Fatal(err)
	}
	chain.Close()
	if _, err := s.RemoveImage(t.Context(), "app", true); err != nil {
		t.Fatal(err)
	}
	if freed := gc(t, s); freed.Layers != 0 || freed.Chains != 0 || freed.Objects != 0 {
		t.Errorf("freed %+v", freed)
	}
	// What cannot be read may hold anything.
	if err := os.WriteFile(filepath.Join(container, "config.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.GC(t.Context(), layerstore.GCOptions{}); err == nil {
		t.Error("gc went on without knowing what a container holds")
	}
	verifyStore(t, s)
}

func TestGCWaitsForHolds(t *testing.T) {
	s := openStore(t)
	h, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.GC(ctx, layerstore.GCOptions{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want the context's", err)
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	gc(t, s)
	checkNothingStaged(t, s)
}

// TestLoadsBesideGC has several add and remove images that share contents
// while gc runs in a loop: what is referenced stays whole, what is not goes.
func TestLoadsBesideGC(t *testing.T) {
	root := openStore(t).Root()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var g errgroup.Group
	for worker := range 3 {
		s := openStoreAt(t, root)
		rng := rand.New(rand.NewPCG(seed, uint64(worker)))
		g.Go(func() error {
			for ctx.Err() == nil {
				name := fmt.Sprintf("app:%d", worker)
				var members []member
				for range 20 {
					n := rng.IntN(40)
					members = append(members, file(fmt.Sprint("f", n), strings.Repeat("x", n*100)))
				}
				img := imageOf(t, name, base, gz(tarOf(members...)))
				image, _, err := s.AddImage(t.Context(), img, layerstore.AddOptions{})
				if err != nil {
					return err
				}
				if chain, err := s.Chain(t.Context(), image.Layers); err != nil {
					return err
				} else if err := chain.Close(); err != nil {
					return err
				}
				if rng.IntN(4) == 0 {
					if _, err := s.RemoveImage(t.Context(), name, false); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	collector := openStoreAt(t, root)
	collections := 0
	g.Go(func() error {
		for ctx.Err() == nil {
			if _, err := collector.GC(t.Context(), layerstore.GCOptions{}); err != nil {
				return err
			}
			collections++
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d collections", collections)
	verifyStore(t, collector)
	gc(t, collector)
	verifyStore(t, collector)
	u := checkUsage(t, collector)
	if u.LooseObjects.Inodes != 0 {
		t.Errorf("%d objects that nobody needs are left", u.LooseObjects.Inodes)
	}
	checkNothingStaged(t, collector)
}
