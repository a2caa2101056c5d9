package layerstore

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"strata/internal/oci"
)

// KeepBlobs says which source blobs a layer keeps, so that an image can leave
// the store with the digests with which it came.
type KeepBlobs int

const (
	// KeepNeeded keeps those that nothing else in the store gives back bit
	// for bit. An uncompressed blob is the layer's tar and so not needed.
	KeepNeeded KeepBlobs = iota

	// KeepNever keeps none. The digests are remembered all the same.
	KeepNever

	// KeepAlways keeps all as they came, also those that the store could make
	// again: what leaves it then needs no work.
	KeepAlways
)

// Limits guard against layers that are made to exhaust the machine. Zero
// fields have the defaults.
type Limits struct {
	// Bytes bounds the uncompressed tar, and the sizes of its files added up,
	// which differ for sparse files. Default: 64 GiB.
	Bytes int64

	// Entries bounds the number of entries. Default: 4 million.
	Entries int
}

func (l Limits) fill() Limits {
	if l.Bytes == 0 {
		l.Bytes = 64 << 30
	}
	if l.Entries == 0 {
		l.Entries = 4_000_000
	}
	return l
}

// AddOptions say how layers and images are added; the zero value is useful.
type AddOptions struct {
	Limits    Limits
	KeepBlobs KeepBlobs

	// Jobs is how many of an image's layers are read at once. Zero means one:
	// a layer from a disk keeps two cores busy by itself. One from a network
	// mostly waits.
	Jobs int

	// PulledFrom is the reference that an image was pulled by, if it was. Its
	// repository is remembered, so that what is damaged later can be had again.
	PulledFrom oci.Reference

	// Progress is told of every n bytes that were read of a layer's blob, or
	// that need not be read. It is called from other goroutines, with several
	// Jobs at the same time. May be nil.
	Progress func(layer oci.DiffID, n int64)
}

// Added says what came into the store.
type Added struct {
	Layers       int   // new ones
	KnownLayers  int   // that were there already
	Entries      int   // of the new layers' tars
	Files        int   // regular files among them
	Bytes        int64 // their sizes added up
	Objects      int   // contents that are new
	ObjectBytes  int64
	KnownObjects int // files whose contents were there already, or came twice
	KnownBytes   int64
	Blobs        int // source blobs that are kept
	BlobBytes    int64
}

func (a *Added) count(c *content) {
	a.Files++
	a.Bytes += c.size
	if c.known {
		a.KnownObjects++
		a.KnownBytes += c.size
	} else {
		a.Objects++
		a.ObjectBytes += c.size
	}
}

func (a *Added) add(b Added) {
	a.Layers += b.Layers
	a.KnownLayers += b.KnownLayers
	a.Entries += b.Entries
	a.Files += b.Files
	a.Bytes += b.Bytes
	a.Objects += b.Objects
	a.ObjectBytes += b.ObjectBytes
	a.KnownObjects += b.KnownObjects
	a.KnownBytes += b.KnownBytes
	a.Blobs += b.Blobs
	a.BlobBytes += b.BlobBytes
}

// AddLayer adds the layer diffID from a blob of its tar, uncompressed or
// compressed with gzip or zstd. Nothing of it is in the store until all of it
// has been read and verified. Of a layer that is known, the blob is read only
// if it is a source that the layer does not have yet. src may be zero.
//
// A Read of blob must end when ctx is done.
func (s *Store) AddLayer(ctx context.Context, diffID oci.DiffID, src Source, blob io.Reader, o AddOptions) (Added, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return Added{}, err
	}
	defer h.Release()
	verified := newBlobReader(blob, src)
	added, err := h.stageLayer(ctx, diffID, src, func() (io.ReadCloser, error) { return io.NopCloser(verified), nil }, o)
	if err == nil {
		err = h.publish()
	}
	if err != nil {
		return Added{}, fmt.Errorf("add layer %s: %w", diffID, err)
	}
	return added, nil
}

// stageLayer brings a layer, or what the store lacks of it, into staging. What
// open returns gives EOF only if it is src.
func (h *Hold) stageLayer(ctx context.Context, diffID oci.DiffID, src Source, open func() (io.ReadCloser, error), o AddOptions) (Added, error) {
	if _, err := oci.ParseDiffID(string(diffID)); err != nil {
		return Added{}, err
	}
	if src.Digest != "" {
		if _, err := oci.ParseDigest(string(src.Digest)); err != nil {
			return Added{}, err
		}
	}
	var progress func(int64)
	if o.Progress != nil {
		progress = func(n int64) { o.Progress(diffID, n) }
	}
	known := h.hasLayer(diffID)
	if known && !h.wantsSource(diffID, src, o.KeepBlobs) {
		if progress != nil && src.Size > 0 {
			progress(src.Size)
		}
		return Added{KnownLayers: 1}, nil
	}
	blob, err := open()
	if err != nil {
		return Added{}, err
	}
	a := addition{h: h, diffID: diffID, src: src, known: known, o: o}
	added, err := a.read(ctx, &countedReader{r: blob, progress: progress})
	return added, errors.Join(err, blob.Close())
}

// addition is a layer, or a further source of one, being read.
type addition struct {
	h      *Hold
	diffID oci.DiffID
	src    Source
	known  bool // the layer is there; only the source is new
	o      AddOptions
	dir    string // in staging
}

func (a *addition) read(ctx context.Context, blob *countedReader) (Added, error) {
	begin := bufio.NewReaderSize(blob, blobBuffer)
	magic, err := begin.Peek(maxMagic)
	if err != nil && err != io.EOF {
		return Added{}, err
	}
	compression, err := detectCompression(magic)
	if err != nil {
		return Added{}, err
	}
	if err := a.prepare(); err != nil {
		return Added{}, err
	}
	form := sourceForm(a.src, compression, a.o.KeepBlobs)
	in := io.Reader(begin)
	if form == formBlob {
		f, err := os.OpenFile(filepath.Join(a.dir, blobFile(a.src.Digest)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, objectMode)
		if err != nil {
			return Added{}, err
		}
		defer f.Close()
		in = io.TeeReader(begin, keptBlob{f})
	}
	added, err := a.run(ctx, in, compression)
	if err != nil {
		return Added{}, err
	}
	if !blob.ended {
		return Added{}, errors.New("internal error: the blob was not read to its end")
	}
	if a.src.Digest != "" {
		if err := writeSource(a.dir, a.src, form); err != nil {
			return Added{}, err
		}
	}
	if form == formBlob {
		added.Blobs, added.BlobBytes = 1, a.src.Size
	}
	a.staged()
	return added, nil
}

// run is the pipeline.
func (a *addition) run(ctx context.Context, blob io.Reader, c compression) (Added, error) {
	g, ctx := errgroup.WithContext(ctx)
	blobAhead, readBlob := readAhead(ctx, blob, blobBuffers, blobBuffer)
	g.Go(readBlob)
	r, err := c.reader(blobAhead)
	if err != nil {
		g.Go(func() error { return err })
		return Added{}, g.Wait()
	}
	defer r.Close()
	tarStream := io.Reader(blobAhead)
	if c.name != "" {
		tarAhead, readTar := readAhead(ctx, r, tarBuffers, tarBuffer)
		g.Go(readTar)
		tarStream = tarAhead
	}
	if a.known {
		g.Go(func() error { return verifyTar(tarStream, a.diffID, a.o.Limits.fill()) })
		return Added{KnownLayers: 1}, g.Wait()
	}
	u, err := a.h.unpack(ctx, g, a.diffID, a.dir, tarStream, a.o.Limits)
	if err != nil {
		g.Go(func() error { return err })
		return Added{}, g.Wait()
	}
	err = g.Wait()
	u.added.Layers = 1
	return u.added, err
}

// prepare makes the directory in staging.
func (a *addition) prepare() (err error) {
	if a.known {
		a.dir, err = a.h.mkdir(stagedSources, a.diffID.Hex())
	} else {
		a.dir, err = a.h.mkdir(stagedLayers, a.diffID.Hex())
	}
	return err
}

// staged tells the Hold what there is to publish.
func (a *addition) staged() {
	a.h.mu.Lock()
	defer a.h.mu.Unlock()
	switch {
	case !a.known:
		a.h.layers = append(a.h.layers, a.diffID)
	case !slices.Contains(a.h.sources, a.diffID):
		a.h.sources = append(a.h.sources, a.diffID)
	}
}

// verifyTar reads a tar only to see that it is diffID's.
func verifyTar(r io.Reader, diffID oci.DiffID, limits Limits) error {
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(r, limits.Bytes+1))
	if err != nil {
		return err
	}
	if n > limits.Bytes {
		return fmt.Errorf("the tar exceeds the limit of %d bytes", limits.Bytes)
	}
	return checkDiffID(sum, diffID)
}

func checkDiffID(sum hash.Hash, diffID oci.DiffID) error {
	if found := oci.DiffID(fmt.Sprintf("sha256:%x", sum.Sum(nil))); found != diffID {
		return fmt.Errorf("the tar's diffID is %s, not %s: it is damaged, or another layer's", found, diffID)
	}
	return nil
}
