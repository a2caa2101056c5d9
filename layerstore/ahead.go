package layerstore

import (
	"context"
	"io"
)

// ahead reads from another goroutine's reader through buffers, so that both
// sides work at once. An error of that reader comes out behind the last byte
// before it.
type ahead struct {
	ctx  context.Context
	full chan chunk
	free chan []byte
	cur  chunk  // the chunk being read
	rest []byte // what is left of it
}

type chunk struct {
	buf []byte // as taken from free
	n   int
	err error // comes after buf[:n]
}

// readAhead returns a reader of r's bytes and the function that reads r, for
// the caller to run in a goroutine. It ends with r or with ctx, and returns an
// error only for ctx.
func readAhead(ctx context.Context, r io.Reader, buffers, size int) (*ahead, func() error) {
	a := &ahead{ctx: ctx, full: make(chan chunk, buffers), free: make(chan []byte, buffers)}
	for range buffers {
		a.free <- make([]byte, size)
	}
	return a, func() error {
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case buf := <-a.free:
				n, err := 0, error(nil)
				for n < len(buf) && err == nil {
					var m int
					m, err = r.Read(buf[n:])
					n += m
				}
				a.full <- chunk{buf, n, err} // never waits: there are as many places as buffers
				if err != nil {
					return nil
				}
			}
		}
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.buf != nil {
			a.free <- a.cur.buf
			a.cur.buf = nil
		}
		select {
		case <-a.ctx.Done():
			return 0, a.ctx.Err()
		case a.cur = <-a.full:
			a.rest = a.cur.buf[:a.cur.n]
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// contextReader ends a long read with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
