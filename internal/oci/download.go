package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// progressBytes is how much must have come for a cut connection to count as
// getting on, after which the tries are counted anew. So a bad line comes to
// its end, and a server that gives a byte at a time does not keep us for ever.
const progressBytes = 256 << 10

// blobDownload reads a blob from a registry. When the connection is lost, it
// asks for the rest; from a registry that gives only the whole, it takes that
// and passes over what it has. The bytes are one blob whose digest the reader
// checks, however many answers they came in.
type blobDownload struct {
	ctx   context.Context
	p     *puller
	want  Descriptor
	body  io.ReadCloser     // nil between two connections
	off   int64             // bytes that were given to the reader
	mark  int64             // off when tries were counted anew
	tries transport.Backoff // those that are left

	noRange bool // the registry refuses to give a part
}

// Read implements io.Reader. What follows a blob's bytes is for the one who
// verifies it to find: he asks for it.
func (b *blobDownload) Read(p []byte) (int, error) {
	for {
		if b.body == nil {
			if err := b.open(); err != nil {
				return 0, b.p.explain(err)
			}
		}
		n, err := b.body.Read(p)
		b.off += int64(n)
		if err == io.EOF && b.off < b.want.Size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || err == io.EOF {
			return n, err
		}
		if err := b.pause(err); err != nil {
			return n, err
		}
		if n > 0 {
			return n, nil
		}
	}
}

// pause waits before the next try. It returns the error if there is to be none.
// Whatever ends an answer in its midst is the network's doing: what is wrong
// with the bytes themselves is found by others.
func (b *blobDownload) pause(err error) error {
	b.Close()
	if b.off-b.mark >= progressBytes {
		b.mark, b.tries = b.off, b.p.backoff
	}
	if b.ctx.Err() != nil {
		return err
	}
	if b.tries.Steps <= 1 {
		return fmt.Errorf("the connection breaks off again and again, now at byte %d of %d: %w", b.off, b.want.Size, err)
	}
	b.p.log.Info("the connection broke off, trying again", "blob", b.want.Digest, "at", b.off, "of", b.want.Size, "err", err)
	return sleep(b.ctx, b.tries.Step())
}

// open asks for what follows the first off bytes.
func (b *blobDownload) open() error {
	at := b.p.url("blobs", string(b.want.Digest))
	req, err := http.NewRequestWithContext(b.ctx, http.MethodGet, at, nil)
	if err != nil {
		return err
	}
	if b.off > 0 && !b.noRange {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.off, b.want.Size-1))
	}
	resp, err := b.p.client.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && b.off > 0 && !b.noRange {
		resp.Body.Close()
		b.noRange = true
		return b.open()
	}
	if err = transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err == nil {
		err = b.begin(resp)
	}
	if err != nil {
		resp.Body.Close()
	}
	return err
}

// begin takes an answer's body, which it brings to off.
func (b *blobDownload) begin(resp *http.Response) error {
	skip, rest := b.off, b.want.Size
	if resp.StatusCode == http.StatusPartialContent {
		begins := fmt.Sprintf("bytes %d-", b.off)
		if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, begins) || b.off == 0 {
			return fmt.Errorf("asked for what follows byte %d, the registry gives %s", b.off, quote(got))
		}
		skip, rest = 0, b.want.Size-b.off
	}
	if n := resp.ContentLength; n >= 0 && n != rest {
		return fmt.Errorf("%w: the registry wants to send %d bytes, of %d that the blob has", ErrCorrupt, n+b.want.Size-rest, b.want.Size)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err := b.pause(err); err != nil {
			return err
		}
		resp.Body.Close()
		return b.open()
	}
	b.body = resp.Body
	return nil
}

// Close implements io.Closer.
func (b *blobDownload) Close() error {
	if b.body == nil {
		return nil
	}
	err := b.body.Close()
	b.body = nil
	if errors.Is(err, errStalled) {
		err = nil // it was why we close
	}
	return err
}
