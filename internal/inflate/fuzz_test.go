package inflate_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strings"
	"testing"
)

// mostFromBits is what less than the 15 bits of the longest code can give: a
// match takes two.
const mostFromBits = 15 / 2 * 258

// FuzzInflate decodes any bytes as deflate data, in one gzip member, and the
// standard library does the same. Both give the same bytes, then both an error
// or none. We refuse two things that only the standard library allows, as zlib
// does: a single code for code lengths, and a block that can have no end.
func FuzzInflate(f *testing.F) {
	for _, data := range kinds(3000) {
		for _, level := range []int{flate.HuffmanOnly, flate.NoCompression, flate.BestSpeed, flate.BestCompression} {
			f.Add(deflated(level, data))
		}
	}
	f.Add(emptyFixed)
	f.Add(dynamicBlock(257, 1, map[int]int{1: 1, 18: 1}, 1, 1, 7, 127, 1, 1, 7, 107, 1, 0, 1, 0, 1, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		src := bytes.NewReader(data)
		var want strings.Builder
		n, wantErr := io.Copy(&want, io.LimitReader(flate.NewReader(src), 1<<24))
		if n == 1<<24 {
			t.Skip("it has no end in sight")
		}
		stream := join(plainHeader, data)
		if wantErr == nil {
			stream = member(data[:len(data)-src.Len()], want.String())
		}
		got, err := inflated(bytes.NewReader(stream))
		if err != nil && (strings.Contains(err.Error(), "codes for code lengths") || strings.Contains(err.Error(), "a code for its end")) {
			if !strings.HasPrefix(want.String(), got) {
				t.Errorf("it gives %q, want a beginning of %q", got, want.String())
			}
			return
		}
		if wantErr == io.ErrUnexpectedEOF && len(got)-want.Len() <= mostFromBits {
			// Where the input is cut short, the standard library gives up when less
			// is left than the code for the end has, though it be enough for others.
			got = got[:min(len(got), want.Len())]
		}
		if got != want.String() {
			t.Errorf("it gives %q, want %q", got, want.String())
		}
		if (err == nil) != (wantErr == nil) {
			t.Errorf("error %v, want %v", err, wantErr)
		}
		if errors.Is(err, io.ErrUnexpectedEOF) && wantErr != io.ErrUnexpectedEOF {
			t.Errorf("error %v, want %v", err, wantErr)
		}
	})
}
