package layerstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"strata/layerstore"
)

func runGC(root string) error {
	s, err := layerstore.Open(root, layerstore.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.GC(context.Background(), layerstore.GCOptions{})
	return err
}

func runRepair(root string) error {
	s, err := layerstore.Open(root, layerstore.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	_, err = s.Fsck(context.Background(), layerstore.FsckOptions{Repair: true})
	return err
}

// killed runs a job on a copy of a store and kills it at a random moment. It
// tells whether the job was still at work.
func killed(t *testing.T, template, root, job string, usual time.Duration) (hit bool) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", template, root).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	cmd := jobCommand(t, job, root)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(rand.N(usual))
	cmd.Process.Kill()
	return cmd.Wait() != nil
}

// TestKilledCollectionsAndRepairs kills gc and repairs at random moments. Whatever an
// image needs is there and right; a damaged store is no more damaged than it was;
// and doing it again brings it to its end.
func TestKilledCollectionsAndRepairs(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	one, two := killBlob(1), killBlob(2)
	keep, drop := imageOf(t, "keep", gz(one)), imageOf(t, "drop", gz(two))

	garbage := openStoreAt(t, filepath.Join(dir, "garbage"))
	addImage(t, garbage, keep)
	addImage(t, garbage, drop)
	if _, err := garbage.RemoveImage(t.Context(), "drop", false); err != nil {
		t.Fatal(err)
	}

	damaged := openStoreAt(t, filepath.Join(dir, "damaged"))
	image := addImage(t, damaged, keep)
	chain, err := damaged.Chain(t.Context(), image.Layers)
	if err != nil {
		t.Fatal(err)
	}
	chain.Close()
	objects, err := filepath.Glob(filepath.Join(damaged.Root(), "objects", "*", "*"))
	if err != nil || len(objects) < 100 {
		t.Fatalf("%d objects, %v", len(objects), err)
	}
	for i := 0; i < len(objects); i += 7 {
		doDamage(t, objects[i], []string{flipped, truncated, missing}[i%3], "")
	}
	for _, pattern := range []string{"layers/*/tree", "chains/*/tree"} {
		paths, err := filepath.Glob(filepath.Join(damaged.Root(), pattern))
		if err != nil || len(paths) != 1 {
			t.Fatalf("%q, %v", paths, err)
		}
		doDamage(t, paths[0], flipped, "")
	}

	for job, template := range map[string]string{"gc": garbage.Root(), "fsck": damaged.Root()} {
		t.Run(job, func(t *testing.T) {
			usual := timeOf(t, template, job)
			hits := 0
			for round := range rounds {
				root := filepath.Join(t.TempDir(), "store")
				if killed(t, template, root, job, usual) {
					hits++
				}
				s := openStoreAt(t, root)
				checkNothingStaged(t, s)
				if job == "fsck" {
					report, err := s.Fsck(t.Context(), layerstore.FsckOptions{Repair: true, Restart: true})
					if err != nil {
						t.Fatal(err)
					}
					for _, d := range report.Damages {
						if d.Repaired == "" {
							t.Errorf("round %d: %v is left: %v", round, d, d.Left)
						}
					}
				}
				verifyStore(t, s)
				gc(t, s)
				verifyStore(t, s)
				if u := checkUsage(t, s); u.LooseObjects.Inodes != 0 || len(u.Layers) != 1 {
					t.Errorf("round %d: %d objects that nobody needs, %d layers", round, u.LooseObjects.Inodes, len(u.Layers))
				}
				os.RemoveAll(root)
			}
			t.Logf("%d of %d were at work when they were killed, of %v", hits, rounds, usual)
		})
	}
}

// timeOf is how long a job takes on a copy of a store.
func timeOf(t *testing.T, template, job string) time.Duration {
	t.Helper()
	root := filepath.Join(t.TempDir(), "store")
	if out, err := exec.Command("cp", "-a", template, root).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	start := time.Now()
	if err := jobCommand(t, job, root).Run(); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", job, err))
	}
	return time.Since(start)
}
