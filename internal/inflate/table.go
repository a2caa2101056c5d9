package inflate

import "math/bits"

// Of an entry; doc.go draws it.
const (
	consumedMask = 1<<6 - 1
	flagLiteral  = 1 << 7
	codeLenShift = 8
	codeLenMask  = 1<<4 - 1
	flagSubtable = 1 << 12
	flagInvalid  = 1 << 13
	flagEnd      = 1 << 14
	flagSpecial  = 1 << 15 // with each of the three above
	valueShift   = 16
)

const (
	// Bits that index a table.
	litBits     = 11
	distBits    = 9
	codeLenBits = 7 // all that such a code can have

	maxCodeLen = 15
	maxLength  = 258 // of a match
	endOfBlock = 256 // among the literals

	maxLits     = 286 // symbols that a block may tell codes of
	maxDists    = 30
	numLits     = 288 // with those that the fixed codes have and nobody may use
	numDists    = 32
	numCodeLens = 19

	// A table and its subtables have at most 2,342 and 594 entries for that
	// many symbols. The rest is there so that an index can be masked, which
	// makes the compiler leave out the check.
	litTableSize  = 1 << 12
	distTableSize = 1 << 10
)

// Entries of symbols without their codes.
var (
	litSymbols     = makeLitSymbols()
	distSymbols    = makeDistSymbols()
	codeLenSymbols = makeCodeLenSymbols()
)

func makeLitSymbols() (s [numLits]uint32) {
	for i := range endOfBlock {
		s[i] = flagLiteral | uint32(i)<<valueShift
	}
	s[endOfBlock] = flagSpecial | flagEnd
	// Lengths from 3: eight without extra bits, then four for each number of
	// them. The last is an exception: it could be had with extra bits, too.
	base := uint32(3)
	for i := range uint32(28) {
		extra := max(i, 4)/4 - 1
		s[endOfBlock+1+i] = base<<valueShift | extra
		base += 1 << extra
	}
	s[maxLits-1] = maxLength << valueShift
	s[286], s[287] = flagSpecial|flagInvalid, flagSpecial|flagInvalid
	return s
}

func makeDistSymbols() (s [numDists]uint32) {
	// Distances from 1: four without extra bits, then two for each number of them.
	base := uint32(1)
	for i := range uint32(maxDists) {
		extra := max(i, 2)/2 - 1
		s[i] = base<<valueShift | extra
		base += 1 << extra
	}
	s[30], s[31] = flagSpecial|flagInvalid, flagSpecial|flagInvalid
	return s
}

func makeCodeLenSymbols() (s [numCodeLens]uint32) {
	for i := range s {
		s[i] = uint32(i) << valueShift
	}
	return s
}

// code is a canonical prefix code: it follows from the length of each symbol's.
type code struct {
	lens      []uint8                // 0: the symbol has none
	count     [maxCodeLen + 1]uint16 // symbols of each length but 0
	max       int                    // the largest length, 0 if no symbol has a code
	overfull  bool                   // it is none: some codes begin with others
	unclaimed bool                   // it is incomplete: some bits are no code
}

func newCode(lens []uint8) code {
	c := code{lens: lens}
	for _, n := range lens {
		c.count[n]++
	}
	c.count[0] = 0
	left := 1 // codes of n bits that are not taken
	for n := 1; n <= maxCodeLen; n++ {
		left = left<<1 - int(c.count[n])
		if left < 0 {
			c.overfull = true
			return c
		}
		if c.count[n] > 0 {
			c.max = n
		}
	}
	c.unclaimed = left > 0
	return c
}

// usable tells whether literals or distances may have that code. Incomplete
// ones may be as small as can be: no code, or a single one of one bit.
func (c code) usable() bool { return !c.overfull && (!c.unclaimed || c.max <= 1) }

// sorted puts symbols into the order of their codes.
func (c code) sorted() []uint16 {
	order := make([]uint16, numLits)
	var next [maxCodeLen + 2]uint16
	for n := 1; n <= maxCodeLen; n++ {
		next[n+1] = next[n] + c.count[n]
	}
	for sym, n := range c.lens {
		if n != 0 {
			order[next[n]] = uint16(sym)
			next[n]++
		}
	}
	return order
}

// build writes the table of a code that is complete or usable. The next
// tableBits bits of the input are an index into it; longer codes go on in
// subtables behind it.
func (c code) build(table []uint32, tableBits int, symbols []uint32) {
	order := c.sorted()
	size := 1 << tableBits
	if c.unclaimed {
		for i := range table[:size] {
			table[i] = flagSpecial | flagInvalid
		}
		for i := 0; i < size && c.max == 1; i += 2 {
			table[i] = entry(symbols[order[0]], 1)
		}
		return
	}

	// Codes come with their first bit lowest. The table is at each time as
	// large as codes of n bits need it: its other half is the same for the
	// codes that are shorter.
	codeword := 0 // its first bit is the highest
	for n := 1; n <= tableBits; n++ {
		codeword <<= 1
		copy(table[1<<(n-1):1<<n], table[:1<<(n-1)])
		for range c.count[n] {
			table[reverse(codeword, n)] = entry(symbols[order[0]], n)
			order = order[1:]
			codeword++
		}
	}

	// A subtable is for all codes with the same first tableBits bits. These
	// stand together, so it is as large as it takes until they fill it.
	prefix, at, subBits := -1, size, 0
	for n := tableBits + 1; n <= c.max; n++ {
		codeword <<= 1
		for left := int(c.count[n]); left > 0; left-- {
			rev := reverse(codeword, n)
			if p := rev & (size - 1); p != prefix {
				if prefix >= 0 {
					at += 1 << subBits
				}
				prefix, subBits = p, n-tableBits
				for room := 1<<subBits - left; room > 0; {
					subBits++
					room = room<<1 - int(c.count[tableBits+subBits])
				}
				table[prefix] = flagSpecial | flagSubtable | uint32(at)<<valueShift | uint32(subBits)<<codeLenShift | uint32(tableBits)
			}
			e := entry(symbols[order[0]], n-tableBits)
			for i := rev >> tableBits; i < 1<<subBits; i += 1 << (n - tableBits) {
				table[at+i] = e
			}
			order = order[1:]
			codeword++
		}
	}
}

// entry is for a symbol of whose code n bits are left.
func entry(symbol uint32, n int) uint32 { return symbol + uint32(n)<<codeLenShift + uint32(n) }

// reverse gives a codeword of n bits with its first bit lowest.
func reverse(codeword, n int) int { return int(bits.Reverse16(uint16(codeword)) >> (16 - n)) }
