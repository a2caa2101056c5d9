package layerstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/overlay/tree"
)

func (f *fsck) checkChains(ctx context.Context) error {
	names, err := os.ReadDir(f.s.path(chainsDir))
	if err != nil {
		return err
	}
	stacks := f.s.stacks()
	for _, n := range names {
		id := oci.ChainID("sha256:" + n.Name())
		if _, err := layerOf(n.Name()); err != nil {
			f.leftover(filepath.Join(chainsDir, n.Name()), errForeign, nil)
			continue
		}
		if err := f.giveWay(ctx); err != nil {
			return err
		}
		f.report.Chains++
		err := f.lookAtChain(ctx, id, stacks[id])
		if _, gone := os.Lstat(f.s.chainPath(id)); gone == nil && err != nil {
			f.note(Damage{
				Kind: "chain", Name: string(id), Path: filepath.Join(chainsDir, id.Hex()), Err: err, chain: id,
				again: func(ctx context.Context) error {
					if _, err := os.Lstat(f.s.chainPath(id)); errors.Is(err, fs.ErrNotExist) {
						return nil // it is made when it is needed
					}
					return f.lookAtChain(ctx, id, f.s.stacks()[id])
				},
			})
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// stacks are the layers, base first, of all chains that images and containers
// have, as far as these can be read.
func (s *Store) stacks() map[oci.ChainID][]oci.DiffID {
	stacks := map[oci.ChainID][]oci.DiffID{}
	images, _ := s.Images()
	for _, image := range images {
		stacks[oci.Chain(image.Layers)] = image.Layers
	}
	containers, _, _ := s.findContainers()
	for _, c := range containers {
		for _, layers := range c.held() {
			stacks[oci.Chain(layers)] = layers
		}
	}
	return stacks
}

// lookAtChain returns what is wrong with a chain. If its layers are known and
// right, it is derived from them once more and must be the same.
func (f *fsck) lookAtChain(ctx context.Context, id oci.ChainID, layers []oci.DiffID) error {
	if err := wrongKind(f.s.chainPath(id), true); err != nil {
		return err
	}
	names, err := os.ReadDir(f.s.chainPath(id))
	if err != nil {
		return err
	}
	for _, n := range names {
		if n.Name() != treeFile {
			f.leftover(filepath.Join(chainsDir, id.Hex(), n.Name()), errForeign, nil)
		}
	}
	path := f.s.chainPath(id, treeFile)
	if err := f.lookAtTree(path, func(tree.ObjectDigest, int64) {}); err != nil {
		return err
	}
	for _, d := range layers {
		if f.badTrees[d] {
			return nil
		}
	}
	if len(layers) == 0 {
		return nil
	}
	derived := f.h.path("derived")
	defer os.Remove(derived)
	if err := f.s.deriveChain(derived, layers); err != nil {
		return fmt.Errorf("cannot be derived: %w", err)
	}
	return sameBytes(derived, path)
}

// deriveChain writes what the layers show to path.
func (s *Store) deriveChain(path string, layers []oci.DiffID) error {
	trees := make([]tree.Tree, len(layers))
	for i, d := range layers {
		layer, err := s.Layer(d)
		if err != nil {
			return err
		}
		defer layer.Close()
		trees[i] = layer.Tree()
	}
	return writeTree(path, tree.Stack(trees...))
}

func sameBytes(want, path string) error {
	a, err := os.Open(want)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(path)
	if err != nil {
		return err
	}
	defer b.Close()
	bufA, bufB := make([]byte, 256<<10), make([]byte, 256<<10)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return errors.New("is not what its layers give")
		}
		if errA != nil || errB != nil {
			if errA == io.EOF || errA == io.ErrUnexpectedEOF {
				return nil
			}
			return errors.Join(errA, errB)
		}
	}
}

// inUse lists containers that stand on a chain and are mounted, or used by a
// process otherwise: such a one has the container's directory locked.
func (s *Store) inUse(id oci.ChainID) []string {
	containers, _, _ := s.findContainers()
	var names []string
	for _, c := range containers {
		if oci.Chain(c.Layers) != id {
			continue
		}
		lock, err := tryLockDir(s.path(containersDir, c.id), unix.LOCK_SH)
		if errors.Is(err, unix.EWOULDBLOCK) {
			names = append(names, c.label())
		}
		if err == nil {
			lock.Close()
		}
	}
	return names
}
