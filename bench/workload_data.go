package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	smallBlock = 4 << 10
	largeBlock = 1 << 20
)

// dataWorkloads open, read and write files.
func dataWorkloads() []Workload {
	read := func(name, about, unit string, cold bool, work func(context.Context, *Site) (int, error)) Workload {
		return Workload{Name: name, About: about, Unit: unit, Data: dataFile, Cold: cold, Work: work}
	}
	write := func(name, about string, block int64, random bool) Workload {
		w := Workload{Name: name, About: about, Unit: "write", Data: dataEmpty, Own: true, Before: removeWritten,
			Work: func(ctx context.Context, s *Site) (int, error) { return writeBlocks(ctx, s, block, random) }}
		if random {
			w.Before = nil
			w.Prepare = func(ctx context.Context, s *Site) error {
				_, err := writeBlocks(ctx, s, largeBlock, false) // what is written over
				return err
			}
		}
		return w
	}
	random := read("read-random", "read 4 KiB anywhere in a file", "read", false, readRandom)
	random.Prepare = readAll
	return []Workload{
		{Name: "open-warm", About: "open and close", Unit: "file", Data: dataTree, Requests: 1, Work: openFiles},
		{Name: "smallread-warm", About: "open, read 4 KiB, close", Unit: "file", Data: dataTree, Requests: 1, Work: readSmall},
		{Name: "smallread-cold", About: "open, read 4 KiB, close, cold", Unit: "file", Data: dataTree, Cold: true, Requests: 2, Work: readSmall},
		{Name: "tar-warm", About: "tar of the whole tree into a pipe", Unit: "name", Data: dataTree, Needs: map[string]string{"tar": "tar", "sh": "dash"}, Work: tarTree},
		read("read-seq-cold", "read a file from its beginning to its end, 1 MiB at a time, cold", "MiB", true, readSequential),
		read("read-seq", "read a file from its beginning to its end, 1 MiB at a time", "MiB", false, readSequential),
		random,
		read("read-mmap", "look at every page of a file that is mapped", "MiB", false, readMapped),
		write("write-seq-4k", "write a file, 4 KiB at a time", smallBlock, false),
		write("write-seq-1m", "write a file, 1 MiB at a time", largeBlock, false),
		write("write-random-4k", "write 4 KiB anywhere in a file", smallBlock, true),
		write("write-random-1m", "write 1 MiB anywhere in a file", largeBlock, true),
	}
}

func openFiles(ctx context.Context, s *Site) (int, error) {
	return eachFile(ctx, s, s.Data.Files, func(int) error { return nil })
}

func readSmall(ctx context.Context, s *Site) (int, error) {
	buf := make([]byte, smallBlock)
	return eachFile(ctx, s, s.Data.Small, func(fd int) error {
		n, err := unix.Read(fd, buf)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}

// eachFile opens some of the files, does something with each and closes it.
func eachFile(ctx context.Context, s *Site, files []string, do func(fd int) error) (int, error) {
	names := shuffled(files, askedNames)
	for _, name := range names {
		fd, err := unix.Openat(s.fd, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = errors.Join(do(fd), unix.Close(fd))
		}
		if err != nil {
			return 0, &os.PathError{Op: "open and read", Path: s.Path(name), Err: err}
		}
	}
	return len(names), ctx.Err()
}

// tarTree goes through a pipe because GNU tar reads no file if it writes to
// /dev/null.
func tarTree(ctx context.Context, s *Site) (int, error) {
	cmd := exec.CommandContext(ctx, "sh", "-c", `tar -C "$1" -cf - . | cat >/dev/null`, "sh", s.Dir)
	_, err := finish(ctx, cmd)
	return len(s.Data.All) + 1, err
}

func readSequential(ctx context.Context, s *Site) (int, error) {
	f, err := os.Open(s.Path(s.Data.Files[0]))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, largeBlock)
	var sum int64
	for {
		n, err := f.Read(buf)
		sum += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if sum != s.Data.Bytes {
		return 0, fmt.Errorf("read %s: %d bytes, there are %d", f.Name(), sum, s.Data.Bytes)
	}
	return mebibytes(sum), ctx.Err()
}

// mebibytes is at least one.
func mebibytes(n int64) int { return int(max(n>>20, 1)) }

func readAll(ctx context.Context, s *Site) error {
	_, err := readSequential(ctx, s)
	return err
}

func readRandom(ctx context.Context, s *Site) (int, error) {
	const reads = 20_000
	f, err := os.Open(s.Path(s.Data.Files[0]))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, smallBlock)
	rng := rand.New(rand.NewPCG(5, 6))
	for range reads {
		if _, err := f.ReadAt(buf, rng.Int64N(s.Data.Bytes/smallBlock)*smallBlock); err != nil {
			return 0, err
		}
	}
	return reads, ctx.Err()
}

func readMapped(ctx context.Context, s *Site) (int, error) {
	f, err := os.Open(s.Path(s.Data.Files[0]))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(s.Data.Bytes), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	defer unix.Munmap(mapped)
	var sum byte
	for i := 0; i < len(mapped); i += os.Getpagesize() {
		sum += mapped[i]
	}
	runtime.KeepAlive(sum)
	return mebibytes(s.Data.Bytes), ctx.Err()
}

const written = "written"

func removeWritten(_ context.Context, s *Site) error {
	if s.Pass == 0 {
		return nil
	}
	return os.Remove(s.Path(written))
}

// writeBlocks writes as much as a quarter of the file that is read, into a file
// that may not be there: in order, or anywhere.
func writeBlocks(ctx context.Context, s *Site, block int64, random bool) (int, error) {
	f, err := os.OpenFile(s.Path(written), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(7, 8))
	buf := make([]byte, block)
	blocks := max(s.Sizes.FileBytes/4, largeBlock) / block
	for i := range blocks {
		if random {
			i = rng.Int64N(blocks)
		}
		if _, err := f.WriteAt(buf, i*block); err != nil {
			return 0, err
		}
	}
	return int(blocks), errors.Join(f.Close(), ctx.Err())
}
