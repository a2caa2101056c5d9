package testdata

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// entry is one entry of a layer's tar.
type entry struct {
	name         string // relative to the root, clean
	kind         byte   // as tar.Header.Typeflag
	mode         int64
	uid, gid     int
	mtime        time.Time
	target       string // of a symlink; of a hard link, relative to the root
	major, minor int64
	xattrs       map[string]string
	data         []byte
}

func (e *entry) setKind(word string, words []string) error {
	e.kind, e.mode = tar.TypeReg, 0o644
	switch word {
	case "dir":
		e.kind, e.mode = tar.TypeDir, 0o755
	case "file":
	case "symlink":
		e.kind, e.mode, e.target = tar.TypeSymlink, 0o777, words[0]
	case "link":
		e.kind, e.target = tar.TypeLink, words[0]
	case "char", "block":
		e.kind = tar.TypeChar
		if word == "block" {
			e.kind = tar.TypeBlock
		}
		var err error
		if e.major, err = strconv.ParseInt(words[0], 10, 32); err != nil {
			return err
		}
		if e.minor, err = strconv.ParseInt(words[1], 10, 32); err != nil {
			return err
		}
	case "fifo":
		e.kind = tar.TypeFifo
	case "whiteout":
		e.name = path.Join(path.Dir(e.name), ".wh."+path.Base(e.name))
	case "opaque":
		e.name = path.Join(e.name, ".wh..wh..opq")
	default:
		return fmt.Errorf("this word is not known")
	}
	return nil
}

func (e *entry) setAttr(key, value string) error {
	var err error
	switch key {
	case "mode":
		e.mode, err = strconv.ParseInt(value, 8, 16)
	case "owner":
		_, err = fmt.Sscanf(value, "%d:%d", &e.uid, &e.gid)
	case "mtime":
		e.mtime, err = time.Parse(time.RFC3339Nano, value)
	case "xattr":
		name, v, _ := strings.Cut(value, "=")
		if e.xattrs == nil {
			e.xattrs = map[string]string{}
		}
		e.xattrs[name] = v
	default:
		err = fmt.Errorf("this attribute is not known")
	}
	return err
}

// Tar returns the layer as an uncompressed tar: entries sorted by name, each
// directory before what is in it, hard links last.
func (l *Layer) Tar() ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range l.sorted() {
		h := &tar.Header{
			Typeflag: e.kind, Name: e.name, Linkname: e.target,
			Mode: e.mode, Uid: e.uid, Gid: e.gid, ModTime: e.mtime,
			Size: int64(len(e.data)), Devmajor: e.major, Devminor: e.minor,
		}
		if e.kind == tar.TypeDir {
			h.Name += "/"
		}
		for name, value := range e.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+name] = value
		}
		if h.PAXRecords != nil || e.mtime.Nanosecond() != 0 {
			h.Format = tar.FormatPAX
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("layer %s: %s: %w", l.Name, e.name, err)
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, fmt.Errorf("layer %s: %s: %w", l.Name, e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("layer %s: %w", l.Name, err)
	}
	return out.Bytes(), nil
}

// sorted returns the entries in the order of the tar, with the directories
// that no line mentions.
func (l *Layer) sorted() []*entry {
	entries := slices.Clone(l.entries)
	have := map[string]bool{".": true}
	for _, e := range l.entries {
		have[e.name] = true
	}
	for _, e := range l.entries {
		for dir := path.Dir(e.name); !have[dir]; dir = path.Dir(dir) {
			have[dir] = true
			if !l.bare[dir] {
				entries = append(entries, l.unmentioned(dir))
			}
		}
	}
	slices.SortStableFunc(entries, func(a, b *entry) int {
		if (a.kind == tar.TypeLink) != (b.kind == tar.TypeLink) {
			if a.kind == tar.TypeLink {
				return 1
			}
			return -1
		}
		return strings.Compare(a.name, b.name)
	})
	return entries
}

// unmentioned makes the entry of a directory that no line mentions.
func (l *Layer) unmentioned(dir string) *entry {
	for _, b := range slices.Backward(l.below) {
		for _, e := range b.entries {
			if e.name == dir && e.kind == tar.TypeDir {
				return e
			}
		}
	}
	return &entry{name: dir, kind: tar.TypeDir, mode: 0o755, mtime: l.created}
}

// noise returns n bytes that do not compress and depend on seed alone.
func noise(seed string, n int64) []byte {
	data := make([]byte, n)
	rand.NewChaCha8(sha256.Sum256([]byte(seed))).Read(data) // never fails
	return data
}
