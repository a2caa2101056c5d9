package layerstore_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"strata/internal/oci"
	"strata/layerstore"
)

// This file is a little language for layers' blobs.

// member is one entry of a tar.
type member struct {
	hdr  tar.Header
	data string
	raw  []byte // instead of hdr and data
}

func file(name, data string) member {
	return member{hdr: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}, data: data}
}

func dir(name string) member {
	return member{hdr: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func symlink(name, target string) member {
	return member{hdr: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func link(name, target string) member {
	return member{hdr: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

func device(typ byte, name string, major, minor int64) member {
	return member{hdr: tar.Header{Typeflag: typ, Name: name, Devmajor: major, Devminor: minor, Mode: 0o600}}
}

func fifo(name string) member {
	return member{hdr: tar.Header{Typeflag: tar.TypeFifo, Name: name, Mode: 0o600}}
}

func mtime(m member, t time.Time) member {
	m.hdr.ModTime, m.hdr.Format = t, tar.FormatPAX
	return m
}

func owner(m member, uid, gid int) member {
	m.hdr.Uid, m.hdr.Gid, m.hdr.Format = uid, gid, tar.FormatPAX
	return m
}

func mode(m member, mode int64) member {
	m.hdr.Mode = mode
	return m
}

// pax adds extended records in the order key, value, key, value.
func pax(m member, records ...string) member {
	m.hdr.PAXRecords = map[string]string{}
	for i := 0; i < len(records); i += 2 {
		m.hdr.PAXRecords[records[i]] = records[i+1]
	}
	m.hdr.Format = tar.FormatPAX
	return m
}

func gnu(m member) member {
	m.hdr.Format = tar.FormatGNU
	return m
}

// global is a PAX global header.
func global(records map[string]string) member {
	return member{hdr: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: records}}
}

// rawHeader is a ustar entry that archive/tar would not write.
func rawHeader(typ byte, name, linkname string, size int, data string, change ...func(block []byte)) member {
	b := make([]byte, 512)
	copy(b[0:100], name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00", size, 0))
	b[156] = typ
	copy(b[157:257], linkname)
	copy(b[257:], "ustar\x0000")
	for _, c := range change {
		c(b)
	}
	copy(b[148:], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	b = append(b, data...)
	return member{raw: append(b, make([]byte, -len(data)&511)...)}
}

// paxHeader is an extended header with records as they are given.
func paxHeader(records ...string) member {
	var b strings.Builder
	for i := 0; i < len(records); i += 2 {
		// The length counts its own digits.
		rest := fmt.Sprintf(" %s=%s\n", records[i], records[i+1])
		n := len(rest) + 1
		for len(fmt.Sprint(n))+len(rest) != n {
			n++
		}
		fmt.Fprintf(&b, "%d%s", n, rest)
	}
	return rawHeader('x', "PaxHeaders/x", "", b.Len(), b.String())
}

// gnuSparse is a file in the old GNU form, of which only the last len(data)
// bytes are there.
func gnuSparse(name string, size int, data string) member {
	return rawHeader('S', name, "", len(data), data, func(b []byte) {
		copy(b[257:], "ustar  \x00")
		copy(b[386:], fmt.Sprintf("%011o\x00%011o\x00", size-len(data), len(data)))
		copy(b[483:], fmt.Sprintf("%011o\x00", size))
	})
}

// blob is a layer's blob and what is said of it.
type blob struct {
	tar    []byte
	bytes  []byte
	diffID oci.DiffID
	src    layerstore.Source
	limits layerstore.Limits
}

// tarOf is an uncompressed blob.
func tarOf(members ...member) blob {
	var b bytes.Buffer
	for _, m := range members {
		if m.raw != nil {
			b.Write(m.raw)
			continue
		}
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&m.hdr); err != nil {
			panic(fmt.Sprintf("%+v: %v", m.hdr, err))
		}
		if _, err := w.Write([]byte(m.data)); err != nil {
			panic(err)
		}
		if err := w.Flush(); err != nil {
			panic(err)
		}
	}
	b.Write(make([]byte, 1024))
	return blobOf(b.Bytes(), b.Bytes())
}

// blobOf describes stored truly.
func blobOf(tarBytes, stored []byte) blob {
	return blob{
		tar:    tarBytes,
		bytes:  stored,
		diffID: oci.DiffID(fmt.Sprintf("sha256:%x", sha256.Sum256(tarBytes))),
		src:    layerstore.Source{Digest: oci.DigestBytes(stored), Size: int64(len(stored)), MediaType: "application/vnd.oci.image.layer.v1.tar"},
	}
}

func gz(b blob) blob { return blobOf(b.tar, gzipped(b.tar)) }

func gzipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// gzMembers is two gzip members after each other.
func gzMembers(b blob) blob {
	half := len(b.tar) / 2
	return blobOf(b.tar, append(gzipped(b.tar[:half]), gzipped(b.tar[half:])...))
}

func zst(b blob) blob {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return blobOf(b.tar, w.EncodeAll(b.tar, nil))
}

// zstFrames is a skippable frame and two zstd frames.
func zstFrames(b blob) blob {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	skip := binary.LittleEndian.AppendUint32([]byte("\x50\x2a\x4d\x18"), 5)
	out := append(skip, "hello"...)
	half := len(b.tar) / 2
	out = w.EncodeAll(b.tar[:half], out)
	return blobOf(b.tar, w.EncodeAll(b.tar[half:], out))
}

// stored replaces the bytes; the blob is described truly.
func stored(b blob, change func([]byte) []byte) blob {
	limits := b.limits
	b = blobOf(b.tar, change(bytes.Clone(b.bytes)))
	b.limits = limits
	return b
}

func cut(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 0x40; return b }
}

func followed(by string) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, by...) }
}

// otherTar changes the tar together with its diffID.
func otherTar(b blob, change func([]byte) []byte) blob {
	t := change(bytes.Clone(b.tar))
	return blobOf(t, t)
}

// said changes what is said of the blob.
func said(b blob, change func(*blob)) blob {
	change(&b)
	return b
}

func limited(b blob, l layerstore.Limits) blob {
	b.limits = l
	return b
}
