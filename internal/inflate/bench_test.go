package inflate_test

import (
	"bytes"
	"compress/flate"
	stdlib "compress/gzip"
	"io"
	"os"
	"testing"

	klauspost "github.com/klauspost/compress/gzip"

	"strata/internal/inflate"
)

// BenchmarkInflate reads a stream as a layer is read, with each of the readers
// that one could use. STRATA_GZIP names a gzip file to take instead of what is
// made up.
//
//	go test ./internal/inflate -run '^$' -bench Inflate -count 10
func BenchmarkInflate(b *testing.B) {
	streams := map[string][]byte{}
	if name := os.Getenv("STRATA_GZIP"); name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		streams["file"] = data
	} else {
		for _, kind := range []string{"text", "skewed", "runs", "random"} {
			data := kinds(8 << 20)[kind]
			streams[kind] = member(deflated(flate.DefaultCompression, data), string(data))
		}
	}
	readers := []struct {
		name string
		open func(io.Reader) (io.Reader, error)
	}{
		{"inflate", func(r io.Reader) (io.Reader, error) { return inflate.NewReader(r) }},
		{"klauspost", func(r io.Reader) (io.Reader, error) { return klauspost.NewReader(r) }},
		{"stdlib", func(r io.Reader) (io.Reader, error) { return stdlib.NewReader(r) }},
	}
	buf := make([]byte, 512<<10)
	for name, stream := range streams {
		for _, reader := range readers {
			b.Run("data="+name+"/reader="+reader.name, func(b *testing.B) {
				for b.Loop() {
					r, err := reader.open(bytes.NewReader(stream))
					if err != nil {
						b.Fatal(err)
					}
					n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
					if err != nil {
						b.Fatal(err)
					}
					b.SetBytes(n)
				}
			})
		}
	}
}
