package layerstore

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// A tar recipe gives a layer's tar back, bit for bit. It is the tar with each
// content that the store keeps as an object replaced by the object's digest:
//
//	 0        8        12       16         24        32       40       48          80
//	+--------+--------+--------+----------+---------+--------+--------+-----------+----------+
//	| magic  | version| crc32c | tar size | entries | files  | bytes  | diffID    | segments |
//	| 8      | 4      | 4      | 8        | 8       | 8      | 8      | 32        | zstd     |
//	+--------+--------+--------+----------+---------+--------+--------+-----------+----------+
//
// Numbers are little-endian. The checksum covers the other 76 bytes. Entries
// counts those of the tar, files the regular files among them, bytes their
// contents' sizes added up. The segments, one zstd frame with checksum, are
//
//	+---+-----------+----------+      bytes of the tar that are no content: headers,
//	| 0 | n uvarint | n bytes  |      padding, the end of the archive; and sparse
//	+---+-----------+----------+      files, whose bytes are not those of the content
//
//	+---+-----------+----------+      an object of n bytes
//	| 1 | n uvarint | 32 bytes |
//	+---+-----------+----------+
//
// in any number, then a byte 2.
//
// Nothing is derived when the tar is rebuilt, so nothing about tar formats can
// be got wrong: the diffID is computed from the segments as they are recorded.
// (Deriving padding from sizes, as tools that keep only headers do, fails on
// sparse files, of which the tar holds fewer bytes than the header's size
// rounded up.)
const (
	recipeMagic   = "STRATTAR"
	recipeVersion = 1
	recipeHeader  = 80

	segmentRaw    = 0
	segmentObject = 1
	segmentEnd    = 2

	maxRawSegment = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// tarTotals is what a recipe's header says of its tar.
type tarTotals struct {
	size    int64 // of the tar
	entries int64
	files   int64
	bytes   int64 // contents of the files
}

// recipeWriter writes a recipe from its segments.
type recipeWriter struct {
	f   *os.File
	enc *zstd.Encoder
	buf []byte
}

func newRecipeWriter(path string) (*recipeWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(recipeHeader, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	enc, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(512<<10), zstd.WithLowerEncoderMem(true))
	if err != nil {
		f.Close()
		return nil, err
	}
	return &recipeWriter{f: f, enc: enc}, nil
}

func (w *recipeWriter) raw(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), maxRawSegment)
		w.buf = binary.AppendUvarint(append(w.buf[:0], segmentRaw), uint64(n))
		w.buf = append(w.buf, b[:n]...)
		if _, err := w.enc.Write(w.buf); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (w *recipeWriter) object(d tree.ObjectDigest, size int64) error {
	w.buf = binary.AppendUvarint(append(w.buf[:0], segmentObject), uint64(size))
	w.buf = append(w.buf, d[:]...)
	_, err := w.enc.Write(w.buf)
	return err
}

// finish writes the header, last of all.
func (w *recipeWriter) finish(diffID oci.DiffID, t tarTotals) error {
	if _, err := w.enc.Write([]byte{segmentEnd}); err != nil {
		return err
	}
	if err := w.enc.Close(); err != nil {
		return err
	}
	h := append(make([]byte, 0, recipeHeader), recipeMagic...)
	le := binary.LittleEndian
	h = le.AppendUint32(h, recipeVersion)
	h = le.AppendUint32(h, 0)
	for _, n := range []int64{t.size, t.entries, t.files, t.bytes} {
		h = le.AppendUint64(h, uint64(n))
	}
	h = append(h, diffIDBytes(diffID)...)
	le.PutUint32(h[12:], recipeCRC(h))
	_, err := w.f.WriteAt(h, 0)
	return err
}

func (w *recipeWriter) close() error { return errors.Join(w.enc.Close(), w.f.Close()) }

// diffIDBytes is the binary form of a diffID that was parsed.
func diffIDBytes(d oci.DiffID) []byte {
	b, err := hex.DecodeString(d.Hex())
	if err != nil || len(b) != sha256.Size {
		panic("internal error: diffID " + string(d) + " was not parsed")
	}
	return b
}

func recipeCRC(h []byte) uint32 {
	return crc32.Update(crc32.Checksum(h[:12], castagnoli), castagnoli, h[16:recipeHeader])
}

// readRecipeHeader reads and checks the header of diffID's recipe.
func readRecipeHeader(r io.Reader, diffID oci.DiffID) (tarTotals, error) {
	h := make([]byte, recipeHeader)
	if _, err := io.ReadFull(r, h); err != nil {
		return tarTotals{}, fmt.Errorf("header: %w", err)
	}
	le := binary.LittleEndian
	if string(h[:8]) != recipeMagic {
		return tarTotals{}, fmt.Errorf("begins with %q, not with %q", h[:8], recipeMagic)
	}
	if v := le.Uint32(h[8:]); v != recipeVersion {
		return tarTotals{}, fmt.Errorf("has version %d, this program reads %d", v, recipeVersion)
	}
	if found, want := recipeCRC(h), le.Uint32(h[12:]); found != want {
		return tarTotals{}, fmt.Errorf("the header's checksum is %08x, not %08x", found, want)
	}
	if string(h[48:80]) != string(diffIDBytes(diffID)) {
		return tarTotals{}, fmt.Errorf("belongs to layer sha256:%x", h[48:80])
	}
	return tarTotals{
		size:    int64(le.Uint64(h[16:])),
		entries: int64(le.Uint64(h[24:])),
		files:   int64(le.Uint64(h[32:])),
		bytes:   int64(le.Uint64(h[40:])),
	}, nil
}

// recipeReader gives the tar that a recipe describes. It trusts nothing, for
// the one who made it compares the whole with the diffID.
type recipeReader struct {
	dec     *zstd.Decoder
	in      *bufio.Reader
	objects tree.Objects

	segment segment  // the one being read
	object  *os.File // its object, if it is one
	left    int64    // bytes left of it
}

type segment struct {
	kind   byte
	size   int64
	digest tree.ObjectDigest
}

func newRecipeReader(segments io.Reader, objects tree.Objects) (*recipeReader, error) {
	dec, err := newRecipeDecoder(segments)
	if err != nil {
		return nil, err
	}
	return &recipeReader{dec: dec, in: bufio.NewReader(dec), objects: objects}, nil
}

func newRecipeDecoder(segments io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(segments, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(8<<20))
}

func (r *recipeReader) Read(p []byte) (int, error) {
	for r.left == 0 {
		if r.segment.kind == segmentEnd {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	from := io.Reader(r.in)
	if r.object != nil {
		from = r.object
	}
	n, err := from.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if err == io.EOF && r.left > 0 {
		err = io.ErrUnexpectedEOF
		if r.object != nil {
			err = fmt.Errorf("object %s is %d bytes too short", r.object.Name(), r.left)
		}
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// next begins the next segment.
func (r *recipeReader) next() (err error) {
	if r.object != nil {
		r.object.Close()
		r.object = nil
	}
	if r.segment, err = readSegment(r.in); err != nil {
		return err
	}
	if r.segment.kind == segmentObject {
		if r.object, err = r.objects.OpenObject(r.segment.digest); err != nil {
			return err
		}
	}
	r.left = r.segment.size
	return nil
}

// readSegment reads a segment, or what precedes the bytes of a raw one.
func readSegment(in *bufio.Reader) (segment, error) {
	kind, err := in.ReadByte()
	if err != nil {
		return segment{}, noEOF(err)
	}
	s := segment{kind: kind}
	switch kind {
	case segmentRaw, segmentObject:
	case segmentEnd:
		n, err := io.Copy(io.Discard, in) // to the frame's checksum
		if err == nil && n > 0 {
			err = fmt.Errorf("%d bytes after the last segment", n)
		}
		return s, err
	default:
		return s, fmt.Errorf("segment of unknown kind %d", kind)
	}
	size, err := binary.ReadUvarint(in)
	if err != nil {
		return s, noEOF(err)
	}
	if s.size = int64(size); s.size < 0 {
		return s, fmt.Errorf("segment of %d bytes", size)
	}
	if kind == segmentObject {
		_, err = io.ReadFull(in, s.digest[:])
	}
	return s, noEOF(err)
}

func (r *recipeReader) Close() error {
	r.dec.Close()
	if r.object != nil {
		return r.object.Close()
	}
	return nil
}

// eachRecipeObject calls f with every object that a recipe's segments name.
func eachRecipeObject(segments io.Reader, f func(d tree.ObjectDigest, size int64)) error {
	dec, err := newRecipeDecoder(segments)
	if err != nil {
		return err
	}
	defer dec.Close()
	in := bufio.NewReader(dec)
	for {
		s, err := readSegment(in)
		if err != nil {
			return err
		}
		switch s.kind {
		case segmentEnd:
			return nil
		case segmentObject:
			f(s.digest, s.size)
		case segmentRaw:
			if _, err := io.CopyN(io.Discard, in, s.size); err != nil {
				return noEOF(err)
			}
		}
	}
}

// noEOF is err where an end of file is unexpected.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
