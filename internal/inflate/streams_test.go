package inflate_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"math/rand/v2"
)

// This file is a little language for gzip streams.

// bitsOf packs values into bits, the lowest first: pairs of how many bits and
// their value. A Huffman code's first bit is its lowest here.
func bitsOf(pairs ...int) []byte {
	var out []byte
	at := 0
	for i := 0; i < len(pairs); i += 2 {
		for b := range pairs[i] {
			if at%8 == 0 {
				out = append(out, 0)
			}
			out[at/8] |= byte(pairs[i+1]>>b&1) << (at % 8)
			at++
		}
	}
	return out
}

// plainHeader announces nothing.
var plainHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

// header has flags, and what they announce.
func header(flags byte, announced string) []byte {
	h := bytes.Clone(plainHeader)
	h[3] = flags
	return append(h, announced...)
}

// withCRC adds a header's checksum.
func withCRC(h []byte) []byte {
	return binary.LittleEndian.AppendUint16(h, uint16(crc32.ChecksumIEEE(h)))
}

// trailer is of data.
func trailer(data string) []byte {
	t := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(data)))
	return binary.LittleEndian.AppendUint32(t, uint32(len(data)))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// member holds deflate data that gives data.
func member(deflated []byte, data string) []byte { return join(plainHeader, deflated, trailer(data)) }

// Blocks of the fixed code, each the last one.
var (
	emptyFixed = bitsOf(1, 1, 2, 1, 7, 0)
	hello      = deflated(flate.HuffmanOnly, []byte("hello"))
)

// storedBlock has a length and its complement as they are given.
func storedBlock(last, n, complement int, data string) []byte {
	return append(bitsOf(3, last, 5, 0, 16, n, 16, complement), data...)
}

// deflated is data by the standard library.
func deflated(level int, data []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		panic(err)
	}
	if _, err := w.Write(data); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// dynamicBlock is a last block with its own codes: the lengths of the codes for
// code lengths by symbol, then values as bitsOf has them.
func dynamicBlock(lits, dists int, lenLens map[int]int, pairs ...int) []byte {
	p := []int{1, 1, 2, 2, 5, lits - 257, 5, dists - 1, 4, 15}
	for _, sym := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15} {
		p = append(p, 3, lenLens[sym])
	}
	return bitsOf(append(p, pairs...)...)
}

// kinds are data that make a compressor do different things.
func kinds(size int) map[string][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, size)
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	// Words of few letters, repeated now and then: literals and matches of all
	// lengths and distances.
	text := make([]byte, 0, size+300)
	for len(text) < size {
		if n := 3 + r.IntN(300); len(text) > n && r.IntN(4) == 0 {
			from := r.IntN(len(text) - n)
			if r.IntN(2) == 0 {
				from = max(0, len(text)-n-r.IntN(64))
			}
			text = append(text, text[from:from+n]...)
		}
		for range r.IntN(20) {
			text = append(text, byte('a'+min(r.IntN(26), r.IntN(26))))
		}
	}
	// Runs with every short distance.
	runs := make([]byte, 0, size+300)
	for len(runs) < size {
		period := 1 + r.IntN(20)
		unit := random[len(runs)%(size/2):][:period]
		for range 1 + r.IntN(300/period) {
			runs = append(runs, unit...)
		}
	}
	// Bytes of very different frequencies: codes of 15 bits.
	skewed := make([]byte, size)
	for i := range skewed {
		skewed[i] = byte(int(r.ExpFloat64() * 14))
	}
	return map[string][]byte{
		"nothing": nil, "one byte": {42}, "zeros": make([]byte, size), "random": random,
		"text": text[:size], "runs": runs[:size], "skewed": skewed,
	}
}
