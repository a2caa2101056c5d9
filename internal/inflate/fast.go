package inflate

import "encoding/binary"

// fast decodes literals and matches until the block ends, something is wrong,
// or less input or output is left than one turn of its loop could need.
//
// Nearly all of the time goes here, so its lines are written for the compiler:
// the state is in local variables, no index needs a check (masks that change
// nothing see to that), nothing is called. What a turn may take from the bit
// buffer: three literals from the table and a length (3*11 + 20 bits), four
// literals (4*11), or after another refill a distance (28), of the 56 bits or
// more that are there then.
//
// Above its lowest nbits bits, bb may have bits already that come next: they
// are put there again, and are the same. Above its lowest 6 bits, bn has
// anything: entries are subtracted from it as they are.
func (z *Reader) fast() (end bool, problem string) {
	const (
		litMask  = 1<<litBits - 1
		distMask = 1<<distBits - 1
	)
	bb, bn := z.bits, z.nbits
	ip, op := z.in.next, z.out.end
	lastIn := z.in.end - fastIn
	for ip <= lastIn && op <= lastFast {
		bb |= binary.LittleEndian.Uint64(z.in.buf[ip&inMask:][:8]) << (bn & 63)
		ip += 7 - int(bn>>3&7)
		bn |= 56

		e := z.lit[bb&litMask]
		if e&flagLiteral != 0 {
			z.out.buf[op&outMask] = byte(e >> valueShift)
			op++
			bb >>= e & consumedMask
			bn -= uint64(e)
			e = z.lit[bb&litMask]
			if e&flagLiteral != 0 {
				z.out.buf[op&outMask] = byte(e >> valueShift)
				op++
				bb >>= e & consumedMask
				bn -= uint64(e)
				e = z.lit[bb&litMask]
				if e&flagLiteral != 0 {
					z.out.buf[op&outMask] = byte(e >> valueShift)
					op++
					bb >>= e & consumedMask
					bn -= uint64(e)
					e = z.lit[bb&litMask]
					if e&flagLiteral != 0 {
						z.out.buf[op&outMask] = byte(e >> valueShift)
						op++
						bb >>= e & consumedMask
						bn -= uint64(e)
						continue
					}
				}
			}
		}
		if e&flagSpecial != 0 {
			if e&flagSubtable != 0 {
				bb >>= e & consumedMask
				bn -= uint64(e)
				e = z.lit[(e>>valueShift+uint32(bb)&(1<<(e>>codeLenShift&codeLenMask)-1))%litTableSize]
				if e&flagLiteral != 0 {
					z.out.buf[op&outMask] = byte(e >> valueShift)
					op++
					bb >>= e & consumedMask
					bn -= uint64(e)
					continue
				}
			}
			if e&flagEnd != 0 {
				bb >>= e & consumedMask
				bn -= uint64(e)
				end = true
				break
			}
			if e&flagInvalid != 0 {
				problem = noLitCode
				break
			}
		}
		length := int(e>>valueShift) + int(bb&(1<<(e&consumedMask)-1)>>(e>>codeLenShift&codeLenMask))
		bb >>= e & consumedMask
		bn -= uint64(e)

		bb |= binary.LittleEndian.Uint64(z.in.buf[ip&inMask:][:8]) << (bn & 63)
		ip += 7 - int(bn>>3&7)
		bn |= 56
		e = z.dist[bb&distMask]
		if e&flagSpecial != 0 {
			if e&flagSubtable != 0 {
				bb >>= e & consumedMask
				bn -= uint64(e)
				e = z.dist[(e>>valueShift+uint32(bb)&(1<<(e>>codeLenShift&codeLenMask)-1))%distTableSize]
			}
			if e&flagInvalid != 0 {
				problem = noDistCode
				break
			}
		}
		dist := int(e>>valueShift) + int(bb&(1<<(e&consumedMask)-1)>>(e>>codeLenShift&codeLenMask))
		bb >>= e & consumedMask
		bn -= uint64(e)
		if dist > op-z.out.begin {
			problem = tooFarBack
			break
		}

		// What is written beyond the match's end is overwritten later.
		from, matchEnd := op-dist, op+length
		switch {
		case dist >= 16:
			for {
				*(*[16]byte)(z.out.buf[op&outMask:]) = *(*[16]byte)(z.out.buf[from&outMask:])
				op += 16
				from += 16
				if op >= matchEnd {
					break
				}
			}
		case dist >= 8:
			for op < matchEnd {
				binary.LittleEndian.PutUint64(z.out.buf[op&outMask:][:8], binary.LittleEndian.Uint64(z.out.buf[from&outMask:][:8]))
				op += 8
				from += 8
			}
		case dist == 1:
			run := uint64(z.out.buf[from&outMask]) * 0x0101010101010101
			for op < matchEnd {
				binary.LittleEndian.PutUint64(z.out.buf[op&outMask:][:8], run)
				op += 8
			}
		default:
			for op < matchEnd {
				z.out.buf[op&outMask] = z.out.buf[from&outMask]
				op++
				from++
			}
		}
		op = matchEnd
	}
	bn &= 63
	z.bits, z.nbits = bb&(1<<bn-1), bn
	z.in.next, z.out.end = ip, op
	return end, problem
}
