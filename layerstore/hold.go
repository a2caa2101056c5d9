package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// Names within a staging directory.
const (
	stagedObjects = "objects"
	stagedLayers  = "layers"
	stagedTrees   = "trees"   // layers whose diffID is not known yet
	stagedSources = "sources" // of layers that the store has: what to add to their directories
	stagedBlobs   = "blobs"
	stagedChains  = "chains"
)

// Hold keeps gc away: whatever is found in the store under a Hold is still
// there when the Hold is released. It comes with a staging directory, in which
// what is new is made before it is published by rename. One who has a Hold
// must not take another; see the package comment.
type Hold struct {
	s    *Store
	gc   *os.File // objects/, locked shared, or exclusively by gc
	dir  string   // tmp/<random>
	lock *os.File // dir, locked exclusively

	objects *os.File                   // staged objects; opened on first use
	damaged map[tree.ObjectDigest]bool // objects of the store that are to be replaced; set by who repairs
	blobs   []oci.Digest               // manifests and configs in staging

	mu      sync.Mutex                 // guards what follows
	staged  map[tree.ObjectDigest]bool // objects in staging
	layers  []oci.DiffID               // in staging
	sources []oci.DiffID               // layers that are known and get further sources
	streams int                        // contents that have been streamed into staging
}

// Hold waits for a running gc to end.
func (s *Store) Hold(ctx context.Context) (*Hold, error) {
	return s.hold(ctx, unix.LOCK_SH)
}

// holdAlone takes a Hold that excludes others, for gc. It waits, but lets
// newcomers in every now and then; see the package comment.
func (s *Store) holdAlone(ctx context.Context, wait time.Duration) (*Hold, error) {
	if wait == 0 {
		wait = patience
	}
	for start := time.Now(); ; {
		left := wait - time.Since(start)
		waiting, cancel := context.WithTimeout(ctx, min(left, patience))
		h, err := s.hold(waiting, unix.LOCK_EX)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return h, err
		}
		// Who waits at the turnstile asks every lockPause.
		if left = wait - time.Since(start); left <= openFor {
			return nil, &BusyError{Root: s.root, Waited: time.Since(start), Holders: holders(s.path(objectsDir))}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(openFor):
		}
	}
}

// openFor is how long the turnstile stays open when the patience of gc is at its end.
const openFor = 20 * lockPause

// hold takes a Hold that is shared with others or excludes them.
func (s *Store) hold(ctx context.Context, how int) (*Hold, error) {
	h := &Hold{s: s, staged: map[tree.ObjectDigest]bool{}}
	if err := h.take(ctx, how); err != nil {
		h.Release()
		return nil, fmt.Errorf("hold store %s: %w", s.root, err)
	}
	return h, nil
}

func (h *Hold) take(ctx context.Context, how int) error {
	// Who cleans tmp/ has it exclusively, so nobody takes a directory for
	// abandoned that was just made and is not locked yet. Who wants to exclude
	// others keeps newcomers out while he waits for those who are in.
	turnstile, err := lockDir(ctx, h.s.path(tmpDir), how)
	if err != nil {
		return err
	}
	defer turnstile.Close()
	if h.gc, err = lockDir(ctx, h.s.path(objectsDir), how); err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp(h.s.path(tmpDir), ""); err != nil {
		return err
	}
	h.lock, err = tryLockDir(h.dir, unix.LOCK_EX)
	return err
}

// Dir is the staging directory: on the store's filesystem, removed on Release
// with all that has not been renamed to elsewhere.
func (h *Hold) Dir() string { return h.dir }

// Release ends the Hold.
func (h *Hold) Release() error {
	var err error
	if h.dir != "" {
		err = os.RemoveAll(h.dir)
		h.dir = ""
	}
	for _, f := range []*os.File{h.objects, h.lock, h.gc} {
		if f != nil {
			f.Close()
		}
	}
	h.objects, h.lock, h.gc = nil, nil, nil
	return err
}

func (h *Hold) path(elem ...string) string {
	return filepath.Join(append([]string{h.dir}, elem...)...)
}

// mkdir makes a directory in staging, with its parents.
func (h *Hold) mkdir(elem ...string) (string, error) {
	path := h.path(elem...)
	return path, os.MkdirAll(path, 0o700)
}

// publish gives everything that is staged its name in the store: durable
// first, and in the order in which things need each other. See the package
// comment, "The life of an object".
func (h *Hold) publish() error {
	if len(h.staged)+len(h.layers)+len(h.sources)+len(h.blobs) == 0 {
		return nil
	}
	if err := h.syncfs(); err != nil {
		return err
	}
	if err := h.publishObjects(); err != nil {
		return err
	}
	if err := h.syncfs(); err != nil {
		return err
	}
	if err := h.publishLayers(); err != nil {
		return err
	}
	if err := h.publishSources(); err != nil {
		return err
	}
	return h.publishBlobs()
}

func (h *Hold) syncfs() error {
	if err := unix.Syncfs(int(h.lock.Fd())); err != nil {
		return &fs.PathError{Op: "syncfs", Path: h.dir, Err: err}
	}
	return nil
}

func (h *Hold) publishLayers() error {
	if len(h.layers) == 0 {
		return nil
	}
	for _, d := range h.layers {
		published, err := publishDir(h.path(stagedLayers, d.Hex()), h.s.layerPath(d))
		if err != nil {
			return err
		}
		if !published { // but perhaps from another blob
			if err := h.publishSource(stagedLayers, d); err != nil {
				return err
			}
		}
	}
	h.layers = nil
	return syncPath(h.s.path(layersDir))
}

// publishDir renames a finished directory into place. Another process may have
// been faster with an equal one; then this one stays behind in staging.
func publishDir(staged, path string) (published bool, err error) {
	err = os.Rename(staged, path) // never replaces a directory that has something in it
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		return false, nil
	}
	return err == nil, err
}

func (h *Hold) publishSources() error {
	for _, d := range h.sources {
		if err := h.publishSource(stagedSources, d); err != nil {
			return err
		}
	}
	h.sources = nil
	return nil
}

// publishSource adds sources to a layer's directory: blobs first, for a record
// promises its blob.
func (h *Hold) publishSource(staging string, d oci.DiffID) error {
	names, err := os.ReadDir(h.path(staging, d.Hex()))
	if err != nil {
		return err
	}
	for _, prefix := range []string{blobPrefix, sourcePrefix} {
		for _, n := range names {
			if strings.HasPrefix(n.Name(), prefix) {
				if err := os.Rename(h.path(staging, d.Hex(), n.Name()), h.s.layerPath(d, n.Name())); err != nil {
					return err
				}
			}
		}
		if err := syncPath(h.s.layerPath(d)); err != nil {
			return err
		}
	}
	return nil
}

// cleanStaging removes what dead processes left in tmp/.
func (s *Store) cleanStaging() error {
	turnstile, err := tryLockDir(s.path(tmpDir), unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // somebody is just beginning, or cleaning; the next Open will do
	} else if err != nil {
		return err
	}
	abandoned, err := s.abandonedStaging()
	turnstile.Close() // what we have locked can be removed in peace
	for _, dir := range abandoned {
		s.log.Info("removing abandoned staging", "path", dir.Name())
		bytes, _ := FreedBy(dir.Name())
		if removeErr := os.RemoveAll(dir.Name()); removeErr != nil {
			err = errors.Join(err, removeErr)
		} else {
			s.swept += bytes
		}
		dir.Close()
	}
	return err
}

// Swept is how many bytes Open has given back that dead processes had left in
// tmp/.
func (s *Store) Swept() int64 { return s.swept }

// abandonedStaging returns the directories in tmp/ that nobody holds, locked,
// and removes what is no directory.
// The caller holds tmp/ exclusively.
func (s *Store) abandonedStaging() ([]*os.File, error) {
	names, err := os.ReadDir(s.path(tmpDir))
	if err != nil {
		return nil, err
	}
	var abandoned []*os.File
	for _, n := range names {
		if !n.IsDir() { // nobody's: staging is directories
			if err := os.Remove(s.path(tmpDir, n.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return abandoned, err
			}
			continue
		}
		dir, err := tryLockDir(s.path(tmpDir, n.Name()), unix.LOCK_EX)
		switch {
		case err == nil:
			abandoned = append(abandoned, dir)
		case errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist):
			// in use, or its owner has just removed it
		default:
			return abandoned, err
		}
	}
	return abandoned, nil
}
