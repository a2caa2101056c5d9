package layerstore_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"strata/layerstore"
)

// How should small contents lie on disk: one file each, packed into one file,
// or inline in the tree file? These benchmarks write the contents of at most
// 4 KiB of real layers (STRATA_IMAGES) in each form, and read them, as an
// overlay does that answers open and read. Larger ones are files in any case.
//
// The decision, with numbers, is in doc.go.

const smallContent = 4 << 10

// forms write contents below dir, as a load would, and return how to read the
// i-th one.
var forms = []struct {
	name  string
	write func(dir string, contents [][]byte) (read func(i int, buf []byte) (int, error), err error)
}{
	{"file", writeFiles},
	{"packed", writePack},
	{"inline", writeInline},
}

// smallContents are those of the real images, or as many with sizes like
// theirs.
func smallContents(b *testing.B) [][]byte {
	var contents [][]byte
	dir := os.Getenv("STRATA_IMAGES")
	if dir == "" {
		rng := rand.New(rand.NewPCG(1, 2))
		for range 5400 {
			// A third up to 256 bytes, half up to 1 KiB.
			data := make([]byte, 1+rng.IntN(1<<(5+rng.IntN(8))))
			for i := range data {
				data[i] = byte('a' + rng.IntN(16))
			}
			contents = append(contents, data)
		}
		return contents
	}
	s := openStore(b)
	for _, archive := range []string{"family", "python-zstd", "debian-rebuilt.docker.tar.zst"} {
		loadArchive(b, s, filepath.Join(dir, archive), layerstore.AddOptions{KeepBlobs: layerstore.KeepNever})
	}
	err := filepath.WalkDir(filepath.Join(s.Root(), "objects"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() > smallContent {
			return err
		}
		data, err := os.ReadFile(path)
		contents = append(contents, data)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return contents
}

func BenchmarkSmallContentsWrite(b *testing.B) {
	contents := smallContents(b)
	for _, form := range forms {
		b.Run("form="+form.name, func(b *testing.B) {
			var dir string
			for b.Loop() {
				b.StopTimer()
				dir = b.TempDir() // stays: ext4 is slow to give inodes out that were just deleted
				syncFilesystem(b, dir)
				b.StartTimer()
				if _, err := form.write(dir, contents); err != nil {
					b.Fatal(err)
				}
				syncFilesystem(b, dir)
			}
			blocks, inodes := diskUse(b, dir)
			b.ReportMetric(float64(len(contents)), "contents")
			b.ReportMetric(float64(blocks), "disk-B")
			b.ReportMetric(float64(inodes), "inodes")
		})
	}
}

func BenchmarkSmallContentsOpenRead(b *testing.B) {
	contents := smallContents(b)
	for _, form := range forms {
		b.Run("form="+form.name, func(b *testing.B) {
			read, err := form.write(b.TempDir(), contents)
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, smallContent)
			rng := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				i := rng.IntN(len(contents))
				if n, err := read(i, buf); err != nil || n != len(contents[i]) {
					b.Fatalf("read %d bytes, %v", n, err)
				}
			}
		})
	}
}

// writeFiles is what the store does.
func writeFiles(dir string, contents [][]byte) (func(int, []byte) (int, error), error) {
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, err
	}
	names := make([]string, len(contents))
	for i, data := range contents {
		x := fmt.Sprintf("%x", sha256.Sum256(data))
		names[i] = filepath.Join(dir, x[:2], x[2:])
		if err := os.WriteFile(filepath.Join(dir, "tmp", x), data, 0o444); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return nil, err
		}
		x := filepath.Base(filepath.Dir(name)) + filepath.Base(name)
		if err := os.Rename(filepath.Join(dir, "tmp", x), name); err != nil {
			return nil, err
		}
	}
	return func(i int, buf []byte) (int, error) {
		fd, err := unix.Open(names[i], unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, err
		}
		n, err := unix.Pread(fd, buf, 0)
		unix.Close(fd)
		return n, err
	}, nil
}

// writePack puts all into one file, which stays open.
func writePack(dir string, contents [][]byte) (func(int, []byte) (int, error), error) {
	f, err := os.Create(filepath.Join(dir, "pack"))
	if err != nil {
		return nil, err
	}
	at := make([]int64, len(contents)+1)
	for i, data := range contents {
		if _, err := f.Write(data); err != nil {
			return nil, err
		}
		at[i+1] = at[i] + int64(len(data))
	}
	return func(i int, buf []byte) (int, error) {
		return unix.Pread(int(f.Fd()), buf[:at[i+1]-at[i]], at[i])
	}, nil
}

// writeInline is a pack that is mapped, as a tree file is.
func writeInline(dir string, contents [][]byte) (func(int, []byte) (int, error), error) {
	f, err := os.Create(filepath.Join(dir, "tree"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	at := make([]int64, len(contents)+1)
	for i, data := range contents {
		if _, err := f.Write(data); err != nil {
			return nil, err
		}
		at[i+1] = at[i] + int64(len(data))
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(at[len(contents)]), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return func(i int, buf []byte) (int, error) {
		return copy(buf, mapped[at[i]:at[i+1]]), nil
	}, nil
}

func diskUse(b *testing.B, dir string) (bytes, inodes int64) {
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		inodes++
		err = unix.Lstat(path, &st)
		bytes += st.Blocks * 512
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return bytes, inodes
}

// syncFilesystem waits until everything on dir's filesystem is on disk.
func syncFilesystem(tb testing.TB, dir string) {
	d, err := os.Open(dir)
	if err != nil {
		tb.Fatal(err)
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		tb.Fatal(err)
	}
}
