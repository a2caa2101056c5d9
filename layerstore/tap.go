package layerstore

import (
	"fmt"
	"hash"
	"io"
)

// tapSize is how much framing is recorded before it is handed on. It is more
// than an entry in a slab can have, for handing on may flush the slab.
const tapSize = 2 * slabSize

// tap is the tar as archive/tar reads it. While recording, it keeps the bytes
// for the recipe.
type tap struct {
	r         io.Reader
	sum       hash.Hash
	limit     int64
	recording bool
	rec       []byte
	full      func() error // takes rec, which has grown to tapSize
	n         int64        // bytes read
	err       error        // of r
}

func (t *tap) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.n += int64(n)
	if t.recording {
		t.sum.Write(p[:n])
		t.rec = append(t.rec, p[:n]...)
	}
	if t.err = err; t.n > t.limit {
		return n, fmt.Errorf("the tar exceeds the limit of %d bytes", t.limit)
	}
	if len(t.rec) >= tapSize {
		if err := t.full(); err != nil {
			return n, err
		}
	}
	return n, err
}

// take gives away what has been recorded.
func (t *tap) take() []byte {
	rec := t.rec
	t.rec = nil
	return rec
}
