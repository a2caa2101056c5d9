package layerstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// GCOptions say what else to remove; the zero value is what `gc` does.
type GCOptions struct {
	// KeepUntagged keeps images that have lost their last reference. Without
	// it they go, unless a container was made from them.
	KeepUntagged bool

	// Wait is how long to wait for the Holds of others to end, before that is
	// a *BusyError. Newcomers are kept out meanwhile, but never for longer than
	// Patience at a time. Zero means Patience.
	Wait time.Duration
}

// Patience is how long gc keeps newcomers out of a store whose Holds do not
// end: a pull has one for as long as it lasts.
const Patience = 10 * time.Second

var patience = Patience // less in tests

// Freed says what gc removed.
type Freed struct {
	Images  int
	Layers  int
	Chains  int
	Objects int
	Bytes   int64 // that the filesystem got back for all that
}

// GC removes what neither an image nor a container holds. It waits for all
// Holds to end, not for ever, and keeps new ones from being taken meanwhile. It
// removes nothing if it cannot read all that may hold something.
//
// A kill leaves the store whole: names are removed before what they need.
func (s *Store) GC(ctx context.Context, o GCOptions) (Freed, error) {
	h, err := s.holdAlone(ctx, o.Wait)
	if err != nil {
		return Freed{}, fmt.Errorf("gc: %w", err)
	}
	standing := s.standing()
	c := collection{s: s, h: h}
	err = c.collect(ctx, o)
	err = errors.Join(err, h.Release())
	if err == nil {
		c.freed.Bytes += c.trashed
	}
	c.freed.Bytes += standing - s.standing()
	if err != nil {
		return c.freed, fmt.Errorf("gc: %w", err)
	}
	return c.freed, nil
}

// collection is one gc.
type collection struct {
	s       *Store
	h       *Hold // exclusive
	trash   int   // directories moved to staging, which Release removes
	trashed int64
	freed   Freed
}

func (c *collection) collect(ctx context.Context, o GCOptions) error {
	if !o.KeepUntagged {
		if err := c.dropUntagged(ctx); err != nil {
			return err
		}
	}
	roots, err := c.s.findRoots()
	if err != nil {
		return err
	}
	if err := c.dropBlobs(roots); err != nil {
		return err
	}
	if err := c.dropChains(roots); err != nil {
		return err
	}
	kept, err := c.dropLayers(roots)
	if err != nil {
		return err
	}
	needed := map[tree.ObjectDigest]bool{}
	for _, d := range kept {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.s.layerObjects(d, func(d tree.ObjectDigest, _ int64) { needed[d] = true }); err != nil {
			return err
		}
	}
	return c.dropObjects(ctx, needed)
}

// dropUntagged takes images without a reference out of the index.
func (c *collection) dropUntagged(ctx context.Context) error {
	containers, err := c.s.containers()
	if err != nil {
		return err
	}
	images, err := c.s.Images()
	if err != nil {
		return err
	}
	used := map[oci.Digest]bool{}
	for _, container := range containers {
		used[container.Image] = true
	}
	var drop []oci.Digest
	for _, image := range images {
		if len(image.Refs) == 0 && !used[image.ID] {
			drop = append(drop, image.Digest)
		}
	}
	if len(drop) == 0 {
		return nil
	}
	c.freed.Images += len(drop)
	return c.h.updateIndex(ctx, func(ix *index) error {
		for _, d := range drop {
			ix.remove(d)
		}
		return nil
	})
}

func (c *collection) dropBlobs(roots *roots) error {
	names, err := os.ReadDir(c.s.path(imagesDir, blobsDir))
	if err != nil {
		return err
	}
	for _, n := range names {
		if !roots.blobs[oci.Digest("sha256:"+n.Name())] {
			if err := c.discard(c.s.path(imagesDir, blobsDir, n.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collection) dropChains(roots *roots) error {
	names, err := os.ReadDir(c.s.path(chainsDir))
	if err != nil {
		return err
	}
	for _, n := range names {
		if !roots.chains[oci.ChainID("sha256:"+n.Name())] {
			if err := c.discard(c.s.path(chainsDir, n.Name())); err != nil {
				return err
			}
			c.freed.Chains++
		}
	}
	return nil
}

// dropLayers returns the layers that stay.
func (c *collection) dropLayers(roots *roots) ([]oci.DiffID, error) {
	layers, err := c.s.layers()
	if err != nil {
		return nil, err
	}
	var kept []oci.DiffID
	for _, d := range layers {
		if roots.layers[d] {
			kept = append(kept, d)
			continue
		}
		if err := c.discard(c.s.layerPath(d)); err != nil {
			return nil, err
		}
		c.freed.Layers++
	}
	if len(kept) == len(layers) {
		return kept, nil
	}
	// No object may be gone for good before the layers that need it are.
	return kept, errors.Join(syncPath(c.s.path(layersDir)), syncPath(c.h.dir))
}

// discard takes a file or directory away at once, whole; it is removed with
// the staging directory.
func (c *collection) discard(path string) error {
	bytes, err := FreedBy(path)
	if err != nil {
		return err
	}
	c.trash++
	c.trashed += bytes
	return os.Rename(path, c.h.path(fmt.Sprintf("trash-%d", c.trash)))
}

// dropObjects removes all objects but the needed ones.
func (c *collection) dropObjects(ctx context.Context, needed map[tree.ObjectDigest]bool) error {
	dirs, err := os.ReadDir(c.s.path(objectsDir))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.dropObjectsIn(dir.Name(), needed); err != nil {
			return err
		}
	}
	return nil
}

func (c *collection) dropObjectsIn(dir string, needed map[tree.ObjectDigest]bool) error {
	names, err := os.ReadDir(c.s.path(objectsDir, dir))
	if err != nil {
		return err
	}
	left := len(names)
	for _, n := range names {
		var d tree.ObjectDigest
		if m, err := hex.Decode(d[:], []byte(dir+n.Name())); err == nil && m == len(d) && needed[d] {
			continue
		}
		path := c.s.path(objectsDir, dir, n.Name())
		bytes, err := FreedBy(path)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(path); err != nil { // a directory, if the store is damaged
			return err
		}
		c.freed.Objects++
		c.freed.Bytes += bytes
		left--
	}
	if left > 0 {
		return nil
	}
	path := c.s.path(objectsDir, dir)
	bytes, err := FreedBy(path)
	if err != nil {
		return err
	}
	c.freed.Bytes += bytes
	return os.Remove(path)
}
