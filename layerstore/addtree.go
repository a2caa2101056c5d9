package layerstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// AddedTree is a layer that was made of a tree.
type AddedTree struct {
	DiffID  oci.DiffID
	TarSize int64
	Added   Added
	Writing []string // files that somebody may have been writing while they were read
}

// AddTree adds a layer from its tree, as Pack writes it. No tar goes to the disk:
// contents become objects, and the tar is only hashed. A content whose object the
// store has is read there; any other is copied, or cloned where the filesystem
// can, and never moved or linked: whoever has its file open for writing, or mapped,
// writes to a file that is no object.
func (s *Store) AddTree(ctx context.Context, t tree.Tree, o PackOptions) (AddedTree, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return AddedTree{}, err
	}
	defer h.Release()
	return h.AddTree(ctx, t, o)
}

// AddTree is Store.AddTree for one who has a Hold, and is going to see to it that
// the layer is held when that is released.
func (h *Hold) AddTree(ctx context.Context, t tree.Tree, o PackOptions) (AddedTree, error) {
	added, err := h.stageTree(ctx, t, o)
	if err == nil {
		err = h.publish()
	}
	if err != nil {
		return AddedTree{}, fmt.Errorf("add a layer: %w", err)
	}
	return added, nil
}

// treeAddition is a tree on its way to become a layer.
type treeAddition struct {
	h       *Hold
	ctx     context.Context // of stageTree, which this does not outlive
	t       tree.Tree
	dir     string // in staging
	sum     hash.Hash
	tar     tarWriter
	recipe  *recipeWriter
	builder *tree.Builder
	totals  tarTotals
	buf     []byte
	result  AddedTree
}

// stageTree brings a layer into staging, unless the store has it.
func (h *Hold) stageTree(ctx context.Context, t tree.Tree, o PackOptions) (AddedTree, error) {
	if err := h.openStagedObjects(); err != nil {
		return AddedTree{}, err
	}
	dir, err := h.mkdir(stagedTrees, h.streamName())
	if err != nil {
		return AddedTree{}, err
	}
	a := &treeAddition{h: h, ctx: ctx, t: t, dir: dir, sum: sha256.New(), builder: tree.NewBuilder(h.s), buf: make([]byte, slabSize)}
	if a.recipe, err = newRecipeWriter(dir + "/" + recipeFile); err != nil {
		return AddedTree{}, err
	}
	a.tar.raw = func(b []byte) error {
		a.sum.Write(b)
		return a.recipe.raw(b)
	}
	if err := errors.Join(a.add(o), a.recipe.close()); err != nil {
		return AddedTree{}, err
	}
	return a.result, a.finish()
}

func (a *treeAddition) add(o PackOptions) error {
	if err := newPacker(a.t, o, a.entry).run(a.ctx); err != nil {
		return err
	}
	if err := a.tar.end(); err != nil {
		return err
	}
	a.totals.size = a.tar.n
	a.result.TarSize = a.tar.n
	a.result.DiffID = oci.DiffID(fmt.Sprintf("sha256:%x", a.sum.Sum(nil)))
	return a.recipe.finish(a.result.DiffID, a.totals)
}

// finish makes a staged layer of what was written.
func (a *treeAddition) finish() error {
	if a.h.hasLayer(a.result.DiffID) {
		a.result.Added = Added{KnownLayers: 1}
		return os.RemoveAll(a.dir)
	}
	a.result.Added.Layers = 1
	if err := a.builder.Finish(); err != nil {
		return err
	}
	if err := writeTree(a.dir+"/"+treeFile, a.builder); err != nil {
		return err
	}
	if _, err := a.h.mkdir(stagedLayers); err != nil {
		return err
	}
	if err := os.Rename(a.dir, a.h.path(stagedLayers, a.result.DiffID.Hex())); err != nil {
		return err
	}
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	a.h.layers = append(a.h.layers, a.result.DiffID)
	return nil
}

// entry adds one entry to the tar, to the recipe and to the tree.
func (a *treeAddition) entry(e *entry, id tree.ID) error {
	a.totals.entries++
	a.result.Added.Entries++
	if e.kind != kindFile {
		if err := a.tar.entry(e); err != nil {
			return err
		}
		return e.addTo(a.builder, tree.ObjectDigest{})
	}
	c, err := a.content(e, id)
	if err != nil {
		return err
	}
	a.totals.files++
	a.totals.bytes += c.size
	a.result.Added.count(c)
	if err := a.recipe.object(c.digest, c.size); err != nil {
		return err
	}
	if err := a.tar.filled(c.size); err != nil {
		return err
	}
	return e.addTo(a.builder, c.digest)
}

// content makes sure that a file's contents are an object, and writes the
// entry's header, for which the size must be known, and contents to the tar.
func (a *treeAddition) content(e *entry, id tree.ID) (*content, error) {
	known, err := a.t.Content(id)
	if err != nil {
		return nil, err
	}
	if known.Known && a.h.s.hasObject(known.Digest, known.Size) {
		f, err := a.h.s.OpenObject(known.Digest)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		e.size = known.Size
		return &content{size: known.Size, digest: known.Digest, known: true}, a.hash(e, f)
	}
	f, err := a.t.Open(id)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	w, err := watchWriters(f)
	if err != nil {
		return nil, err
	}
	e.size = w.size
	c := &content{size: e.size}
	if err := a.copy(e, f, c); err != nil {
		return nil, err
	}
	if wrote, err := w.wrote(); err != nil {
		return nil, err
	} else if wrote {
		a.result.Writing = append(a.result.Writing, e.path)
	}
	return c, nil
}

// hash writes header and contents of an object to the tar.
func (a *treeAddition) hash(e *entry, object io.Reader) error {
	if err := a.tar.entry(e); err != nil {
		return err
	}
	n, err := io.CopyBuffer(a.sum, contextReader{a.ctx, io.LimitReader(object, e.size)}, a.buf)
	if err == nil && n < e.size {
		err = fmt.Errorf("its object has %d bytes, not %d: the store is damaged", n, e.size)
	}
	return err
}

// copy stages contents that are no object yet, and writes them to the tar.
func (a *treeAddition) copy(e *entry, f *os.File, c *content) (err error) {
	if e.size > slabSize {
		if cloned, err := a.clone(e, f, c); cloned || err != nil {
			return err
		}
	}
	if err := a.tar.entry(e); err != nil {
		return err
	}
	// A file that is cut short while it is read goes on with zeros.
	from := contextReader{a.ctx, io.MultiReader(f, zeroReader{})}
	if e.size > slabSize {
		c.digest, c.known, err = a.h.streamObject(from, e.size, a.sum, a.buf)
		return err
	}
	data := a.buf[:e.size]
	if _, err := io.ReadFull(from, data); err != nil {
		return err
	}
	a.sum.Write(data)
	c.digest = sha256.Sum256(data)
	c.known, err = a.h.stageObject(c.digest, data)
	return err
}

// clone stages a file as one that shares its blocks, where the filesystem can do
// that.
func (a *treeAddition) clone(e *entry, f *os.File, c *content) (cloned bool, err error) {
	name := a.h.streamName()
	fd, err := openat(a.h.objects, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, objectMode)
	if err != nil {
		return false, a.h.stagingError("create", name, err)
	}
	staged := os.NewFile(uintptr(fd), name)
	defer staged.Close()
	if unix.IoctlFileClone(fd, int(f.Fd())) != nil {
		return false, a.h.unstage(name)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return true, a.h.stagingError("stat", name, err)
	}
	e.size, c.size = st.Size, st.Size
	sum := sha256.New()
	if err := a.hash(e, io.TeeReader(staged, sum)); err != nil {
		return true, err
	}
	sum.Sum(c.digest[:0])
	c.known, err = a.h.nameStaged(name, c.digest, c.size)
	return true, err
}

// zeroReader has no end.
type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
