package overlay

import (
	"sync"
	"sync/atomic"
)

// lowerRefs counts the references to lower-only IDs. Such IDs are dense, so the
// counters stand in an array that grows in pieces where it is touched.
type lowerRefs struct {
	grow   sync.Mutex
	pieces atomic.Pointer[[]*refPiece]
}

type refPiece [1024]atomic.Uint32

func (r *lowerRefs) counter(id ID) *atomic.Uint32 {
	piece, i := int(id/1024), id%1024
	if p := r.pieces.Load(); p != nil && piece < len(*p) && (*p)[piece] != nil {
		return &(*p)[piece][i]
	}
	r.grow.Lock()
	defer r.grow.Unlock()
	var old []*refPiece
	if p := r.pieces.Load(); p != nil {
		old = *p
	}
	fresh := make([]*refPiece, max(piece+1, len(old)))
	copy(fresh, old)
	if fresh[piece] == nil {
		fresh[piece] = new(refPiece)
	}
	r.pieces.Store(&fresh)
	return &fresh[piece][i]
}

func (r *lowerRefs) add(id ID, k uint32) { r.counter(id).Add(k) }

func (r *lowerRefs) count(id ID) uint32 { return r.counter(id).Load() }

// sub takes k off, but never below zero, and returns what is left.
func (r *lowerRefs) sub(id ID, k uint32) uint32 {
	c := r.counter(id)
	for {
		have := c.Load()
		left := have - min(k, have)
		if c.CompareAndSwap(have, left) {
			return left
		}
	}
}
