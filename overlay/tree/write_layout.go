package tree

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// emit lays out the sections and writes the file.
func (w *treeWriter) emit(dst io.Writer) error {
	h := fileHeader{space: w.space}
	// The checksums lie before what they cover and move it: grow their number
	// until they cover themselves and all the rest.
	for {
		end := h.body()
		for i, b := range w.data {
			h.sections[i] = extent{alignSection(end), uint64(len(b))}
			end = h.sections[i].offset + h.sections[i].size
		}
		h.fileSize = end
		blocks := uint32((end + blockSize - 1) >> blockShift)
		if blocks == h.blocks {
			break
		}
		h.blocks = blocks
	}

	summer := blockSummer{offset: h.body(), sums: make([]byte, h.body()-headerSize)}
	if err := w.emitBody(&summer, &h); err != nil {
		return err
	}
	h.sumsCRC = crc32.Checksum(summer.sums, castagnoli)
	if _, err := dst.Write(h.encode()); err != nil {
		return err
	}
	if _, err := dst.Write(summer.sums); err != nil {
		return err
	}
	return w.emitBody(dst, &h)
}

func (w *treeWriter) emitBody(dst io.Writer, h *fileHeader) error {
	var zeros [sectionUnit]byte
	end := h.body()
	for i, b := range w.data {
		if _, err := dst.Write(zeros[:h.sections[i].offset-end]); err != nil {
			return err
		}
		if _, err := dst.Write(b); err != nil {
			return err
		}
		end = h.sections[i].offset + h.sections[i].size
	}
	return nil
}

// blockSummer computes the checksums of the blocks of what is written to it,
// which starts at offset of the file.
type blockSummer struct {
	offset uint64
	sums   []byte // four bytes for each block
}

func (s *blockSummer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(uint64(len(p)), blockSize-s.offset%blockSize)]
		sum := s.sums[4*(s.offset>>blockShift):]
		le := binary.LittleEndian
		le.PutUint32(sum, crc32.Update(le.Uint32(sum), castagnoli, part))
		s.offset += uint64(len(part))
		p = p[len(part):]
	}
	return n, nil
}
