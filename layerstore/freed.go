package layerstore

import (
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FreedBy is what removing path with all below it gives back to the
// filesystem: the blocks of each inode whose last name goes. What has a name
// elsewhere stays. Blocks that a file shares with another (FICLONE) count as its
// own, as they do for du: no call tells whose they are.
func FreedBy(path string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	names := map[inode]uint64{}
	var sum int64
	err := filepath.WalkDir(path, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return &fs.PathError{Op: "lstat", Path: path, Err: err}
		}
		if !e.IsDir() && st.Nlink > 1 {
			id := inode{uint64(st.Dev), st.Ino}
			if names[id]++; names[id] < uint64(st.Nlink) {
				return nil
			}
		}
		sum += st.Blocks * 512
		return nil
	})
	return sum, err
}

// standing is what those parts of the store take that gc changes and never
// removes: directories may shrink, and so does the index.
func (s *Store) standing() int64 {
	var sum int64
	for _, path := range []string{
		s.path(objectsDir), s.path(layersDir), s.path(chainsDir), s.path(tmpDir),
		s.path(imagesDir), s.path(imagesDir, blobsDir), s.path(imagesDir, indexFile),
	} {
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			sum += st.Blocks * 512
		}
	}
	return sum
}
