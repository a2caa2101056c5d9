package layerstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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
