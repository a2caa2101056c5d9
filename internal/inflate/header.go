package inflate

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// A member, with its integers in little-endian order:
//
//	0    2  magic, 1f 8b
//	2    1  compression method, 8: deflate
//	3    1  flags
//	4    6  time, hint, operating system
//	        with flagExtra: 2 bytes of length, and as many bytes
//	        with flagName: a name that ends in 0
//	        with flagComment: a comment that ends in 0
//	        with flagHeaderCRC: 2 bytes, the low half of the CRC-32 of all the above
//	        deflate data
//	        4 bytes, the CRC-32 of the data
//	        4 bytes, its length modulo 2^32
const (
	magic0, magic1 = 0x1f, 0x8b
	methodDeflate  = 8
	fixedHeader    = 10
	trailerSize    = 8

	flagText      = 1 << 0 // a hint
	flagHeaderCRC = 1 << 1
	flagExtra     = 1 << 2
	flagName      = 1 << 3
	flagComment   = 1 << 4
	flagsKnown    = flagText | flagHeaderCRC | flagExtra | flagName | flagComment
)

// header reads a member's header. wrong is the cause if there is none.
func (z *Reader) header(wrong error) error {
	// Junk may be shorter than a header, so the magic is looked at first.
	z.in.fill(2)
	if b := z.in.buf[z.in.next:z.in.end]; len(b) > 0 && b[0] != magic0 || len(b) > 1 && b[1] != magic1 {
		return wrong
	}
	if !z.in.fill(fixedHeader) {
		return z.in.short()
	}
	h := z.in.buf[z.in.next : z.in.next+fixedHeader]
	method, flags := h[2], h[3]
	if method != methodDeflate {
		return fmt.Errorf("%w: compression method %d is not deflate", ErrHeader, method)
	}
	if unknown := flags &^ flagsKnown; unknown != 0 {
		return fmt.Errorf("%w: unknown flags %#x", ErrHeader, unknown)
	}
	sum := z.headerBytes(0, fixedHeader)
	if err := z.optionalHeader(flags, sum); err != nil {
		return err
	}
	z.sum, z.size = 0, 0
	z.out.begin = z.out.end
	z.lastBlock = false
	z.step = (*Reader).blockHeader
	return nil
}

// optionalHeader reads what flags announce. sum is of what comes before it.
func (z *Reader) optionalHeader(flags byte, sum uint32) error {
	if flags&flagExtra != 0 {
		if !z.in.fill(2) {
			return z.in.short()
		}
		left := int(binary.LittleEndian.Uint16(z.in.buf[z.in.next:]))
		sum = z.headerBytes(sum, 2)
		for left > 0 {
			if !z.in.fill(1) {
				return z.in.short()
			}
			n := min(left, z.in.end-z.in.next)
			sum = z.headerBytes(sum, n)
			left -= n
		}
	}
	for _, flag := range []byte{flagName, flagComment} {
		for text := flags&flag != 0; text; {
			if !z.in.fill(1) {
				return z.in.short()
			}
			text = z.in.buf[z.in.next] != 0
			sum = z.headerBytes(sum, 1)
		}
	}
	if flags&flagHeaderCRC != 0 {
		if !z.in.fill(2) {
			return z.in.short()
		}
		if said := binary.LittleEndian.Uint16(z.in.buf[z.in.next:]); said != uint16(sum) {
			return fmt.Errorf("%w: its checksum is %#04x and said to be %#04x", ErrHeader, uint16(sum), said)
		}
		z.in.next += 2
	}
	return nil
}

// headerBytes takes n bytes of a header, and adds them to its checksum.
func (z *Reader) headerBytes(sum uint32, n int) uint32 {
	b := z.in.buf[z.in.next : z.in.next+n]
	z.in.next += n
	return crc32.Update(sum, crc32.IEEETable, b)
}

// trailer reads a member's trailer and the next one's header.
func (z *Reader) trailer() error {
	z.summarize()
	if !z.in.fill(trailerSize) {
		return z.in.short()
	}
	t := z.in.buf[z.in.next : z.in.next+trailerSize]
	if said := binary.LittleEndian.Uint32(t); said != z.sum {
		return fmt.Errorf("%w: the CRC-32 is %#08x and said to be %#08x", ErrChecksum, z.sum, said)
	}
	if said := binary.LittleEndian.Uint32(t[4:]); said != z.size {
		return fmt.Errorf("%w: the length modulo 2^32 is %d and said to be %d", ErrChecksum, z.size, said)
	}
	z.in.next += trailerSize
	if !z.in.fill(1) {
		return z.in.err // io.EOF belongs here
	}
	return z.header(ErrJunk)
}
