package layerstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"strata/overlay/tree"
)

// store hashes contents and writes those that are new.
func (u *unpacking) store(ctx context.Context) error {
	for s := range u.work {
		if err := ctx.Err(); err != nil {
			return err
		}
		for _, c := range s.contents {
			data := s.buf[c.at : c.at+int(c.size)]
			c.digest = sha256.Sum256(data)
			var err error
			if c.known, err = u.h.stageObject(c.digest, data); err != nil {
				return err
			}
		}
		close(s.done)
		s.buf, s.contents = s.buf[:0], s.contents[:0]
		u.slabs <- s // never waits: there are as many places as slabs
	}
	return nil
}

// collect makes the tree and the recipe.
func (u *unpacking) collect(ctx context.Context) (err error) {
	builder := tree.NewBuilder(u.h.s)
	recipe, err := newRecipeWriter(u.dir + "/" + recipeFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, recipe.close()) }()
	for s := range u.steps {
		if err := u.collectStep(ctx, builder, recipe, s); err != nil {
			return err
		}
	}
	if !u.parsed {
		return nil // and parse says why
	}
	if err := recipe.finish(u.diffID, u.totals); err != nil {
		return err
	}
	if err := builder.Finish(); err != nil {
		return err
	}
	return writeTree(u.dir+"/"+treeFile, builder)
}

func (u *unpacking) collectStep(ctx context.Context, builder *tree.Builder, recipe *recipeWriter, s step) error {
	if err := recipe.raw(s.framing); err != nil {
		return err
	}
	if s.entry == nil {
		return nil
	}
	u.added.Entries++
	var digest tree.ObjectDigest
	if c := s.content; c != nil {
		if c.done != nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-c.done:
			}
		}
		digest = c.digest
		u.added.count(c)
		if !s.entry.sparse {
			if err := recipe.object(c.digest, c.size); err != nil {
				return err
			}
		}
	}
	if err := s.entry.addTo(builder, digest); err != nil {
		return fmt.Errorf("entry %q: %w", s.entry.path, err)
	}
	return nil
}

// writeTree writes t as a tree file; making it durable is the caller's.
func writeTree(path string, t tree.Tree) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(tree.Write(f, t), f.Close())
}
