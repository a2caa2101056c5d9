package overlay

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// benchLower has small directories in several depths.
const benchLower = `
	mkdir -p usr/lib/deep merged
	for i in $(seq 100); do echo $i > usr/lib/f$i; echo $i > merged/f$i; done
`

func TestLowerOnlyAllocatesNothing(t *testing.T) {
	needRoot(t)
	x := treeFixture(t, FormatKernel, shell(t, benchLower))
	lib := x.hold("usr/lib")
	n := x.hold("usr/lib/f7")
	opened, err := x.OpenDir(lib.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	batch := make([]DirEntry, 64)
	calls := map[string]func(){
		"Lookup": func() {
			n, err := x.Lookup(lib.ID, "f42")
			if err != nil {
				t.Fatal(err)
			}
			x.Forget(n.ID, 1)
		},
		"Lookup of what is missing": func() {
			if _, err := x.Lookup(lib.ID, "missing"); err != unix.ENOENT {
				t.Fatal(err)
			}
		},
		"Getattr": func() {
			if _, err := x.Getattr(n.ID); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, call := range calls {
		if k := testing.AllocsPerRun(200, call); k != 0 {
			t.Errorf("%s allocates %v times", name, k)
		}
	}
	perBatch := testing.AllocsPerRun(200, func() {
		if k, err := opened.ReadDir(20, batch); k != len(batch) || err != nil {
			t.Fatal(k, err)
		}
	})
	if perBatch > 1 {
		t.Errorf("ReadDir of %d entries allocates %v times, want none for an entry", len(batch), perBatch)
	}
	x.forget(n)
	x.forget(lib)
}

func BenchmarkLookup(b *testing.B) {
	needRoot(b)
	x := treeFixture(b, FormatKernel, shell(b, benchLower))
	x.must(x.create("merged/up", "x"))
	for _, bb := range []struct{ name, dir, child string }{
		{"lower-only", "usr/lib", "f42"},
		{"lower-only missing", "usr/lib", "missing"},
		{"merged from lower", "merged", "f42"},
		{"merged from upper", "merged", "up"},
		{"merged missing", "merged", "missing"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			dir := x.hold(bb.dir)
			defer x.forget(dir)
			b.ReportAllocs()
			for b.Loop() {
				if n, err := x.Lookup(dir.ID, bb.child); err == nil {
					x.Forget(n.ID, 1)
				}
			}
		})
	}
}

func BenchmarkGetattr(b *testing.B) {
	needRoot(b)
	x := treeFixture(b, FormatKernel, shell(b, benchLower))
	x.must(x.create("merged/up", "x"))
	for _, path := range []string{"usr/lib/f42", "merged/up", "merged"} {
		b.Run(path, func(b *testing.B) {
			n := x.hold(path)
			defer x.forget(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.Getattr(n.ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReadDir(b *testing.B) {
	needRoot(b)
	x := treeFixture(b, FormatKernel, shell(b, benchLower))
	x.must(x.create("merged/up", "x"))
	for _, path := range []string{"usr/lib", "merged"} {
		b.Run(path, func(b *testing.B) {
			n := x.hold(path)
			defer x.forget(n)
			batch := make([]DirEntry, 200)
			b.ReportAllocs()
			for b.Loop() {
				d, err := x.OpenDir(n.ID)
				if err != nil {
					b.Fatal(err)
				}
				if k, err := d.ReadDir(0, batch); k < 100 || err != nil {
					b.Fatal(k, err)
				}
				d.Close()
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	needRoot(b)
	x := treeFixture(b, FormatKernel, shell(b, benchLower))
	x.must(x.create("merged/up", "x"))
	for _, path := range []string{"usr/lib/f42", "merged/f42", "merged/up"} {
		b.Run(path, func(b *testing.B) {
			n := x.hold(path)
			defer x.forget(n)
			b.ReportAllocs()
			for b.Loop() {
				h, err := x.Open(context.Background(), n.ID, unix.O_RDONLY)
				if err != nil {
					b.Fatal(err)
				}
				h.Close()
			}
		})
	}
}

func BenchmarkCreateUnlink(b *testing.B) {
	needRoot(b)
	x := treeFixture(b, FormatKernel, shell(b, benchLower))
	dir := x.hold("merged")
	defer x.forget(dir)
	b.ReportAllocs()
	for b.Loop() {
		n, h, err := x.Create(Caller{}, dir.ID, "new", 0o644)
		if err != nil {
			b.Fatal(err)
		}
		h.Close()
		x.Forget(n.ID, 1)
		if err := x.Unlink(dir.ID, "new"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCopyUp copies up one file of ten bytes after another, on a disk.
func BenchmarkCopyUp(b *testing.B) {
	needRoot(b)
	const files = 5000
	lower := shell(b, fmt.Sprintf(`mkdir d; for i in $(seq 0 %d); do echo 123456789 > d/f$i; done`, files-1))
	for _, volatile := range []bool{false, true} {
		b.Run(fmt.Sprintf("volatile=%v", volatile), func(b *testing.B) {
			var x *fixture
			next := files
			for b.Loop() {
				if next == files {
					b.StopTimer()
					x = newFixtureAt(b, b.TempDir(), FormatKernel, lower)
					x.volatile = volatile
					x.names("d") // lets the lower read its directory
					next = 0
					b.StartTimer()
				}
				n, err := x.walk("d/f" + itoa(next))
				if err != nil {
					b.Fatal(err)
				}
				h, err := x.Open(context.Background(), n.ID, unix.O_WRONLY)
				if err != nil {
					b.Fatal(err)
				}
				h.Close()
				x.forget(n)
				next++
			}
		})
	}
}
