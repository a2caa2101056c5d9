package inflate

// codes decodes a block's literals and matches.
func (z *Reader) codes() error {
	for z.out.end <= lastFast {
		var end bool
		var problem string
		if z.in.fill(fastIn) {
			end, problem = z.fast()
		} else {
			var err error
			if end, problem, err = z.careful(); err != nil {
				return err
			}
		}
		if problem != "" {
			return z.corrupt(problem)
		}
		if end {
			z.step = (*Reader).blockHeader
			return nil
		}
	}
	return nil
}

// careful decodes one literal or match near the end of the input, of which all
// that is left is there.
func (z *Reader) careful() (end bool, problem string, err error) {
	z.refill()
	e, n := z.lookup(z.lit[:], litBits)
	switch {
	case e&flagInvalid != 0:
		return false, noLitCode, nil
	case n > z.nbits:
		return false, "", z.in.short()
	case e&flagEnd != 0:
		z.take(n)
		return true, "", nil
	case e&flagLiteral != 0:
		z.take(n)
		z.out.buf[z.out.end] = byte(e >> valueShift)
		z.out.end++
		return false, "", nil
	}
	length := z.value(e, n)
	z.refill()
	e, n = z.lookup(z.dist[:], distBits)
	switch {
	case e&flagInvalid != 0:
		return false, noDistCode, nil
	case n > z.nbits:
		return false, "", z.in.short()
	}
	dist := z.value(e, n)
	if dist > z.out.end-z.out.begin {
		return false, tooFarBack, nil
	}
	for range length {
		z.out.buf[z.out.end] = z.out.buf[z.out.end-dist]
		z.out.end++
	}
	return false, "", nil
}

// lookup finds the entry for the next bits, in the table or in a subtable, and
// how many bits belong to it. They may be more than there are.
func (z *Reader) lookup(table []uint32, tableBits uint64) (e uint32, n uint64) {
	e = table[z.bits&(1<<tableBits-1)]
	if e&flagSubtable != 0 {
		n = tableBits
		sub := z.bits >> tableBits & (1<<(e>>codeLenShift&codeLenMask) - 1)
		e = table[uint64(e>>valueShift)+sub]
	}
	return e, n + uint64(e&consumedMask)
}

// value takes n bits, of which the last are the extra bits of e, a length or a
// distance.
func (z *Reader) value(e uint32, n uint64) int {
	extra := uint64(e&consumedMask) - uint64(e>>codeLenShift&codeLenMask)
	z.take(n - extra)
	return int(uint64(e>>valueShift) + z.take(extra))
}
