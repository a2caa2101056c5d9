package layerstore

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// Reading a layer is a pipeline, so that two cores have work: one is kept busy
// by decompression alone, which nothing can split.
//
//	blob -> read, hash, keep -> decompress -> parse the tar -> hash and write objects (several)
//	                                               |                    |
//	                                               +--- entries in order -> collect: tree and recipe
//
// Memory is bounded by the buffers between the stages and does not depend on
// the layer but for its tree.
const (
	blobBuffers, blobBuffer = 4, 128 << 10
	tarBuffers, tarBuffer   = 4, 512 << 10

	// Contents up to slabSize are gathered in slabs and handed to the workers
	// by the slab: hashed first and written only if they are new. Larger ones
	// are written as they are read.
	slabSize = 1 << 20

	maxWorkers = 4
	stepsAhead = 1024 // entries that parsing may be ahead of collecting
)

// unpacking is one layer on its way into staging.
type unpacking struct {
	h      *Hold
	diffID oci.DiffID
	limits Limits
	dir    string // staging directory of the layer

	// Parsing.
	diff    hash.Hash // of the tar, as the recipe will give it
	tap     *tap
	totals  tarTotals
	parsed  bool // to the end, and it is the right one
	slab    *slab
	slabs   chan *slab // free ones
	work    chan *slab
	steps   chan step
	largest []byte // buffer for contents that are streamed

	added Added // counted by collect
}

// step is a piece of the tar in its order: framing, then perhaps an entry.
type step struct {
	framing []byte
	entry   *entry
	content *content // of a file
}

// content is a regular file's contents on their way.
type content struct {
	size   int64
	at     int           // where in the slab
	done   chan struct{} // closed when digest and known are set; nil: they are
	digest tree.ObjectDigest
	known  bool
}

// slab is a buffer of several contents.
type slab struct {
	buf      []byte
	contents []*content
	done     chan struct{}
}

// unpack starts to read a layer's tar into staging: its objects there, its tree
// and recipe into dir. It is done when g is.
func (h *Hold) unpack(ctx context.Context, g *errgroup.Group, diffID oci.DiffID, dir string, tarStream io.Reader, limits Limits) (*unpacking, error) {
	if err := h.openStagedObjects(); err != nil {
		return nil, err
	}
	workers := min(max(runtime.GOMAXPROCS(0), 2), maxWorkers)
	u := &unpacking{
		h: h, diffID: diffID, limits: limits.fill(), dir: dir,
		diff:  sha256.New(),
		slabs: make(chan *slab, workers+2),
		work:  make(chan *slab, workers+2),
		steps: make(chan step, stepsAhead),
	}
	for range workers + 2 {
		u.slabs <- &slab{buf: make([]byte, 0, slabSize)}
	}
	u.tap = &tap{r: tarStream, sum: u.diff, limit: u.limits.Bytes, recording: true}
	u.tap.full = func() error { return u.send(ctx, step{framing: u.tap.take()}) }
	g.Go(func() error { return u.parse(ctx) })
	for range workers {
		g.Go(func() error { return u.store(ctx) })
	}
	g.Go(func() error { return u.collect(ctx) })
	return u, nil
}

// parse reads the tar.
func (u *unpacking) parse(ctx context.Context) error {
	defer close(u.steps)
	defer close(u.work)
	tr := tar.NewReader(u.tap)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) { // names are looked at by ourselves
			return u.tarError(err)
		}
		if u.totals.entries++; u.totals.entries > int64(u.limits.Entries) {
			return fmt.Errorf("more than %d entries, the limit", u.limits.Entries)
		}
		if err := u.parseEntry(ctx, tr, hdr); err != nil {
			return fmt.Errorf("entry %q: %w", hdr.Name, err)
		}
	}
	if err := u.parseEnd(ctx); err != nil {
		return err
	}
	if err := u.flush(ctx); err != nil {
		return err
	}
	u.totals.size = u.tap.n
	if err := checkDiffID(u.diff, u.diffID); err != nil {
		return err
	}
	u.parsed = true
	return nil
}

func (u *unpacking) parseEntry(ctx context.Context, tr *tar.Reader, hdr *tar.Header) error {
	e, err := parseEntry(hdr)
	if err != nil {
		return err
	}
	s := step{entry: &e}
	switch {
	case e.kind == kindFile:
		u.totals.files++
		if u.totals.bytes += e.size; e.size > u.limits.Bytes || u.totals.bytes > u.limits.Bytes {
			return fmt.Errorf("%d bytes, with which the layer's files exceed the limit of %d", e.size, u.limits.Bytes)
		}
		if e.sparse {
			// The recipe takes the entry's bytes as they stand in the tar.
			s.content, err = u.readContent(ctx, tr, &e, nil)
			break
		}
		s.framing = u.tap.take()
		u.tap.recording = false
		s.content, err = u.readContent(ctx, tr, &e, u.diff)
		u.tap.recording = true
	default:
		// What other entries may have as contents goes into the recipe.
		_, err = io.Copy(io.Discard, tr)
	}
	if err != nil {
		return u.tarError(err)
	}
	if s.framing == nil {
		s.framing = u.tap.take()
	}
	return u.send(ctx, s)
}

// readContent reads a file's contents, into a slab or straight into staging.
// They go to sum as well, if it is not nil.
func (u *unpacking) readContent(ctx context.Context, tr io.Reader, e *entry, sum hash.Hash) (*content, error) {
	c := &content{size: e.size}
	if e.size > slabSize {
		if u.largest == nil {
			u.largest = make([]byte, slabSize)
		}
		var tee io.Writer
		if sum != nil {
			tee = sum
		}
		var err error
		c.digest, c.known, err = u.h.streamObject(contextReader{ctx, tr}, e.size, tee, u.largest)
		return c, err
	}
	if u.slab != nil && int64(cap(u.slab.buf)-len(u.slab.buf)) < e.size {
		if err := u.flush(ctx); err != nil {
			return nil, err
		}
	}
	if u.slab == nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case u.slab = <-u.slabs:
			u.slab.done = make(chan struct{})
		}
	}
	s := u.slab
	c.done, c.at = s.done, len(s.buf)
	s.buf = s.buf[:c.at+int(e.size)]
	if _, err := io.ReadFull(tr, s.buf[c.at:]); err != nil {
		return nil, noEOF(err)
	}
	if sum != nil {
		sum.Write(s.buf[c.at:])
	}
	s.contents = append(s.contents, c)
	return c, nil
}

// flush hands the slab that is being filled to the workers.
func (u *unpacking) flush(ctx context.Context) error {
	if u.slab == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case u.work <- u.slab:
		u.slab = nil
		return nil
	}
}

// send hands a step to collect. That may be waiting for a content which is in
// the slab being filled; so, before waiting for collect, flush.
func (u *unpacking) send(ctx context.Context, s step) error {
	select {
	case u.steps <- s:
		return nil
	default:
	}
	if err := u.flush(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case u.steps <- s:
		return nil
	}
}

// parseEnd reads what follows the end of the archive: zeros, up to any number
// of blocks, all of which count for the diffID.
func (u *unpacking) parseEnd(ctx context.Context) error {
	buf := make([]byte, holeSize)
	for {
		n, err := u.tap.Read(buf)
		if !isZero(buf[:n]) {
			return errors.New("trailing junk: bytes other than zero after the end of the archive")
		}
		if err != nil && err != io.EOF {
			return u.tarError(err)
		}
		if err == io.EOF {
			return u.send(ctx, step{framing: u.tap.take()})
		}
	}
}

// tarError says of an error of archive/tar what it means.
func (u *unpacking) tarError(err error) error {
	switch {
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("no valid tar header before byte %d: %w", u.tap.n, err)
	case errors.Is(err, io.ErrUnexpectedEOF) && u.tap.err == io.EOF:
		return fmt.Errorf("the tar is truncated after %d bytes: %w", u.tap.n, err)
	}
	return err
}
