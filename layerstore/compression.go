package layerstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"strata/internal/inflate"
)

// maxZstdWindow bounds what a zstd blob may make us remember. 128 MiB is what
// the zstd program decodes unless it is told otherwise; registries' blobs use
// 8 MiB or less.
const maxZstdWindow = 128 << 20

// compression is a way in which blobs are compressed.
type compression struct {
	name  string
	magic string
	open  func(io.Reader) (io.ReadCloser, error) // nil: known, but not supported
}

// compressions are told from each other by how a blob begins: media types lie.
var compressions = []compression{
	{"gzip", "\x1f\x8b", openGzip},
	{"zstd", "\x28\xb5\x2f\xfd", openZstd},
	{"zstd", "\x50\x2a\x4d\x18", openZstd}, // begins with a skippable frame
	{"bzip2", "BZh", nil},
	{"xz", "\xfd7zXZ\x00", nil},
	{"lz4", "\x04\x22\x4d\x18", nil},
}

var uncompressed = compression{open: func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(r), nil }}

const maxMagic = 6

// detectCompression tells from the first bytes of a blob.
func detectCompression(begin []byte) (compression, error) {
	for _, c := range compressions {
		if !bytes.HasPrefix(begin, []byte(c.magic)) {
			continue
		}
		if c.open == nil {
			return c, fmt.Errorf("the blob is compressed with %s, which layers are not: use gzip, zstd or none", c.name)
		}
		return c, nil
	}
	return uncompressed, nil
}

// reader decompresses blob. Its errors say what is wrong with the compressed
// stream. It reads blob to its end; what does not belong to the stream there
// is an error.
func (c compression) reader(blob io.Reader) (io.ReadCloser, error) {
	r, err := c.open(blob)
	if err != nil {
		return nil, streamError(c.name, false, err)
	}
	if c.name == "" {
		return r, nil
	}
	return &stream{ReadCloser: r, name: c.name}, nil
}

func openGzip(r io.Reader) (io.ReadCloser, error) {
	z, err := inflate.NewReader(r)
	if err != nil {
		return nil, err
	}
	return io.NopCloser(z), nil
}

func openZstd(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// stream is a compressed stream whose errors speak of it.
type stream struct {
	io.ReadCloser
	name  string
	begun bool // some bytes have come out
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.begun = s.begun || n > 0
	if err != nil && err != io.EOF {
		err = streamError(s.name, s.begun, err)
	}
	return n, err
}

func streamError(name string, begun bool, err error) error {
	if blob := (*blobError)(nil); errors.As(err, &blob) {
		return err // of reading it, not of what it holds
	}
	wrong := "is corrupted"
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		wrong = "is truncated"
	case errors.Is(err, inflate.ErrJunk), begun && errors.Is(err, zstd.ErrMagicMismatch):
		wrong = "is followed by trailing junk"
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		wrong = fmt.Sprintf("wants a window of more than %d MiB", maxZstdWindow>>20)
	}
	return fmt.Errorf("the %s stream %s: %w", name, wrong, err)
}
