package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"strata/internal/container"
)

// Data is a tree that contenders are asked to show. It is made once in a run and
// never changed.
type Data struct {
	Name   string
	Lower  container.LowerDirs // topmost first
	Merged string              // the same tree in one plain directory
	Image  *StoredImage        // nil if it did not come from an image

	All, Dirs, Files, Links []string // names, relative to the tree, in the order of a walk
	Small                   []string // files of 1 byte to 4 KiB
	Bytes                   int64    // of all files
}

// Sizes say how much there is of everything.
type Sizes struct {
	Names     int   `json:"names"`     // in the tree that is shaped like a distribution
	Layered   int   `json:"layered"`   // files in the trees of 1, 20 and 60 layers
	Many      int   `json:"many"`      // small files in the tree that is copied up, removed and renamed
	Tracked   int   `json:"tracked"`   // files in the git repository
	Packages  int   `json:"packages"`  // of the Go module
	Batch     int   `json:"batch"`     // operations in one pass of create and its like
	FileBytes int64 `json:"fileBytes"` // of the file that is read and written
	BigBytes  int64 `json:"bigBytes"`  // of the file of which only a little is changed
}

// FullSizes are those that the targets were set for.
func FullSizes() Sizes {
	return Sizes{Names: 30_000, Layered: 2400, Many: 10_000, Tracked: 3000, Packages: 12, Batch: 1000, FileBytes: 256 << 20, BigBytes: 1 << 30}
}

// QuickSizes are for a first look.
func QuickSizes() Sizes {
	return Sizes{Names: 4000, Layered: 1200, Many: 2000, Tracked: 500, Packages: 4, Batch: 500, FileBytes: 32 << 20, BigBytes: 64 << 20}
}

// dataSets makes each tree when it is first asked for.
type dataSets struct {
	dir   string
	sizes Sizes
	image *StoredImage // shown instead of the tree that is made up
	made  map[string]*Data
}

// get returns the data set with that name.
func (d *dataSets) get(ctx context.Context, name string) (*Data, error) {
	if data := d.made[name]; data != nil {
		return data, nil
	}
	data, err := d.make(ctx, name)
	if err == nil {
		err = data.list()
	}
	if err != nil {
		return nil, fmt.Errorf("make the data set %s: %w", name, err)
	}
	d.made[name] = data
	return data, nil
}

// The data sets, by name.
const (
	dataTree     = "tree"      // shaped like a distribution
	dataLayers1  = "layers-1"  // every directory in every layer, and the same tree whatever
	dataLayers20 = "layers-20" //   the number of layers
	dataLayers60 = "layers-60"
	dataMany     = "many"   // many small files in directories of 100
	dataFile     = "file"   // one file to read and write
	dataBig      = "big"    // one file too big to be copied for nothing
	dataRepo     = "repo"   // a git repository with its working tree
	dataModule   = "module" // a Go module, and the build cache for all but itself
	dataEmpty    = "empty"  // a directory to write into
)

func (d *dataSets) make(ctx context.Context, name string) (*Data, error) {
	dir := filepath.Join(d.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	if name == dataTree && d.image != nil {
		return imageData(ctx, *d.image, dir)
	}
	merged := filepath.Join(dir, "0")
	data := &Data{Name: name, Lower: container.LowerDirs{merged}, Merged: merged}
	m := newMaker(ctx, merged)
	switch name {
	case dataTree:
		m.distribution(d.sizes.Names)
	case dataLayers1:
		m.layers(d.sizes.Layered, 0, 1)
	case dataLayers20:
		data.Lower = m.spread(dir, d.sizes.Layered, 20)
	case dataLayers60:
		data.Lower = m.spread(dir, d.sizes.Layered, 60)
	case dataMany:
		m.many("tree", d.sizes.Many)
	case dataFile:
		m.file("file", d.sizes.FileBytes)
	case dataBig:
		m.file("big", d.sizes.BigBytes)
	case dataRepo:
		m.repository(d.sizes.Tracked)
	case dataModule:
		m.goModule(d.sizes.Packages)
	case dataEmpty:
		m.file("there", 1)
	default:
		panic("internal error: no data set is called " + name)
	}
	return data, m.finish()
}

// list notes what there is.
func (d *Data) list() error {
	const small = 4 << 10
	return filepath.WalkDir(d.Merged, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == d.Merged {
			return err
		}
		name, err := filepath.Rel(d.Merged, path)
		if err != nil {
			return err
		}
		d.All = append(d.All, name)
		switch e.Type() {
		case fs.ModeDir:
			d.Dirs = append(d.Dirs, name)
		case fs.ModeSymlink:
			d.Links = append(d.Links, name)
		case 0:
			info, err := e.Info()
			if err != nil {
				return err
			}
			d.Files = append(d.Files, name)
			d.Bytes += info.Size()
			if info.Size() > 0 && info.Size() <= small {
				d.Small = append(d.Small, name)
			}
		}
		return nil
	})
}

// longAgo is the mtime of all that is made up, so that programs that compare
// times, as git does, take it for settled.
var longAgo = time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)

// settle gives everything below dir that time.
func settle(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			dirs = append(dirs, path)
		case e.Type().IsRegular():
			return os.Chtimes(path, longAgo, longAgo)
		}
		return nil
	})
	for _, path := range dirs {
		err = errors.Join(err, os.Chtimes(path, longAgo, longAgo))
	}
	return err
}
