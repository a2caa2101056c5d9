package inflate_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"strata/internal/inflate"
)

// inflated reads a whole stream.
func inflated(r io.Reader) (string, error) {
	z, err := inflate.NewReader(r)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	_, err = io.Copy(&out, struct{ io.Reader }{z})
	return out.String(), err
}

// Each stream gives what it holds up to where it is wrong.
func TestStreams(t *testing.T) {
	const (
		extra, name, comment, headerCRC = 4, 8, 16, 2
	)
	long := strings.Repeat("x", 100_000)
	// Two codes of one bit each, for a literal and the end, and two for the
	// lengths of codes: 1 is coded as 0, and 18 as 1.
	oneAndZeros := map[int]int{1: 1, 18: 1}
	zeros := func(n int) []int { return []int{1, 1, 7, n - 11} }
	aAndEnd := append(append(append(zeros(97), 1, 0), append(zeros(138), zeros(20)...)...), 1, 0)
	var corrupt *inflate.CorruptError
	tests := []struct {
		name   string
		stream []byte
		out    string
		err    error  // nil: none
		text   string // in the error's text
	}{
		// Blocks.
		{"fixed block", member(hello, "hello"), "hello", nil, ""},
		{"empty fixed block", member(emptyFixed, ""), "", nil, ""},
		{"stored block", member(storedBlock(1, 5, 0xfffa, "hello"), "hello"), "hello", nil, ""},
		{"empty stored block", member(storedBlock(1, 0, 0xffff, ""), ""), "", nil, ""},
		{"stored blocks and a fixed one", member(join(storedBlock(0, 1, 0xfffe, "a"), storedBlock(0, 0, 0xffff, ""), hello), "ahello"), "ahello", nil, ""},
		{"dynamic block", member(dynamicBlock(257, 1, oneAndZeros, append(aAndEnd, 1, 0, 1, 0, 1, 0, 1, 1)...), "aa"), "aa", nil, ""},
		{"dynamic block whose code is only the end's", member(dynamicBlock(257, 1, oneAndZeros, append(append(zeros(138), zeros(118)...), 1, 0, 1, 0, 1, 0)...), ""), "", nil, ""},
		{"match of 258", member(bitsOf(1, 1, 2, 1, 8, 0x89, 8, 0xa3, 5, 0, 7, 0), strings.Repeat("a", 259)), strings.Repeat("a", 259), nil, ""},
		{"match over itself", member(bitsOf(1, 1, 2, 1, 8, 0x89, 8, 0x49, 7, 0x60, 5, 0x10, 7, 0), "abababa"), "abababa", nil, ""},

		// Members and headers.
		{"several members", join(member(hello, "hello"), member(emptyFixed, ""), member(hello, "hello")), "hellohello", nil, ""},
		{"extra field", join(header(extra, "\x03\x00abc"), hello, trailer("hello")), "hello", nil, ""},
		{"empty extra field", join(header(extra, "\x00\x00"), hello, trailer("hello")), "hello", nil, ""},
		{"large extra field", join(header(extra, "\xff\xff"+long[:65535]), hello, trailer("hello")), "hello", nil, ""},
		{"name", join(header(name, "a name\x00"), hello, trailer("hello")), "hello", nil, ""},
		{"long name", join(header(name, long+"\x00"), hello, trailer("hello")), "hello", nil, ""},
		{"comment", join(header(comment, "\x00"), hello, trailer("hello")), "hello", nil, ""},
		{"header checksum", join(withCRC(header(headerCRC, "")), hello, trailer("hello")), "hello", nil, ""},
		{"all of them and a hint of text", join(withCRC(header(extra|name|comment|headerCRC|1, "\x02\x00..name\x00comment\x00")), hello, trailer("hello")), "hello", nil, ""},
		{"wrong header checksum", join(header(headerCRC, "\x00\x00"), hello, trailer("hello")), "", inflate.ErrHeader, "checksum"},
		{"unknown flag", join(header(32, ""), hello, trailer("hello")), "", inflate.ErrHeader, "unknown flags 0x20"},
		{"another method", join([]byte{0x1f, 0x8b, 7}, plainHeader[3:], hello), "", inflate.ErrHeader, "method 7"},
		{"no gzip", []byte("hello, hello, hello"), "", inflate.ErrHeader, ""},
		{"short and no gzip", []byte("h"), "", inflate.ErrHeader, ""},
		{"wrong header of the second member", join(member(hello, "hello"), header(32, "")), "hello", inflate.ErrHeader, ""},

		// What follows.
		{"junk", join(member(hello, "hello"), []byte("junk and more")), "hello", inflate.ErrJunk, ""},
		{"a byte of junk", join(member(hello, "hello"), []byte("j")), "hello", inflate.ErrJunk, ""},
		{"a zero", join(member(hello, "hello"), []byte{0}), "hello", inflate.ErrJunk, ""},
		{"junk that begins as a member does", join(member(hello, "hello"), []byte("\x1fjunk")), "hello", inflate.ErrJunk, ""},

		// Checksums.
		{"another checksum", join(plainHeader, hello, trailer("hullo")), "hello", inflate.ErrChecksum, "CRC-32"},
		{"another length", join(plainHeader, hello, trailer("hello")[:4], []byte{6, 0, 0, 0}), "hello", inflate.ErrChecksum, "is 5 and said to be 6"},

		// Deflate data.
		{"block of type 3", join(plainHeader, bitsOf(1, 1, 2, 3)), "", errAny, "near byte 11: a block of type 3"},
		{"stored length", join(plainHeader, storedBlock(1, 5, 0xfffb, "hello")), "", errAny, "complement"},
		{"287 literal codes", join(plainHeader, dynamicBlock(287, 1, nil)), "", errAny, "more than 286"},
		{"31 distance codes", join(plainHeader, dynamicBlock(257, 31, nil)), "", errAny, "more than 286"},
		{"no codes for code lengths", join(plainHeader, dynamicBlock(257, 1, nil)), "", errAny, "code lengths are no complete code"},
		{"a single code for code lengths", join(plainHeader, dynamicBlock(257, 1, map[int]int{1: 1})), "", errAny, "code lengths are no complete code"},
		{"too many codes for code lengths", join(plainHeader, dynamicBlock(257, 1, map[int]int{1: 1, 2: 1, 3: 1})), "", errAny, "code lengths are no complete code"},
		{"nothing to repeat", join(plainHeader, dynamicBlock(257, 1, map[int]int{1: 1, 16: 1}, 1, 1, 2, 0)), "", errAny, "without one before it"},
		{"repeated too often", join(plainHeader, dynamicBlock(257, 1, oneAndZeros, append(zeros(138), zeros(138)...)...)), "", errAny, "more code lengths than codes"},
		{"no end of block", join(plainHeader, dynamicBlock(257, 1, oneAndZeros, append(append(zeros(138), zeros(119)...), 1, 0)...)), "", errAny, "without a code for its end"},
		{"too many literal codes", join(plainHeader, dynamicBlock(257, 1, oneAndZeros, append(append(append([]int{1, 0, 1, 0}, zeros(138)...), zeros(116)...), 1, 0, 1, 0)...)), "", errAny, "literal and length codes are no complete code"},
		{"incomplete literal code", join(plainHeader, dynamicBlock(257, 1, map[int]int{2: 1, 18: 1}, append(append(zeros(138), zeros(117)...), 1, 0, 1, 0, 1, 0)...)), "", errAny, "literal and length codes are no complete code"},
		{"too many distance codes", join(plainHeader, dynamicBlock(257, 3, oneAndZeros, append(aAndEnd, 1, 0, 1, 0, 1, 0)...)), "", errAny, "distance codes are no complete code"},
		{"bits that are no literal", join(plainHeader, dynamicBlock(257, 1, oneAndZeros, append(append(zeros(138), zeros(118)...), 1, 0, 1, 0, 1, 1)...), make([]byte, 20)), "", errAny, "no literal or length code"},
		{"literal 286", join(plainHeader, bitsOf(1, 1, 2, 1, 8, 0x63), make([]byte, 20)), "", errAny, "no literal or length code"},
		{"distance 30", join(plainHeader, bitsOf(1, 1, 2, 1, 8, 0x89, 7, 0x40, 5, 0x0f), make([]byte, 20)), "a", errAny, "no distance code"},
		{"distance too far", join(plainHeader, bitsOf(1, 1, 2, 1, 8, 0x89, 7, 0x40, 5, 0x10), make([]byte, 20)), "a", errAny, "goes back behind the beginning"},
		{"distance into the member before", join(member(hello, "hello"), plainHeader, bitsOf(1, 1, 2, 1, 7, 0x40, 5, 0), make([]byte, 20)), "hello", errAny, "goes back behind the beginning"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(tc.stream), iotest.OneByteReader(bytes.NewReader(tc.stream))} {
				out, err := inflated(r)
				if out != tc.out {
					t.Errorf("it gives %q, want %q", out, tc.out)
				}
				switch {
				case tc.err == errAny && !errors.As(err, &corrupt), tc.err != errAny && !errors.Is(err, tc.err):
					t.Errorf("error %v, want %v", err, tc.err)
				case err != nil && !strings.Contains(err.Error(), tc.text):
					t.Errorf("error %v, want one with %q", err, tc.text)
				}
			}
		})
	}
}

// errAny stands for any CorruptError.
var errAny = errors.New("a CorruptError")

// A stream that ends anywhere gives all that came before, and says that it was
// cut short, or gives the error of its source.
func TestCutAnywhere(t *testing.T) {
	failed := errors.New("the source failed")
	text := kinds(2000)["text"]
	stream := join(withCRC(header(2|4|8, "\x01\x00xname\x00")), storedBlock(0, 3, 0xfffc, "abc"), deflated(9, text), trailer("abc"+string(text)),
		member(hello, "hello"))
	whole, err := inflated(bytes.NewReader(stream))
	if err != nil || whole != "abc"+string(text)+"hello" {
		t.Fatalf("the whole stream gives %d bytes and %v", len(whole), err)
	}
	least, between := 0, len(stream)-len(member(hello, "hello"))
	for n := range stream {
		for _, tc := range []struct {
			src  io.Reader
			want error
		}{
			{bytes.NewReader(stream[:n]), io.ErrUnexpectedEOF},
			{iotest.DataErrReader(bytes.NewReader(stream[:n])), io.ErrUnexpectedEOF},
			{io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(failed)), failed},
		} {
			out, err := inflated(tc.src)
			if n == between && tc.want == io.ErrUnexpectedEOF {
				tc.want = nil
			}
			if !errors.Is(err, tc.want) {
				t.Errorf("%d bytes: %v, want %v", n, err, tc.want)
			}
			if !strings.HasPrefix(whole, out) || len(out) < least {
				t.Errorf("%d bytes: it gives %d bytes, after %d with one byte less", n, len(out), least)
			}
			least = len(out)
		}
	}
	if least != len(whole) {
		t.Errorf("without the trailer's last byte it gives %d bytes of %d", least, len(whole))
	}
}

// Whatever the standard library compresses comes out again, however it is read.
func TestRoundTrip(t *testing.T) {
	for kind, data := range kinds(300_000) {
		for level := flate.HuffmanOnly; level <= flate.BestCompression; level++ {
			t.Run(fmt.Sprintf("data=%s/level=%d", strings.ReplaceAll(kind, " ", "-"), level), func(t *testing.T) {
				stream := member(deflated(level, data), string(data))
				for name, r := range map[string]io.Reader{
					"at once": bytes.NewReader(stream), "by halves": iotest.HalfReader(bytes.NewReader(stream)),
					"by bytes": iotest.OneByteReader(bytes.NewReader(stream)), "end with data": iotest.DataErrReader(bytes.NewReader(stream)),
				} {
					if out, err := inflated(r); err != nil || out != string(data) {
						t.Errorf("%s: %d bytes and %v, want %d bytes", name, len(out), err, len(data))
					}
				}
			})
		}
	}
}

func TestWriteTo(t *testing.T) {
	data := kinds(500_000)["text"]
	stream := member(deflated(6, data), string(data))
	z, err := inflate.NewReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	// What Read took is not written again.
	first := make([]byte, 10)
	if _, err := io.ReadFull(z, first); err != nil {
		t.Fatal(err)
	}
	var rest bytes.Buffer
	n, err := z.WriteTo(&rest)
	if err != nil || n != int64(rest.Len()) || !bytes.Equal(append(first, rest.Bytes()...), data) {
		t.Errorf("WriteTo gives %d, %v and %d bytes, want %d", n, err, rest.Len(), len(data)-10)
	}
	if n, err := z.Read(first); n != 0 || err != io.EOF {
		t.Errorf("Read at the end gives %d and %v", n, err)
	}
}

// A writer that fails has lost nothing: the rest can be read.
func TestWriteToFails(t *testing.T) {
	data := kinds(300_000)["text"]
	z, err := inflate.NewReader(bytes.NewReader(member(deflated(6, data), string(data))))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) { return got.Write(p[:1000]) })
	if n, err := z.WriteTo(w); n != 1000 || err != io.ErrShortWrite {
		t.Errorf("WriteTo gives %d and %v", n, err)
	}
	if _, err := io.Copy(&got, z); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("then Copy gives %v; %d bytes in all, want %d", err, got.Len(), len(data))
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A source that gives nothing for ever is an error and no endless loop.
func TestNoProgress(t *testing.T) {
	idle := readerFunc(func([]byte) (int, error) { return 0, nil })
	if _, err := inflated(io.MultiReader(bytes.NewReader(plainHeader), idle)); err != io.ErrNoProgress {
		t.Errorf("error %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The standard library's reader agrees about members that its writer wrote.
func TestGzipWriter(t *testing.T) {
	var stream bytes.Buffer
	want := ""
	for _, data := range kinds(1000) {
		w := gzip.NewWriter(&stream)
		w.Name, w.Comment, w.Extra = "a name", "a comment", []byte("extra")
		for _, part := range [][]byte{data, data} {
			if _, err := w.Write(part); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			want += string(part)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := inflated(&stream); err != nil || out != want {
		t.Errorf("it gives %d bytes and %v, want %d bytes", len(out), err, len(want))
	}
}
