package layerstore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// Names in a layer's or a chain's directory.
const (
	treeFile     = "tree"
	recipeFile   = "tar"
	sourcePrefix = "source-"
	blobPrefix   = "blob-"
)

func sourceFile(d oci.Digest) string { return sourcePrefix + d.Hex() }
func blobFile(d oci.Digest) string   { return blobPrefix + d.Hex() }

// HasLayer tells whether the store has the layer.
func (s *Store) HasLayer(diffID oci.DiffID) bool {
	_, err := os.Lstat(s.layerPath(diffID))
	return err == nil
}

// hasLayer looks into staging, too.
func (h *Hold) hasLayer(diffID oci.DiffID) bool {
	h.mu.Lock()
	staged := slices.Contains(h.layers, diffID)
	h.mu.Unlock()
	return staged || h.s.HasLayer(diffID)
}

// Layer is an open layer.
type Layer struct {
	info LayerInfo
	tree *tree.File
}

// LayerInfo describes a layer.
type LayerInfo struct {
	DiffID  oci.DiffID
	TarSize int64 // of the exact tar
	Entries int   // of the tar
	Files   int   // regular files among them
	Bytes   int64 // their sizes added up
	Sources []LayerSource
}

// Source is a blob that a layer can be read from.
type Source struct {
	Digest    oci.Digest
	Size      int64
	MediaType string
}

// LayerSource is a blob that a layer was read from.
type LayerSource struct {
	Source
	Kept bool // whether Store.Blob gives it back
}

// Layer opens a layer. It stays in the store as long as an image or container
// lists it; one who cannot be sure of that takes a Hold.
func (s *Store) Layer(diffID oci.DiffID) (*Layer, error) {
	info, err := s.layerInfo(diffID)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", diffID, err)
	}
	t, err := tree.OpenFile(s.layerPath(diffID, treeFile), s)
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", diffID, err)
	}
	return &Layer{info: info, tree: t}, nil
}

// Tree is what the layer holds, whiteouts and opaque directories included.
func (l *Layer) Tree() *tree.File { return l.tree }

// Info describes the layer.
func (l *Layer) Info() LayerInfo { return l.info }

// Close gives the tree back.
func (l *Layer) Close() error { return l.tree.Close() }

func (s *Store) layerInfo(diffID oci.DiffID) (LayerInfo, error) {
	if _, err := oci.ParseDiffID(string(diffID)); err != nil {
		return LayerInfo{}, err
	}
	f, totals, err := s.openRecipe(diffID)
	if err != nil {
		return LayerInfo{}, err
	}
	defer f.Close()
	info := LayerInfo{
		DiffID:  diffID,
		TarSize: totals.size,
		Entries: int(totals.entries),
		Files:   int(totals.files),
		Bytes:   totals.bytes,
	}
	info.Sources, err = s.sources(diffID)
	return info, err
}

// openRecipe opens a layer's recipe and reads its header.
func (s *Store) openRecipe(diffID oci.DiffID) (*os.File, tarTotals, error) {
	f, err := os.Open(s.layerPath(diffID, recipeFile))
	if errors.Is(err, fs.ErrNotExist) && !s.HasLayer(diffID) {
		return nil, tarTotals{}, &NotFoundError{Root: s.root, Kind: "layer", Name: string(diffID)}
	} else if err != nil {
		return nil, tarTotals{}, err
	}
	totals, err := readRecipeHeader(f, diffID)
	if err != nil {
		f.Close()
		return nil, tarTotals{}, fmt.Errorf("tar recipe %s: %w", f.Name(), err)
	}
	return f, totals, nil
}

// Tar gives the layer's tar, bit for bit the one that its diffID names: EOF
// comes only after that has been verified.
func (s *Store) Tar(diffID oci.DiffID) (io.ReadCloser, error) {
	f, totals, err := s.openRecipe(diffID)
	if err != nil {
		return nil, fmt.Errorf("tar of layer %s: %w", diffID, err)
	}
	r, err := newRecipeReader(f, s)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("tar of layer %s: %w", diffID, err)
	}
	return &verifiedReader{r: r, closers: []io.Closer{r, f}, sum: sha256.New(),
		what: "tar of layer " + string(diffID), size: totals.size, want: string(diffID)}, nil
}

// verifiedReader gives EOF only if what it read has the right digest.
type verifiedReader struct {
	r       io.Reader
	closers []io.Closer
	sum     hash.Hash
	what    string
	n, size int64
	want    string
}

func (v *verifiedReader) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	v.n += int64(n)
	if err == io.EOF {
		if v.n != v.size {
			err = fmt.Errorf("%d bytes, not %d: %w", v.n, v.size, ErrDamaged)
		} else if found := "sha256:" + hex.EncodeToString(v.sum.Sum(nil)); found != v.want {
			err = fmt.Errorf("the digest is %s, not %s: %w", found, v.want, ErrDamaged)
		}
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%s: %w", v.what, err)
	}
	return n, err
}

func (v *verifiedReader) Close() error {
	var err error
	for _, c := range v.closers {
		err = errors.Join(err, c.Close())
	}
	return err
}

// layers lists all layers, in no meaningful order.
func (s *Store) layers() ([]oci.DiffID, error) {
	names, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return nil, err
	}
	var layers []oci.DiffID
	for _, n := range names {
		d, err := layerOf(n.Name())
		if err != nil {
			return nil, fmt.Errorf("%s is not a layer's: %w: strata fsck --repair removes it", s.path(layersDir, n.Name()), err)
		}
		layers = append(layers, d)
	}
	return layers, nil
}

// layerOf is the layer whose directory has that name.
func layerOf(name string) (oci.DiffID, error) { return oci.ParseDiffID("sha256:" + name) }

// minLayerDigits is how many digits of a diffID name a layer.
const minLayerDigits = 6

// FindLayer finds a layer by its diffID, also shortened and without "sha256:".
func (s *Store) FindLayer(name string) (oci.DiffID, error) {
	digits := strings.TrimPrefix(name, "sha256:")
	notFound := &NotFoundError{Root: s.root, Kind: "layer", Name: name}
	if len(digits) < minLayerDigits || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", notFound
	}
	all, err := s.layers()
	if err != nil {
		return "", err
	}
	var found []oci.DiffID
	for _, d := range all {
		if strings.HasPrefix(d.Hex(), digits) {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return "", notFound
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("layer %s: %d layers begin so, %s and %s among them: use more digits", name, len(found), found[0].Short(), found[1].Short())
}
