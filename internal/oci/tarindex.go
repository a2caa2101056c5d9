package oci

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

const (
	maxTarEntries = 1 << 20
	maxTarName    = 4096     // PATH_MAX; a longer name cannot be asked for
	maxTarNames   = 64 << 20 // bytes of all names and link targets
	maxTarLinks   = 40       // as many as the kernel follows
)

// tarIndex is a tar's regular files, by name, read in place. As an fs.FS it
// follows links, within the tar: an absolute target and one that climbs too
// far begin at the tar's root, as they would below chroot. Names are rooted in
// the same way ("./index.json" and "/index.json" are index.json), and of
// several entries of one name the last is meant, as if the tar had been
// extracted.
type tarIndex struct {
	file    io.ReaderAt
	entries map[string]tarEntry
	names   int // bytes of names and targets read so far
}

type tarEntry struct {
	offset, size int64  // of the data, when target is empty
	target       string // of a link, rooted
	unreadable   string // why, when the data is not one plain run of bytes
}

// indexTar reads all headers of the tar in file, once.
func indexTar(ctx context.Context, file *os.File) (*tarIndex, error) {
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return indexTarSection(ctx, io.NewSectionReader(file, 0, fi.Size()))
}

func indexTarSection(ctx context.Context, sr *io.SectionReader) (*tarIndex, error) {
	index := &tarIndex{file: sr, entries: make(map[string]tarEntry)}
	tr := tar.NewReader(sr) // seeks over data, reads headers without reading ahead
	for n := 0; ; n++ {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		switch {
		case err == io.EOF && n == 0:
			return nil, errors.New("a tar without entries")
		case err == io.EOF:
			return index, nil
		case errors.Is(err, tar.ErrInsecurePath): // names are rooted below
		case errors.Is(err, tar.ErrHeader) && n == 0:
			return nil, errors.New("not a tar, nor one compressed with gzip or zstd")
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("the tar is cut short after %d entries: %w", n, err)
		case err != nil:
			return nil, fmt.Errorf("tar entry %d: %w", n+1, err)
		case n == maxTarEntries:
			return nil, fmt.Errorf("more than %d entries in the tar", maxTarEntries)
		}
		if err := index.add(h, sr); err != nil {
			return nil, fmt.Errorf("tar entry %d, %s: %w", n+1, quote(h.Name), err)
		}
	}
}

// add records the entry that tr.Next has just returned, with sr standing at
// its data.
func (x *tarIndex) add(h *tar.Header, sr *io.SectionReader) error {
	name := rooted(h.Name)
	if len(name) > maxTarName || len(h.Linkname) > maxTarName {
		return nil
	}
	if x.names += len(name) + len(h.Linkname); x.names > maxTarNames {
		return fmt.Errorf("more than %d bytes of names in the tar", maxTarNames)
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		offset, err := sr.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		e := tarEntry{offset: offset, size: h.Size}
		if isSparse(h) {
			e.unreadable = "sparse tar entries are not supported"
		}
		x.entries[name] = e
	case tar.TypeSymlink:
		target := h.Linkname
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(name), target)
		}
		x.entries[name] = tarEntry{target: rooted(target)}
	case tar.TypeLink:
		// A hard link means what its target is at this point of the tar.
		if e, ok := x.entries[rooted(h.Linkname)]; ok {
			x.entries[name] = e
		} else {
			delete(x.entries, name)
		}
	default:
		delete(x.entries, name) // a directory or device in its place
	}
	return nil
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// rooted turns a name from a tar into one that fs.ValidPath accepts.
func rooted(name string) string {
	if name = path.Clean("/" + name)[1:]; name == "" {
		return "."
	}
	return name
}

// Open implements fs.FS.
func (x *tarIndex) Open(name string) (fs.File, error) {
	e, err := x.lookup(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return &tarFile{name: path.Base(name), SectionReader: io.NewSectionReader(x.file, e.offset, e.size)}, nil
}

func (x *tarIndex) lookup(name string) (tarEntry, error) {
	if !fs.ValidPath(name) {
		return tarEntry{}, fs.ErrInvalid
	}
	for range maxTarLinks {
		e, ok := x.entries[name]
		switch {
		case !ok:
			return e, fs.ErrNotExist
		case e.unreadable != "":
			return e, errors.New(e.unreadable)
		case e.target == "":
			return e, nil
		}
		name = e.target
	}
	return tarEntry{}, errors.New("too many symbolic links")
}

// tarFile is one file of a tar, and its own fs.FileInfo.
type tarFile struct {
	name string
	*io.SectionReader
}

func (f *tarFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *tarFile) Close() error               { return nil }

func (f *tarFile) Name() string       { return f.name }
func (f *tarFile) Mode() fs.FileMode  { return 0o444 }
func (f *tarFile) ModTime() time.Time { return time.Time{} }
func (f *tarFile) IsDir() bool        { return false }
func (f *tarFile) Sys() any           { return nil }
