package inflate

import (
	"encoding/binary"
	"io"
)

const (
	inSize = 1 << 16
	inMask = inSize - 1

	// fastIn is what one turn of the fast loop may look at: it refills the bit
	// buffer twice, and each time loads 8 bytes and takes 7 of them at most.
	fastIn = 16

	// kept are bytes that stay in front of next, for whole bytes of the bit
	// buffer to be given back.
	kept = 8
)

// input is compressed data that was read ahead.
type input struct {
	src       io.Reader
	buf       [inSize + 8]byte // 8 bytes can be loaded from any index up to inMask
	next, end int              // buf[next:end] is not taken
	dropped   int64            // bytes that were in front of buf
	err       error            // of src, and comes behind buf[:end]
}

// fill tells whether n bytes are there, for which it reads if need be. If not,
// err is set.
func (in *input) fill(n int) bool {
	if in.end-in.next >= n {
		return true
	}
	if drop := in.next - kept; drop > 0 {
		in.dropped += int64(drop)
		in.end = copy(in.buf[:], in.buf[drop:in.end])
		in.next = kept
	}
	for idle := 0; in.end-in.next < n && in.err == nil; idle++ {
		m, err := in.src.Read(in.buf[in.end:inSize])
		in.end += m
		if in.err = err; m > 0 {
			idle = 0
		} else if err == nil && idle == 100 {
			in.err = io.ErrNoProgress
		}
	}
	return in.end-in.next >= n
}

// short is the error of an input that ended too early.
func (in *input) short() error {
	if in.err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return in.err
}

func (in *input) offset() int64 { return in.dropped + int64(in.next) }

// need sees to it that n bits are in the bit buffer, at most 56.
func (z *Reader) need(n uint64) error {
	if z.nbits >= n {
		return nil
	}
	z.in.fill(8)
	z.refill()
	if z.nbits < n {
		return z.in.short()
	}
	return nil
}

// refill takes as many bytes as there are and as find room: if there are 8, the
// bit buffer has 56 bits or more afterwards.
func (z *Reader) refill() {
	if z.in.end-z.in.next >= 8 {
		z.bits |= binary.LittleEndian.Uint64(z.in.buf[z.in.next&inMask:][:8]) << z.nbits
		n := (63 - z.nbits) / 8
		z.in.next += int(n)
		z.nbits += n * 8
		z.bits &= 1<<z.nbits - 1
		return
	}
	for z.nbits <= 55 && z.in.next < z.in.end {
		z.bits |= uint64(z.in.buf[z.in.next]) << z.nbits
		z.in.next++
		z.nbits += 8
	}
}

// take takes n bits, which are there.
func (z *Reader) take(n uint64) uint64 {
	v := z.bits & (1<<n - 1)
	z.bits >>= n
	z.nbits -= n
	return v
}

// align drops what is left of a byte and gives whole ones back, so that what
// follows is in z.in.
func (z *Reader) align() {
	z.in.next -= int(z.nbits / 8)
	z.bits, z.nbits = 0, 0
}
