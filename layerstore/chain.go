package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// Chain is an open chain: what a stack of layers shows.
type Chain struct {
	id     oci.ChainID
	layers []oci.DiffID // base first
	tree   tree.Tree
	closer io.Closer // of tree; nil for no layers
}

// Chain opens the chain of the layers, base first, and makes it if it is not
// there. It is kept as long as an image or a container has it; one who cannot
// be sure of that uses Hold.Chain.
func (s *Store) Chain(ctx context.Context, diffIDs []oci.DiffID) (*Chain, error) {
	c, err := s.openChain(diffIDs)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	h, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Release()
	return h.Chain(ctx, diffIDs)
}

// Chain is Store.Chain for one who has a Hold.
func (h *Hold) Chain(ctx context.Context, diffIDs []oci.DiffID) (*Chain, error) {
	c, err := h.s.openChain(diffIDs)
	if !errors.Is(err, fs.ErrNotExist) {
		return c, err
	}
	if err := h.makeChain(ctx, diffIDs); err != nil {
		return nil, fmt.Errorf("make chain %s: %w", oci.Chain(diffIDs), err)
	}
	return h.s.openChain(diffIDs)
}

// openChain opens a chain that is there.
func (s *Store) openChain(diffIDs []oci.DiffID) (*Chain, error) {
	c := &Chain{id: oci.Chain(diffIDs), layers: slices.Clone(diffIDs)}
	if len(diffIDs) == 0 {
		c.tree = tree.Stack()
		return c, nil
	}
	for _, d := range diffIDs {
		if _, err := oci.ParseDiffID(string(d)); err != nil {
			return nil, fmt.Errorf("chain: %w", err)
		}
	}
	f, err := tree.OpenFile(s.chainPath(c.id, treeFile), s)
	if corrupt := (*tree.CorruptError)(nil); errors.As(err, &corrupt) {
		return nil, fmt.Errorf("chain %s: %w: strata fsck --repair makes it again", c.id, err)
	} else if err != nil {
		return nil, fmt.Errorf("chain %s: %w", c.id, err)
	}
	c.tree, c.closer = f, f
	return c, nil
}

// makeChain stacks the layers and publishes the result.
func (h *Hold) makeChain(ctx context.Context, diffIDs []oci.DiffID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	id := oci.Chain(diffIDs)
	dir, err := h.mkdir(stagedChains, id.Hex())
	if err != nil {
		return err
	}
	if err := h.s.deriveChain(dir+"/"+treeFile, diffIDs); err != nil {
		return err
	}
	// One small file: cheaper than a syncfs, which would wait for what others write.
	for _, path := range []string{dir + "/" + treeFile, dir} {
		if err := syncPath(path); err != nil {
			return err
		}
	}
	if _, err := publishDir(dir, h.s.chainPath(id)); err != nil {
		return err
	}
	return syncPath(h.s.path(chainsDir))
}

// ID is the chain's identity; empty for a chain of no layers.
func (c *Chain) ID() oci.ChainID { return c.id }

// Tree is what the layers show: no whiteouts, no opaque directories.
// Attr.Layer is an index of Layers.
func (c *Chain) Tree() tree.Tree { return c.tree }

// Layers lists the chain's layers, base first.
func (c *Chain) Layers() []oci.DiffID { return slices.Clone(c.layers) }

// Close gives the tree back.
func (c *Chain) Close() error {
	if c.closer == nil {
		return nil
	}
	return c.closer.Close()
}
