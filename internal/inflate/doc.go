// Package inflate decompresses gzip, which is most of the work of loading a
// layer.
//
// # Why it exists
//
// Layers are mostly gzip, and decompressing one keeps one core busy while all
// else that is done with it (hashing, parsing, writing) fits beside it on
// another. So a layer is loaded as fast as it is inflated. Of debian:12 (51 MB
// of gzip, 121 MB of tar), on an AMD EPYC, time:
//
//	this package               1.0   (540 MB/s of tar)
//	klauspost/compress/gzip    2.0
//	compress/gzip              2.6
//
// Again, with any gzip file, or without STRATA_GZIP with data that is made up:
//
//	STRATA_GZIP=FILE go test ./internal/inflate -run '^$' -bench Inflate
//
// # Nouns
//
// A stream is one gzip member or several, one after the other (RFC 1952). A
// member is a header, data in the deflate format (RFC 1951), and a trailer with
// checksum and length of what the data is decompressed to. Deflate data is
// blocks, of literals, that is bytes, and matches: length and distance of
// something that came before, at most 32 KiB back. Both are written as codes of
// 1 to 15 bits, some followed by extra bits. A block has a code for literals,
// lengths and its own end, and one for distances.
//
// # Tables
//
// The next bits of the input, as a number, index a table; its entry says what
// they begin with and how many of them to drop. Longer codes have a subtable.
//
//	31            16 15  14  13  12  11    8  7   6  5        0
//	+---------------+---+---+---+---+--------+---+---+----------+
//	| value         | S | E | I | T | code   | L | 0 | consumed |
//	+---------------+---+---+---+---+--------+---+---+----------+
//
//	                value          code                     consumed
//	L   literal     the byte       bits of the code         the same
//	    length      the smallest   bits of the code         code and extra bits
//	    distance    the smallest   bits of the code         code and extra bits
//	S E end         0              bits of the code         the same
//	S T subtable    its index      bits that index it       bits that indexed the table
//	S I invalid     anything       anything                 anything
//
// In a subtable, the bits of the code are those that the table did not use. S
// is there so that one test tells the three rare cases from the others. The
// bits consumed stand lowest, where the processor takes the count of a shift
// from: so much of an entry as a shift looks at is the count.
//
// # Two loops
//
// Whatever needs care (the end of the input, a full buffer, an error of the
// source) is kept out of the fast loop, which runs only while there is more of
// input and output than one turn can need. It loads 8 bytes at a time, checks
// the bits that it has once for several codes, and copies 8 or 16 bytes at a
// time, more than is wanted if need be. The last 15 bytes of a stream are
// decoded by the careful loop. Both use the same tables.
//
// What did not help: entries that hold two literals (making them cost more
// than they saved), 10 bits for the table of literals, 8 for that of distances.
// Package unsafe is not needed: masks make the compiler leave out the checks,
// which go build -gcflags=-d=ssa/check_bce shows.
//
// # What is always true
//
//   - io.EOF means that the source ended behind a member, and that checksum and
//     length of every member were right.
//   - An error comes behind all bytes that were good. What it is can be asked:
//     [ErrHeader], [ErrJunk], [ErrChecksum], [CorruptError] (with the offset in
//     the compressed stream), io.ErrUnexpectedEOF for a stream that is cut
//     short, or the source's own error, as it is.
//   - What zlib refuses is refused: incomplete codes, but for a single distance
//     or literal of one bit, blocks without an end, symbols that are reserved,
//     distances that go back behind the member's beginning, flags that are
//     unknown. A member does not see what the one before it held.
//   - A Reader has 217 kB of memory, whatever the stream says.
//
// # At once
//
// A Reader is used by one goroutine at a time. It starts none: who wants to
// have other work done meanwhile reads it from one of his own.
//
// # Absent
//
// Compressing; the zlib format; dictionaries; the header's name, time, comment
// and extra field, which are read over; stopping behind a member, for it reads
// ahead; Reset, since a Reader is made once a layer.
package inflate
