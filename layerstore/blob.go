package layerstore

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"

	"strata/internal/oci"
)

// countedReader reads a source blob for the pipeline.
type countedReader struct {
	r        io.Reader
	progress func(n int64) // may be nil
	ended    bool
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.progress != nil && n > 0 {
		c.progress(int64(n))
	}
	c.ended = c.ended || err == io.EOF
	if err != nil && err != io.EOF {
		err = &blobError{"read", err}
	}
	return n, err
}

// keptBlob is the file in which a blob is kept while it is read.
type keptBlob struct{ *os.File }

func (k keptBlob) Write(p []byte) (int, error) {
	n, err := k.File.Write(p)
	if err != nil {
		err = &blobError{"keep", err}
	}
	return n, err
}

// blobError is an error of reading or keeping a blob, to be told from one of
// decoding it.
type blobError struct {
	op  string
	err error
}

func (e *blobError) Error() string { return e.op + " blob: " + e.err.Error() }
func (e *blobError) Unwrap() error { return e.err }

// blobReader gives EOF only if the blob is what its Source says.
type blobReader struct {
	r   io.Reader
	src Source
	sum hash.Hash
	n   int64
}

// newBlobReader returns r if there is nothing to verify.
func newBlobReader(r io.Reader, src Source) io.Reader {
	if src.Digest == "" {
		return r
	}
	return &blobReader{r: r, src: src, sum: sha256.New()}
}

func (b *blobReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.n += int64(n)
	b.sum.Write(p[:n])
	if b.n > b.src.Size {
		return n, fmt.Errorf("it has more than the %d bytes that it is declared to have", b.src.Size)
	}
	if err == io.EOF {
		err = b.verify()
	}
	return n, err
}

// verify is called at the end; it returns io.EOF if all is well.
func (b *blobReader) verify() error {
	if b.n != b.src.Size {
		return fmt.Errorf("it has %d bytes and is declared to have %d", b.n, b.src.Size)
	}
	if found := oci.Digest(fmt.Sprintf("sha256:%x", b.sum.Sum(nil))); found != b.src.Digest {
		return fmt.Errorf("its digest is %s, not %s", found, b.src.Digest)
	}
	return io.EOF
}
