package tree

import (
	"os"
	"testing"
)

func benchmarkFile(b *testing.B, check bool) *File {
	f := mustOpenBytes(b, encodeTree(b, bigTree(40_000)))
	if check {
		if err := f.Check(); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

func benchmarkPath(b *testing.B, f *File) (dir, file Entry) {
	dir, err := f.Lookup(Root, "package-0200")
	if err != nil {
		b.Fatal(err)
	}
	file, err = f.Lookup(dir.ID, "some-file-name.20050")
	if err != nil {
		b.Fatal(err)
	}
	return dir, file
}

func BenchmarkFileLookup(b *testing.B) {
	f := benchmarkFile(b, true)
	dir, file := benchmarkPath(b, f)
	b.Run("name=present", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = f.Lookup(dir.ID, file.Name)
		}
	})
	b.Run("name=missing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = f.Lookup(dir.ID, "some-file-name")
		}
	})
}

func BenchmarkFileAttr(b *testing.B) {
	f := benchmarkFile(b, true)
	_, file := benchmarkPath(b, f)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = f.Attr(file.ID)
	}
}

func BenchmarkFileReadDir(b *testing.B) {
	f := benchmarkFile(b, true)
	dir, _ := benchmarkPath(b, f)
	entries := make([]Entry, 128)
	b.Run("entries=100", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = f.ReadDir(dir.ID, 0, entries)
		}
	})
}

func BenchmarkFileOpen(b *testing.B) {
	f := benchmarkFile(b, false)
	b.ReportAllocs()
	for b.Loop() {
		g, err := OpenFile(f.path, nil)
		if err != nil {
			b.Fatal(err)
		}
		_ = g.Close()
	}
}

// BenchmarkFileFirstTouch is what the first question about a path costs, page
// faults and checksums included, with the file in the page cache.
func BenchmarkFileFirstTouch(b *testing.B) {
	f := benchmarkFile(b, false)
	b.ReportAllocs()
	for b.Loop() {
		g, err := OpenFile(f.path, nil)
		if err != nil {
			b.Fatal(err)
		}
		_, file := benchmarkPath(b, g)
		if _, err := g.Attr(file.ID); err != nil {
			b.Fatal(err)
		}
		_ = g.Close()
	}
}

func BenchmarkFileWalk(b *testing.B) {
	f := benchmarkFile(b, true)
	b.ReportAllocs()
	for b.Loop() {
		if err := Walk(f, func(string, Entry, *Attr) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFileCheck(b *testing.B) {
	f := benchmarkFile(b, false)
	b.SetBytes(int64(len(f.data)))
	for b.Loop() {
		if err := f.Check(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	f := benchmarkFile(b, true)
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	b.SetBytes(int64(len(f.data)))
	for b.Loop() {
		if err := Write(null, f); err != nil {
			b.Fatal(err)
		}
	}
}
