package layerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// version is the form of the store on disk.
//
//	1  objects one file each, tree files, tar recipes, sources
const version = 1

// Names directly below the root.
const (
	objectsDir    = "objects"
	layersDir     = "layers"
	chainsDir     = "chains"
	imagesDir     = "images"
	containersDir = "containers"
	tmpDir        = "tmp"
	versionFile   = "version"
	fsckFile      = "fsck.json" // only while a check is interrupted
)

// Options of a Store; the zero value is useful.
type Options struct {
	// Logger hears of what is repaired or cleaned in passing. May be nil.
	Logger *slog.Logger
}

// Store is an open store. All methods may be called at once from several
// goroutines and processes.
type Store struct {
	root    string
	log     *slog.Logger
	objects *os.File // the directory objects/
	reading *os.File // the same, through a mount that refuses writes if we may make one
	swept   int64    // see Swept; set by Open
}

// DefaultRoot is where a store lives when nobody says otherwise; empty if there is
// no home for it.
func DefaultRoot() string {
	if os.Geteuid() == 0 {
		return "/var/lib/strata"
	}
	data := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(data) { // relative ones are to be ignored, says the specification
		home := os.Getenv("HOME")
		if home == "" {
			return ""
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "strata")
}

// Open opens the store at root and makes one if there is nothing. What dead
// processes left in tmp/ is removed.
func Open(root string, o Options) (*Store, error) {
	if root == "" {
		return nil, errors.New("open store: no place is given for it, and HOME is not set")
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{root: root, log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := s.checkVersion(); errors.Is(err, fs.ErrNotExist) {
		err = s.create()
		if err != nil {
			return nil, fmt.Errorf("create store %s: %w", root, err)
		}
	} else if err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	if s.objects, err = os.Open(s.path(objectsDir)); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	fd, _, err := tree.OpenReadOnly(s.path(objectsDir))
	if err == nil {
		s.reading = os.NewFile(uintptr(fd), s.path(objectsDir))
		err = s.cleanStaging()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store: %w", err), s.Close())
	}
	return s, nil
}

func (s *Store) checkVersion() error {
	b, err := os.ReadFile(s.path(versionFile))
	if err != nil {
		return err
	}
	v, err := strconv.Atoi(strings.TrimSpace(string(b)))
	switch {
	case err != nil || v < 1:
		return fmt.Errorf("%s holds %.20q, not a version: not a store, or a damaged one; if it is one, remove %s and it is written again", versionFile, b, s.path(versionFile))
	case v > version:
		return fmt.Errorf("it has version %d, this program knows up to %d: use the newer program", v, version)
	}
	return nil
}

// create makes the directories and, last, the version file. Several processes
// may do so at once, or one after another has died in the midst of it.
func (s *Store) create() error {
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return err
	}
	dirs := []string{objectsDir, layersDir, chainsDir, imagesDir, containersDir, tmpDir}
	names, err := os.ReadDir(s.root)
	if err != nil {
		return err
	}
	for _, n := range names {
		ours := slices.Contains(dirs, n.Name()) || n.Name() == versionFile || n.Name() == fsckFile || strings.HasPrefix(n.Name(), "."+versionFile)
		if !ours && n.Name() != "lost+found" { // the root of a filesystem will do
			return fmt.Errorf("it holds %s, has no file %s and so is no store: choose an empty directory", n.Name(), versionFile)
		}
	}
	// Objects are anybody's files, /etc/shadow among them.
	if err := os.Chmod(s.root, 0o700); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := os.Mkdir(s.path(dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := s.createLayout(); err != nil {
		return err
	}
	if err := syncPath(s.root); err != nil {
		return err
	}
	if err := renameio.WriteFile(s.path(versionFile), fmt.Appendln(nil, version), 0o600); err != nil {
		return err
	}
	return syncPath(s.root)
}

// Close gives the Store's descriptors back. Holds, layers and chains that are
// still open stay usable as far as they need no further object.
func (s *Store) Close() error {
	if s.reading != nil {
		s.reading.Close()
	}
	return s.objects.Close()
}

// Root is the absolute path of the store's directory.
func (s *Store) Root() string { return s.root }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

func (s *Store) layerPath(d oci.DiffID, elem ...string) string {
	return filepath.Join(append([]string{s.root, layersDir, d.Hex()}, elem...)...)
}

func (s *Store) chainPath(c oci.ChainID, elem ...string) string {
	return filepath.Join(append([]string{s.root, chainsDir, c.Hex()}, elem...)...)
}

func syncPath(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return &fs.PathError{Op: "fsync", Path: path, Err: err}
	}
	return nil
}
