package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"strata/internal/inflate"
)

const (
	defaultMaxSpool = 256 << 30

	// maxZstdWindow admits what zstd --ultra --long writes (2^27) and bounds
	// the memory that an archive can make us take.
	maxZstdWindow = 128 << 20
)

// openTar opens a tar so that it can be read at any offset: the file itself
// when it is a plain one and not compressed, else a decompressed copy.
func openTar(ctx context.Context, path string, opts ArchiveOptions) (*os.File, error) {
	file := os.Stdin
	if path != "-" {
		var err error
		if file, err = os.Open(path); err != nil {
			return nil, errors.Unwrap(err)
		}
	}
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep && path != "-" {
			file.Close()
		}
	}()

	magic := make([]byte, magicLen)
	n, err := io.ReadFull(file, magic)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	magic = magic[:n]
	if n == 0 {
		return nil, errors.New("it is empty")
	}
	kind := compressionOf(magic)
	// A redirected standard input may have been read from before, by another
	// program in the same shell script: its offsets are not ours to assume.
	if kind == uncompressed && fi.Mode().IsRegular() && path != "-" {
		keep = true
		return file, nil
	}

	r, err := decompress(kind, io.MultiReader(bytes.NewReader(magic), file))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kind, err)
	}
	defer r.Close()
	return spool(ctx, kind, r, opts)
}

// spool copies r into a file without a name.
func spool(ctx context.Context, kind compression, r io.Reader, opts ArchiveOptions) (_ *os.File, err error) {
	most := opts.MaxSpool
	if most == 0 {
		most = defaultMaxSpool
	}
	tmp, err := os.CreateTemp(opts.TempDir, "archive-*")
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	defer func() {
		if err != nil {
			tmp.Close()
		}
	}()
	if err := os.Remove(tmp.Name()); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{tmp}, &ctxReader{ctx, io.LimitReader(r, most+1)}, make([]byte, 1<<20))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("the %s data is cut short, after %d bytes of tar: %w", kind, n, err)
	case err != nil:
		return nil, fmt.Errorf("%s data, after %d bytes of tar: %w", kind, n, err)
	case n > most:
		return nil, fmt.Errorf("more than %d bytes of tar, which is the limit for spooling", most)
	}
	return tmp, nil
}

// ctxReader ends a long copy when ctx ends.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// compression is how bytes are packed, found by their first bytes.
type compression string

const (
	uncompressed  compression = "uncompressed"
	gzipped       compression = "gzip"
	zstandard     compression = "zstd"
	otherXZ       compression = "xz"
	otherBzip2    compression = "bzip2"
	magicLen                  = 6
	gzipMagic                 = "\x1f\x8b"
	zstdMagic                 = "\x28\xb5\x2f\xfd"
	zstdSkippable             = "\x2a\x4d\x18" // after one byte 0x50 to 0x5f
	xzMagic                   = "\xfd7zXZ\x00"
	bzip2Magic                = "BZh"
)

func compressionOf(magic []byte) compression {
	starts := func(s string) bool { return bytes.HasPrefix(magic, []byte(s)) }
	switch {
	case starts(gzipMagic):
		return gzipped
	case starts(zstdMagic), len(magic) > 4 && magic[0]&0xf0 == 0x50 && bytes.HasPrefix(magic[1:], []byte(zstdSkippable)):
		return zstandard
	case starts(xzMagic):
		return otherXZ
	case starts(bzip2Magic):
		return otherBzip2
	}
	return uncompressed
}

func decompress(kind compression, r io.Reader) (io.ReadCloser, error) {
	switch kind {
	case gzipped:
		z, err := inflate.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	case zstandard:
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case uncompressed:
		return io.NopCloser(r), nil
	}
	return nil, errors.New("not supported; decompress it first, or use gzip or zstd")
}
