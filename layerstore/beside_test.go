package layerstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"strata/layerstore"
)

// besideTime is how long TestBesideGC runs: two seconds, or what STRATA_STRESS says.
func besideTime(t *testing.T) time.Duration {
	t.Helper()
	word := os.Getenv("STRATA_STRESS")
	if word == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(word)
	if err != nil {
		t.Fatalf("STRATA_STRESS: %v", err)
	}
	return d
}

// TestBesideGC has writers add and remove images that share contents, a reader
// read what is there, and a check look for damage, while gc runs in a loop:
// what is referenced stays whole, what is not goes.
func TestBesideGC(t *testing.T) {
	root := openStore(t).Root()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	addImage(t, openStoreAt(t, root), imageOf(t, "always", base, top))
	ctx, stop := context.WithTimeout(t.Context(), besideTime(t))
	defer stop()
	var g errgroup.Group
	for worker := range 2 {
		s := openStoreAt(t, root)
		rng := rand.New(rand.NewPCG(seed, uint64(worker)))
		name := fmt.Sprintf("app:%d", worker)
		g.Go(func() error { return repeat(ctx, func() error { return writeImage(t, s, name, rng) }) })
	}
	reader, collector, checker := openStoreAt(t, root), openStoreAt(t, root), openStoreAt(t, root)
	reads, collections, checks := 0, 0, 0
	g.Go(func() error { return repeat(ctx, func() error { reads++; return readImages(reader) }) })
	g.Go(func() error {
		return repeat(ctx, func() error {
			collections++
			_, err := collector.GC(t.Context(), layerstore.GCOptions{})
			return err
		})
	})
	g.Go(func() error {
		return repeat(ctx, func() error {
			checks++
			report, err := checker.Fsck(t.Context(), layerstore.FsckOptions{})
			for _, d := range report.Damages {
				err = errors.Join(err, d)
			}
			return err
		})
	})
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d reads, %d collections, %d checks", reads, collections, checks)
	verifyStore(t, collector)
	gc(t, collector)
	verifyStore(t, collector)
	if u := checkUsage(t, collector); u.LooseObjects.Inodes != 0 {
		t.Errorf("%d objects that nobody needs are left", u.LooseObjects.Inodes)
	}
	checkNothingStaged(t, collector)
}

func repeat(ctx context.Context, do func() error) error {
	for ctx.Err() == nil {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// writeImage adds an image and its chain, and perhaps removes it again.
func writeImage(t *testing.T, s *layerstore.Store, name string, rng *rand.Rand) error {
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
	chain, err := s.Chain(t.Context(), image.Layers)
	if err != nil {
		return err
	}
	if err := chain.Close(); err != nil {
		return err
	}
	if rng.IntN(4) == 0 {
		_, err = s.RemoveImage(t.Context(), name, false)
	}
	return err
}

// readImages reads every byte of every image. That an image goes while it is
// read is no failure, unless it is the one that always stays.
func readImages(s *layerstore.Store) error {
	if _, err := s.Image("always"); err != nil {
		return err
	}
	images, err := s.Images()
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := readImage(s, image); err != nil {
			_, gone := s.Image(string(image.Digest))
			if !errors.Is(gone, fs.ErrNotExist) {
				return fmt.Errorf("image %v: %w", image.Refs, err)
			}
		}
	}
	return nil
}

func readImage(s *layerstore.Store, image layerstore.Image) error {
	for _, d := range image.Layers {
		r, err := s.Tar(d)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return err
		}
	}
	return nil
}
