package inflate

import "encoding/binary"

// Types of blocks.
const (
	blockStored = iota
	blockFixed
	blockDynamic
)

// The order in which the lengths of the codes for code lengths stand.
var codeLenOrder = [numCodeLens]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// blockHeader reads how a block begins, or finds that the last one is over.
func (z *Reader) blockHeader() error {
	if z.lastBlock {
		z.align()
		z.step = (*Reader).trailer
		return nil
	}
	if err := z.need(3); err != nil {
		return err
	}
	z.lastBlock = z.take(1) == 1
	switch z.take(2) {
	case blockStored:
		return z.storedHeader()
	case blockFixed:
		z.fixedHeader()
	case blockDynamic:
		if err := z.dynamicHeader(); err != nil {
			return err
		}
	default:
		return z.corrupt(badBlockType)
	}
	z.step = (*Reader).codes
	return nil
}

func (z *Reader) storedHeader() error {
	z.align()
	if !z.in.fill(4) {
		return z.in.short()
	}
	h := z.in.buf[z.in.next : z.in.next+4]
	n := binary.LittleEndian.Uint16(h)
	if n != ^binary.LittleEndian.Uint16(h[2:]) {
		return z.corrupt(badStoredLength)
	}
	z.in.next += 4
	z.stored = int(n)
	z.step = (*Reader).storedData
	return nil
}

func (z *Reader) storedData() error {
	for z.stored > 0 && z.out.end <= lastFast {
		if !z.in.fill(1) {
			return z.in.short()
		}
		n := min(z.stored, z.in.end-z.in.next)
		n = copy(z.out.buf[z.out.end:outSize], z.in.buf[z.in.next:z.in.next+n])
		z.in.next += n
		z.out.end += n
		z.stored -= n
	}
	if z.stored == 0 {
		z.step = (*Reader).blockHeader
	}
	return nil
}

// fixedHeader makes the tables of the codes that need not be told.
func (z *Reader) fixedHeader() {
	if z.fixedTables {
		return
	}
	var lits [numLits]uint8
	for i := range lits {
		switch {
		case i < 144:
			lits[i] = 8
		case i < 256:
			lits[i] = 9
		case i < 280:
			lits[i] = 7
		default:
			lits[i] = 8
		}
	}
	var dists [numDists]uint8
	for i := range dists {
		dists[i] = 5
	}
	newCode(lits[:]).build(z.lit[:], litBits, litSymbols[:])
	newCode(dists[:]).build(z.dist[:], distBits, distSymbols[:])
	z.fixedTables = true
}

// dynamicHeader reads a block's own codes and makes their tables.
func (z *Reader) dynamicHeader() error {
	z.fixedTables = false
	if err := z.need(14); err != nil {
		return err
	}
	lits, dists, n := int(z.take(5))+257, int(z.take(5))+1, int(z.take(4))+4
	if lits > maxLits || dists > maxDists {
		return z.corrupt(tooManyCodes)
	}
	var lenLens [numCodeLens]uint8
	for _, sym := range codeLenOrder[:n] {
		if err := z.need(3); err != nil {
			return err
		}
		lenLens[sym] = uint8(z.take(3))
	}
	c := newCode(lenLens[:])
	if c.overfull || c.unclaimed {
		return z.corrupt(badCodeLenCode)
	}
	var table [1 << codeLenBits]uint32
	c.build(table[:], codeLenBits, codeLenSymbols[:])

	var lens [maxLits + maxDists]uint8
	if err := z.codeLens(&table, lens[:lits+dists]); err != nil {
		return err
	}
	if lens[endOfBlock] == 0 {
		return z.corrupt(noEndOfBlock)
	}
	if c = newCode(lens[:lits]); !c.usable() {
		return z.corrupt(badLitCode)
	}
	c.build(z.lit[:], litBits, litSymbols[:])
	if c = newCode(lens[lits : lits+dists]); !c.usable() {
		return z.corrupt(badDistCode)
	}
	c.build(z.dist[:], distBits, distSymbols[:])
	return nil
}

// codeLens reads the lengths of codes, which are themselves coded: 0 to 15 are
// lengths, 16 repeats the one before 3 to 6 times, 17 and 18 are 3 to 10 and 11
// to 138 zeros.
func (z *Reader) codeLens(table *[1 << codeLenBits]uint32, lens []uint8) error {
	for i := 0; i < len(lens); {
		if z.nbits < codeLenBits+7 {
			z.in.fill(8)
			z.refill()
		}
		e := table[z.bits&(1<<codeLenBits-1)]
		var repeated uint8
		var times, extra uint64
		switch sym := uint8(e >> valueShift); sym {
		case 16:
			if i == 0 {
				return z.corrupt(nothingToRepeat)
			}
			repeated, times, extra = lens[i-1], 3, 2
		case 17:
			times, extra = 3, 3
		case 18:
			times, extra = 11, 7
		default:
			repeated, times = sym, 1
		}
		n := uint64(e & consumedMask)
		if n+extra > z.nbits {
			return z.in.short()
		}
		z.take(n)
		times += z.take(extra)
		if times > uint64(len(lens)-i) {
			return z.corrupt(tooManyCodeLens)
		}
		for range times {
			lens[i] = repeated
			i++
		}
	}
	return nil
}
