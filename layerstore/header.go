package layerstore

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// header is the tar header of an entry: what parseEntry makes the same entry of.
//
//	names            PAX, with hdrcharset=BINARY where they are not UTF-8
//	modification     to the nanosecond: PAX where it is no whole second
//	owner, size      PAX where they do not fit
//	xattrs           SCHILY.xattr.NAME; LIBARCHIVE.xattr.NAME, quoted, where NAME holds "="
//	owner's names    none: they are the business of the image's /etc/passwd
//	other times      none: a layer has one
//
// Docker cuts times to the second. Here a tree that is packed comes back as it
// was, and what reads layers reads these, too.
func (e *entry) header() (*tar.Header, error) {
	h := &tar.Header{Format: tar.FormatPAX, Name: e.path, Typeflag: tar.TypeReg}
	switch e.kind {
	case kindDir:
		h.Typeflag, h.Name = tar.TypeDir, e.path+"/"
		if e.path == "" {
			h.Name = "./"
		}
	case kindFile:
		h.Size = e.size
	case kindSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.target
	case kindSpecial:
		h.Typeflag = specialFlags[e.typ]
		h.Devmajor, h.Devminor = int64(unix.Major(e.rdev)), int64(unix.Minor(e.rdev))
	case kindLink:
		h.Typeflag, h.Linkname = tar.TypeLink, e.target
	case kindWhiteout:
		dir, name := splitPath(e.path)
		h.Name = dir + whiteout + name
	case kindOpaque:
		h.Name = strings.TrimPrefix(e.path+"/"+opaqueDir, "/")
	}
	if len(h.Name) > maxPath+1 {
		return nil, fmt.Errorf("a path of %d bytes: Linux has at most %d", len(h.Name), maxPath)
	}
	if e.kind == kindWhiteout || e.kind == kindOpaque {
		h.ModTime = time.Unix(0, 0) // they have no attributes of their own
		return e.withRecords(h)
	}
	h.Mode, h.Uid, h.Gid = int64(e.meta.Mode&tree.ModePerm), int(e.meta.UID), int(e.meta.GID)
	h.ModTime = time.Unix(e.meta.Mtime.Sec, int64(e.meta.Mtime.Nsec))
	if h.ModTime.IsZero() {
		return nil, fmt.Errorf("a modification time of %s, which tar writers take for none", h.ModTime.UTC())
	}
	return e.withRecords(h)
}

// specialFlags are the type flags by the bits of a mode.
var specialFlags = map[uint32]byte{tree.ModeFIFO: tar.TypeFifo, tree.ModeChar: tar.TypeChar, tree.ModeBlock: tar.TypeBlock}

// withRecords adds the PAX records that archive/tar does not make by itself.
func (e *entry) withRecords(h *tar.Header) (*tar.Header, error) {
	records := map[string]string{}
	if !utf8.ValidString(h.Name) || !utf8.ValidString(h.Linkname) {
		records["hdrcharset"] = "BINARY"
	}
	for _, x := range e.meta.Xattrs {
		if strings.Contains(x.Name, "=") {
			records["LIBARCHIVE.xattr."+url.QueryEscape(x.Name)] = base64.RawStdEncoding.EncodeToString(x.Value)
		} else {
			records["SCHILY.xattr."+x.Name] = string(x.Value)
		}
	}
	if len(records) > 0 {
		h.PAXRecords = records
	}
	return h, nil
}

// splitPath cuts a path before its last name; dir ends in a slash or is empty.
func splitPath(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/') + 1
	return path[:i], path[i:]
}

// tarWriter makes a tar of entries and of contents, which others write.
type tarWriter struct {
	raw func([]byte) error // takes all that is no content
	n   int64              // bytes of the tar so far, contents included
	buf bytes.Buffer
}

// tarBlock is what headers and contents are filled up to.
const tarBlock = 512

// entry writes what stands before an entry's contents.
func (w *tarWriter) entry(e *entry) error {
	h, err := e.header()
	if err != nil {
		return err
	}
	w.buf.Reset()
	if err := tar.NewWriter(&w.buf).WriteHeader(h); err != nil {
		return err
	}
	return w.write(w.buf.Bytes())
}

// filled writes what follows size bytes of contents.
func (w *tarWriter) filled(size int64) error {
	w.n += size
	if rest := size % tarBlock; rest > 0 {
		return w.write(zeros[:tarBlock-rest])
	}
	return nil
}

// end writes what tells that there is no more.
func (w *tarWriter) end() error { return w.write(zeros[:2*tarBlock]) }

func (w *tarWriter) write(b []byte) error {
	w.n += int64(len(b))
	return w.raw(b)
}
