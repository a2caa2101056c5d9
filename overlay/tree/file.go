package tree

import (
	"fmt"
	"hash/crc32"
	"os"
	"runtime/debug"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// File is a tree file that is open for reading. It holds the mapped file, a
// checksum for every 64 KiB of it, and nothing for each inode or name.
//
// No string or slice that a method returns points into the mapping, whose
// pages may turn into faults when somebody else cuts the file short.
type File struct {
	path    string
	objects Objects
	data    []byte // the mapping; nil once closed
	header  fileHeader
	sums    []uint32        // checksums of the blocks
	checked []atomic.Uint32 // a bit for each block: its bytes fit its checksum
}

// OpenFile maps the tree file at path. It reads the header only: everything
// else is checked when it is first used. objects, which opens the contents of
// regular files, may be nil if Open is not called.
//
// A file that is none, is damaged or has the wrong length is a *CorruptError;
// one of a later version wraps ErrNewer.
func OpenFile(path string, objects Objects) (*File, error) {
	osFile, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer osFile.Close() // the mapping stays
	info, err := osFile.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() < headerSize {
		return nil, &CorruptError{path, "header", fmt.Sprintf(
			"%d bytes (%s) cannot be a tree file: the header alone has %d", info.Size(), info.Mode().Type(), headerSize)}
	}
	data, err := unix.Mmap(int(osFile.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	f, err := newFile(path, data, objects)
	if err != nil {
		_ = unix.Munmap(data) // the reason for not opening it matters more
		return nil, err
	}
	return f, nil
}

// newFile returns a File whose bytes are data, at least headerSize of them.
func newFile(path string, data []byte, objects Objects) (f *File, err error) {
	f = &File{path: path, objects: objects, data: data}
	defer f.catchFault(debug.SetPanicOnFault(true), &err)

	if magic := string(data[:len(fileMagic)]); magic != fileMagic {
		return nil, f.corruptHeader("starts with %q, not with %q: no tree file", magic, fileMagic)
	}
	if version := u32(data[8:]); version != fileVersion {
		if version < fileVersion {
			return nil, f.corruptHeader("version %d, and there never was one", version)
		}
		return nil, fmt.Errorf("tree file %s: version %d, this program reads up to %d: %w", path, version, fileVersion, ErrNewer)
	}
	header, problem := decodeHeader(data[:headerSize], uint64(len(data)))
	if problem != "" {
		return nil, f.corruptHeader("%s", problem)
	}
	f.header = header
	raw := data[headerSize:header.body()]
	if sum := crc32.Checksum(raw, castagnoli); sum != header.sumsCRC {
		return nil, f.corruptHeader("checksum of the block checksums is %08x, not %08x", sum, header.sumsCRC)
	}
	f.sums = make([]uint32, header.blocks)
	for i := range f.sums {
		f.sums[i] = u32(raw[4*i:])
	}
	f.checked = make([]atomic.Uint32, (header.blocks+31)/32)
	return f, nil
}

// Close unmaps the file. No other method may be running; those called later
// give os.ErrClosed.
func (f *File) Close() error {
	if f.data == nil {
		return fmt.Errorf("close tree file %s: %w", f.path, os.ErrClosed)
	}
	data := f.data
	f.data = nil
	if err := unix.Munmap(data); err != nil {
		return &os.PathError{Op: "munmap", Path: f.path, Err: err}
	}
	return nil
}

// Space describes the inode numbers: a range of the file's own.
func (f *File) Space() Space { return Space{Size: f.header.space} }

// count returns how many records section s has.
func (f *File) count(s section) uint64 { return f.header.sections[s].size / sectionWidths[s] }

// bytes returns n bytes at off of section s, in the mapping, after checking
// the blocks that they lie in.
func (f *File) bytes(s section, off, n uint64) ([]byte, error) {
	x := &f.header.sections[s]
	if off > x.size || n > x.size-off {
		return nil, f.corrupt(s, "%d bytes wanted at %d, there are %d", n, off, x.size)
	}
	if f.data == nil {
		return nil, f.closedError()
	}
	start := x.offset + off
	if n > 0 {
		for b := start >> blockShift; b <= (start+n-1)>>blockShift; b++ {
			if f.checked[b/32].Load()>>(b%32)&1 == 0 {
				if err := f.checkBlock(s, b); err != nil {
					return nil, err
				}
			}
		}
	}
	return f.data[start : start+n : start+n], nil
}

// checkBlock holds block b, wanted as a part of section s, against its
// checksum. Several goroutines may do so at once.
func (f *File) checkBlock(s section, b uint64) error {
	start := max(b<<blockShift, f.header.body())
	end := min((b+1)<<blockShift, f.header.fileSize)
	if sum := crc32.Checksum(f.data[start:end], castagnoli); sum != f.sums[b] {
		return f.corrupt(s, "checksum of bytes %d to %d of the file is %08x, not %08x", start, end, sum, f.sums[b])
	}
	f.checked[b/32].Or(1 << (b % 32))
	return nil
}

// catchFault turns a memory fault in the mapping into a *CorruptError in *err,
// and sets back what debug.SetPanicOnFault returned. It must be deferred by
// whatever reads f.data. Every other panic goes on.
func (f *File) catchFault(panicOnFault bool, err *error) {
	debug.SetPanicOnFault(panicOnFault)
	p := recover()
	if p == nil {
		return
	}
	fault, ok := p.(interface{ Addr() uintptr })
	if !ok {
		panic(p)
	}
	off := uint64(fault.Addr() - uintptr(unsafe.Pointer(unsafe.SliceData(f.data))))
	if off >= uint64(len(f.data)) {
		panic(p)
	}
	name := "header"
	for i, x := range f.header.sections {
		if x.offset > 0 && x.offset <= off {
			name = section(i).String()
		}
	}
	*err = &CorruptError{f.path, name, fmt.Sprintf(
		"byte %d cannot be read: the file of %d bytes was cut short, or the disk fails", off, len(f.data))}
}

func (f *File) corrupt(s section, format string, args ...any) error {
	return &CorruptError{f.path, s.String(), fmt.Sprintf(format, args...)}
}

func (f *File) corruptHeader(format string, args ...any) error {
	return &CorruptError{f.path, "header", fmt.Sprintf(format, args...)}
}

func (f *File) closedError() error { return fmt.Errorf("tree file %s: %w", f.path, os.ErrClosed) }
