package layerstore

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"strata/internal/oci"
)

// How a source blob can be given back, as a source record has it.
const (
	formTar  = "tar"  // it is the layer's tar
	formBlob = "blob" // it is kept in a file
	formNone = "none" // not at all
)

// sourceRecord is what stands in a layer's source-<hex> file, as JSON. The
// digest is the file's name.
type sourceRecord struct {
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
	Form      string `json:"form"`
}

// sourceForm decides how src is going to be given back.
func sourceForm(src Source, c compression, keep KeepBlobs) string {
	switch {
	case src.Digest == "":
		return ""
	case keep == KeepAlways:
		return formBlob
	case c.name == "":
		return formTar
	case keep == KeepNever:
		return formNone
	}
	return formBlob
}

// wantsSource tells whether the layer, which is known, lacks src.
func (h *Hold) wantsSource(diffID oci.DiffID, src Source, keep KeepBlobs) bool {
	always := keep == KeepAlways
	if src.Digest == "" || keep == KeepNever || src.Digest.Hex() == diffID.Hex() && !always {
		return false
	}
	for _, dir := range []string{h.s.layerPath(diffID), h.path(stagedLayers, diffID.Hex()), h.path(stagedSources, diffID.Hex())} {
		if r, err := readSource(dir, src.Digest); err == nil && (r.Form == formBlob || r.Form == formTar && !always) {
			return false
		}
	}
	return true
}

func writeSource(dir string, src Source, form string) error {
	b, err := json.Marshal(sourceRecord{MediaType: src.MediaType, Size: src.Size, Form: form})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, sourceFile(src.Digest)), append(b, '\n'), 0o600)
}

func readSource(dir string, d oci.Digest) (sourceRecord, error) {
	path := filepath.Join(dir, sourceFile(d))
	b, err := os.ReadFile(path)
	if err != nil {
		return sourceRecord{}, err
	}
	var r sourceRecord
	if err := json.Unmarshal(b, &r); err != nil {
		return sourceRecord{}, fmt.Errorf("source record %s: %w", path, err)
	}
	if r.Form != formTar && r.Form != formBlob && r.Form != formNone || r.Size < 0 {
		return sourceRecord{}, fmt.Errorf("source record %s: form %q, size %d", path, r.Form, r.Size)
	}
	return r, nil
}

// sources lists the blobs that the layer was read from.
func (s *Store) sources(diffID oci.DiffID) ([]LayerSource, error) {
	names, err := os.ReadDir(s.layerPath(diffID))
	if err != nil {
		return nil, err
	}
	var sources []LayerSource
	for _, n := range names {
		x, ok := strings.CutPrefix(n.Name(), sourcePrefix)
		if !ok {
			continue
		}
		d, err := oci.ParseDigest("sha256:" + x)
		if err != nil {
			return nil, fmt.Errorf("source record %s: %w", s.layerPath(diffID, n.Name()), err)
		}
		r, err := readSource(s.layerPath(diffID), d)
		if err != nil {
			return nil, err
		}
		sources = append(sources, LayerSource{Source{d, r.Size, r.MediaType}, r.Form != formNone})
	}
	return sources, nil
}

// ErrNotKept is returned for a blob that the store knows and did not keep.
var ErrNotKept = errors.New("the blob was not kept, and nothing else gives it back")

// Blob gives a source blob back, bit for bit: EOF comes only after that has
// been verified.
func (s *Store) Blob(d oci.Digest) (io.ReadCloser, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	if diffID := oci.DiffID(d); s.HasLayer(diffID) {
		return s.layerBlob(diffID, d)
	}
	diffID, err := s.findSource(d)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return s.layerBlob(diffID, d)
}

// layerBlob is Blob for one who knows which layer was read from d.
func (s *Store) layerBlob(diffID oci.DiffID, d oci.Digest) (io.ReadCloser, error) {
	r, err := readSource(s.layerPath(diffID), d)
	switch {
	case err == nil && r.Form == formBlob:
	case d.Hex() == diffID.Hex() || err == nil && r.Form == formTar:
		return s.Tar(diffID)
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("blob %s: %w", d, ErrNotKept)
	default:
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	f, err := os.Open(filepath.Join(s.layerPath(diffID), blobFile(d)))
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d, err)
	}
	return &verifiedReader{r: f, closers: []io.Closer{f}, sum: sha256.New(),
		what: "blob " + string(d), size: r.Size, want: string(d)}, nil
}

// keeps tells whether layerBlob gives d back.
func (s *Store) keeps(diffID oci.DiffID, d oci.Digest) bool {
	if d.Hex() == diffID.Hex() {
		return s.HasLayer(diffID)
	}
	r, err := readSource(s.layerPath(diffID), d)
	return err == nil && r.Form != formNone
}

// findSource finds the layer that was read from blob d and, of several, one
// that can give it back.
func (s *Store) findSource(d oci.Digest) (oci.DiffID, error) {
	layers, err := s.layers()
	if err != nil {
		return "", err
	}
	found, err := oci.DiffID(""), error(&NotFoundError{Root: s.root, Kind: "blob", Name: string(d)})
	for _, diffID := range layers {
		r, readErr := readSource(s.layerPath(diffID), d)
		if errors.Is(readErr, fs.ErrNotExist) {
			continue
		} else if readErr != nil {
			return "", readErr
		}
		found, err = diffID, nil
		if r.Form != formNone {
			break
		}
	}
	return found, err
}
