package layerstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// Disk is what something takes on disk, as du counts it: allocated blocks,
// directories included, an inode with several names once.
type Disk struct {
	Bytes  int64
	Inodes int
}

func (d Disk) plus(e Disk) Disk { return Disk{d.Bytes + e.Bytes, d.Inodes + e.Inodes} }

// inodes are those that have been counted, of the ones with several names.
type inodes map[[2]uint64]bool

// add returns what path takes, nothing if its inode has been counted.
func (seen inodes) add(path string) (Disk, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Disk{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		inode := [2]uint64{uint64(st.Dev), st.Ino}
		if seen[inode] {
			return Disk{}, nil
		}
		seen[inode] = true
	}
	return Disk{st.Blocks * 512, 1}, nil
}

// Usage says where the bytes of a store are.
type Usage struct {
	// Everything below the root, by kind. The kinds add up to Total, which is
	// what du says of the root.
	Total      Disk
	Objects    Disk // objects/
	Trees      Disk // layers/: trees, and the directories
	Recipes    Disk // layers/: what gives the exact tars back, and the records of sources
	Blobs      Disk // layers/: blobs that no recipe gives
	Chains     Disk // chains/
	Documents  Disk // images/
	Containers Disk // containers/
	Staging    Disk // tmp/
	Other      Disk // the root itself, version

	Images []ImageUsage
	Layers []LayerUsage

	// The objects once more, by who needs them: what one image alone needs is
	// in that ImageUsage.Own; the rest is SharedObjects, each counted once,
	// needed by several images, and LooseObjects, needed by none (by layers
	// only that no image lists, or by nothing). FanOut is the directories.
	// The Own of all images, SharedObjects, LooseObjects and FanOut add up to
	// Objects.
	SharedObjects Disk
	LooseObjects  Disk
	FanOut        Disk
}

// Part is some layers' use of objects.
type Part struct {
	Files       int   // regular files of the layers' tars
	FileBytes   int64 // their sizes added up
	Objects     int   // distinct contents
	ObjectBytes int64 // their sizes added up
	Own         Disk  // objects that nobody else of the same kind needs
	Shared      Disk  // objects that others need, too
}

// LayerUsage is one layer's part; Own and Shared are against other layers.
type LayerUsage struct {
	DiffID oci.DiffID
	Images int // how many images list it
	Part
	Tree, Recipe, Blobs Disk
}

// ImageUsage is one image's part; Own and Shared are against other images.
type ImageUsage struct {
	Image Image
	Part
	Trees, Recipes, Blobs Disk // of its layers, shared ones too
}

// Usage measures the store. It takes a Hold, so that gc does not remove what
// is being counted; what others add meanwhile may be counted or not.
func (s *Store) Usage(ctx context.Context) (Usage, error) {
	h, err := s.Hold(ctx)
	if err != nil {
		return Usage{}, err
	}
	defer h.Release()
	m := measuring{s: s, skip: h.dir, objects: map[tree.ObjectDigest]*objectUse{}, layers: map[oci.DiffID]*LayerUsage{}}
	if err := m.measure(ctx); err != nil {
		return Usage{}, fmt.Errorf("measure store %s: %w", s.root, err)
	}
	return m.usage, nil
}

// measuring is one call of Usage.
type measuring struct {
	s       *Store
	skip    string // our own staging directory
	usage   Usage
	objects map[tree.ObjectDigest]*objectUse
	layers  map[oci.DiffID]*LayerUsage
}

// objectUse is an object and who needs it.
type objectUse struct {
	disk   Disk
	size   int64
	layers int
	images int
	seenBy oci.DiffID // the layer that was counted last
}

func (m *measuring) measure(ctx context.Context) error {
	layers, err := m.s.layers()
	if err != nil {
		return err
	}
	images, err := m.s.Images()
	if err != nil {
		return err
	}
	for _, d := range layers {
		m.layers[d] = &LayerUsage{DiffID: d}
	}
	if err := m.walk(ctx); err != nil {
		return err
	}
	// Twice: who needs an object must be known before anybody's own are.
	needs := map[oci.DiffID][]*objectUse{}
	for _, d := range layers {
		if err := ctx.Err(); err != nil {
			return err
		}
		if needs[d], err = m.layerNeeds(d); err != nil {
			return err
		}
	}
	for i := range images {
		m.eachOf(needs, images[i], func(o *objectUse) { o.images++ })
	}
	for _, d := range layers {
		m.usage.Layers = append(m.usage.Layers, m.layerUsage(d, needs[d], images))
	}
	for _, image := range images {
		m.usage.Images = append(m.usage.Images, m.imageUsage(image, needs))
	}
	for _, o := range m.objects {
		switch {
		case o.images == 0:
			m.usage.LooseObjects = m.usage.LooseObjects.plus(o.disk)
		case o.images > 1:
			m.usage.SharedObjects = m.usage.SharedObjects.plus(o.disk)
		}
	}
	return nil
}

// walk counts everything below the root.
func (m *measuring) walk(ctx context.Context) error {
	seen := inodes{}
	return filepath.WalkDir(m.s.root, func(path string, entry os.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && path == m.skip {
			return filepath.SkipDir
		}
		var disk Disk
		if err == nil {
			disk, err = seen.add(path)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil // another process's staging, or a container that is changing or being removed
		} else if err != nil {
			return err
		}
		m.usage.Total = m.usage.Total.plus(disk)
		rel, err := filepath.Rel(m.s.root, path)
		if err != nil {
			return err
		}
		kind := m.kind(strings.Split(rel, "/"), entry, disk)
		*kind = kind.plus(disk)
		return nil
	})
}

// kind tells which sum path, split into names, goes to.
func (m *measuring) kind(path []string, entry os.DirEntry, disk Disk) *Disk {
	switch path[0] {
	case objectsDir:
		m.foundObject(path, entry, disk)
		return &m.usage.Objects
	case layersDir:
		return m.layerKind(path, disk)
	case chainsDir:
		return &m.usage.Chains
	case imagesDir:
		return &m.usage.Documents
	case containersDir:
		return &m.usage.Containers
	case tmpDir:
		return &m.usage.Staging
	}
	return &m.usage.Other
}

func (m *measuring) foundObject(path []string, entry os.DirEntry, disk Disk) {
	if entry.IsDir() {
		m.usage.FanOut = m.usage.FanOut.plus(disk)
		return
	}
	var d tree.ObjectDigest
	if n, err := hex.Decode(d[:], []byte(strings.Join(path[1:], ""))); err != nil || n != len(d) {
		m.usage.LooseObjects = m.usage.LooseObjects.plus(disk) // gc removes it
		return
	}
	m.objects[d] = &objectUse{disk: disk}
}

// layerKind adds disk to the layer's own sum and tells which of the store's.
func (m *measuring) layerKind(path []string, disk Disk) *Disk {
	var layer LayerUsage // of a directory that has just come, or is no layer's
	if len(path) > 1 {
		if l := m.layers[oci.DiffID("sha256:"+path[1])]; l != nil {
			defer func() { *l = layer }()
			layer = *l
		}
	}
	name := path[len(path)-1]
	switch {
	case len(path) == 3 && (name == recipeFile || strings.HasPrefix(name, sourcePrefix)):
		layer.Recipe = layer.Recipe.plus(disk)
		return &m.usage.Recipes
	case len(path) == 3 && strings.HasPrefix(name, blobPrefix):
		layer.Blobs = layer.Blobs.plus(disk)
		return &m.usage.Blobs
	}
	layer.Tree = layer.Tree.plus(disk)
	return &m.usage.Trees
}

// layerNeeds lists the objects that a layer needs, each once.
func (m *measuring) layerNeeds(d oci.DiffID) ([]*objectUse, error) {
	var needs []*objectUse
	err := m.s.layerObjects(d, func(object tree.ObjectDigest, size int64) {
		o := m.objects[object]
		if o == nil { // missing, or come since; Verify tells which
			o = &objectUse{}
			m.objects[object] = o
		}
		if o.seenBy != d {
			o.seenBy, o.size = d, size
			o.layers++
			needs = append(needs, o)
		}
	})
	return needs, err
}

// eachOf calls f once with every object that an image needs.
func (m *measuring) eachOf(needs map[oci.DiffID][]*objectUse, image Image, f func(*objectUse)) {
	seen := map[*objectUse]bool{}
	for _, d := range image.Layers {
		for _, o := range needs[d] {
			if !seen[o] {
				seen[o] = true
				f(o)
			}
		}
	}
}

func (p *Part) add(o *objectUse, users int) {
	p.Objects++
	p.ObjectBytes += o.size
	if users > 1 {
		p.Shared = p.Shared.plus(o.disk)
	} else {
		p.Own = p.Own.plus(o.disk)
	}
}

func (m *measuring) layerUsage(d oci.DiffID, needs []*objectUse, images []Image) LayerUsage {
	u := m.layers[d]
	for _, o := range needs {
		u.add(o, o.layers)
	}
	for _, image := range images {
		if slices.Contains(image.Layers, d) {
			u.Images++
		}
	}
	if info, err := m.s.layerInfo(d); err == nil {
		u.Files, u.FileBytes = info.Files, info.Bytes
	}
	return *u
}

func (m *measuring) imageUsage(image Image, needs map[oci.DiffID][]*objectUse) ImageUsage {
	u := ImageUsage{Image: image}
	m.eachOf(needs, image, func(o *objectUse) { u.add(o, o.images) })
	for i, d := range image.Layers {
		l := m.layers[d]
		if l == nil {
			continue // missing; Verify says so
		}
		u.Files += l.Files
		u.FileBytes += l.FileBytes
		if !slices.Contains(image.Layers[:i], d) {
			u.Trees, u.Recipes, u.Blobs = u.Trees.plus(l.Tree), u.Recipes.plus(l.Recipe), u.Blobs.plus(l.Blobs)
		}
	}
	return u
}
