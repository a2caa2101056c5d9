package inflate

import (
	"hash/crc32"
	"io"
)

const (
	window  = 32 << 10 // as far as a match can go back
	outSize = 1 << 17
	outMask = outSize - 1

	// fastOut is what one turn of the fast loop may write: three literals and
	// a match, or four literals.
	fastOut  = 3 + maxLength
	lastFast = outSize - fastOut // where it may begin its last turn
)

// output is data on its way out. When all of it is given, the last window is
// moved to the front and decoding goes on behind it.
//
//	0     begin               given     end        outSize
//	|       | what matches may   | not    | room      | 16
//	|       | go back to         | given  |           |
type output struct {
	buf    [outSize + 16]byte // 16 bytes can be stored at any index up to outMask
	begin  int                // the oldest byte that belongs to the member
	given  int
	summed int // buf[:summed] is in the member's checksum
	end    int
}

// Reader gives what the members of a gzip stream hold, one after the other.
type Reader struct {
	// All that the fast loop touches is an array within this one struct: an
	// index into it needs no second register.
	in    input
	bits  uint64 // taken from in, the next bit lowest; the rest is 0
	nbits uint64 // how many, at most 63
	lit   [litTableSize]uint32
	dist  [distTableSize]uint32
	out   output

	step        func(*Reader) error // what comes next
	lastBlock   bool                // of the member
	fixedTables bool                // lit and dist are those of the fixed codes
	stored      int                 // bytes left of a stored block
	sum, size   uint32              // of the member's data up to out.summed
	err         error               // comes behind out.end
}

// NewReader reads the header of the first member from r. It reads ahead, up to
// 64 KiB at a time, and may wait for bytes that it needs only later; what it
// has read is lost to others.
func NewReader(r io.Reader) (*Reader, error) {
	z := &Reader{in: input{src: r}}
	if err := z.header(ErrHeader); err != nil {
		return nil, err
	}
	return z, nil
}

// Read returns io.EOF if the source ended behind a member and all checksums
// were right. Any other error comes behind all bytes that were good before it:
// io.ErrUnexpectedEOF, one of this package's, or the source's as it is.
func (z *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := z.peek()
	n := copy(p, b)
	z.out.given += n
	return n, err
}

// WriteTo writes all that follows to w, from the buffer that it is decoded to.
func (z *Reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		b, err := z.peek()
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		m, err := w.Write(b)
		z.out.given += m
		n += int64(m)
		if err == nil && m < len(b) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, err
		}
	}
}

// peek gives bytes or an error, never both.
func (z *Reader) peek() ([]byte, error) {
	for z.out.given == z.out.end {
		if z.err != nil {
			return nil, z.err
		}
		z.decode()
	}
	return z.out.buf[z.out.given:z.out.end], nil
}

// decode fills the output, all of which was given.
func (z *Reader) decode() {
	if gone := z.out.end - window; gone > 0 {
		copy(z.out.buf[:window], z.out.buf[gone:z.out.end])
		z.out.begin = max(z.out.begin-gone, 0)
		z.out.given, z.out.summed, z.out.end = window, window, window
	}
	for z.err == nil && z.out.end <= lastFast {
		z.err = z.step(z)
	}
	z.summarize()
}

// summarize brings the checksum up to the end.
func (z *Reader) summarize() {
	b := z.out.buf[z.out.summed:z.out.end]
	z.sum = crc32.Update(z.sum, crc32.IEEETable, b)
	z.size += uint32(len(b))
	z.out.summed = z.out.end
}
