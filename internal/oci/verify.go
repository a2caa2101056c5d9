package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ErrCorrupt is wrapped by errors about bytes that were read without trouble
// and are not the blob that they should be: cut short, too long, or of another
// digest. Fetching them again may help.
var ErrCorrupt = errors.New("not the blob that its descriptor names")

// verifiedReader passes a blob's bytes on and holds them against its
// descriptor. The verdict is spoken with the last byte, not with the Read after
// it: a reader of compressed data may never ask for that one.
type verifiedReader struct {
	r    io.Reader
	want Descriptor
	hash hash.Hash
	n    int64
	err  error // the verdict; sticky
}

func newVerifiedReader(r io.Reader, want Descriptor) *verifiedReader {
	return &verifiedReader{r: r, want: want, hash: sha256.New()}
}

func (v *verifiedReader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if left := v.want.Size - v.n; int64(len(p)) > left {
		p = p[:left]
	}
	n := 0
	var err error
	if len(p) > 0 {
		n, err = v.r.Read(p)
		v.hash.Write(p[:n])
		v.n += int64(n)
	}
	switch {
	case v.n == v.want.Size:
		if v.err = v.verdict(err); v.err == io.EOF && n > 0 {
			return n, nil
		}
	case err == io.EOF:
		v.err = fmt.Errorf("%w: it ends after %d of %d bytes: %w", ErrCorrupt, v.n, v.want.Size, io.ErrUnexpectedEOF)
	default:
		v.err = err
	}
	return n, v.err
}

// verdict judges a blob of which want.Size bytes have been read. It is io.EOF
// for a good one.
func (v *verifiedReader) verdict(lastErr error) error {
	if lastErr != nil && lastErr != io.EOF {
		return lastErr
	}
	if lastErr == nil {
		var beyond [1]byte
		switch _, err := io.ReadFull(v.r, beyond[:]); err {
		case io.EOF:
		case nil:
			return fmt.Errorf("%w: bytes follow the %d that it has", ErrCorrupt, v.want.Size)
		default:
			return err
		}
	}
	if got := Digest(digestPrefix + hex.EncodeToString(v.hash.Sum(nil))); got != v.want.Digest {
		return fmt.Errorf("%w: the bytes hash to %s, want %s", ErrCorrupt, got, v.want.Digest)
	}
	return io.EOF
}
