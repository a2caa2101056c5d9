package histories

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// objectDir keeps contents in files called by their digest.
type objectDir string

// digested is a tree whose contents go to a directory of objects as they are asked for.
type digested struct {
	tree.Tree
	objects objectDir
}

func (d digested) Content(id tree.ID) (tree.Content, error) {
	f, err := d.Open(id)
	if err != nil {
		return tree.Content{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		return tree.Content{}, err
	}
	c := tree.Content{Known: true, Digest: sha256.Sum256(data), Size: int64(len(data))}
	return c, os.WriteFile(filepath.Join(string(d.objects), c.Digest.String()), data, 0o644)
}

// WriteTreeFile writes the stacked layers, base first, as top/tree and top/objects, as
// an image is kept.
func WriteTreeFile(top string, layers ...string) error {
	var trees []tree.Tree
	for _, dir := range layers {
		h, err := tree.OpenHostDir(dir, tree.HostDirOptions{})
		if err != nil {
			return err
		}
		defer h.Close()
		trees = append(trees, h)
	}
	objects := objectDir(filepath.Join(top, "objects"))
	if err := os.Mkdir(string(objects), 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(top, "tree"))
	if err != nil {
		return err
	}
	return errors.Join(tree.Write(f, digested{tree.Stack(trees...), objects}), f.Close())
}

// TreeFile is a lower that WriteTreeFile wrote.
type TreeFile struct {
	*tree.File
	mount int
}

// OpenTreeFile opens it, the objects through a mount that refuses writes where one can
// be had, as the store does.
func OpenTreeFile(top string) (*TreeFile, error) {
	t := &TreeFile{mount: -1}
	dir := filepath.Join(top, "objects")
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	} else {
		fd, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	t.mount = fd
	if err == nil {
		t.File, err = tree.OpenFile(filepath.Join(top, "tree"), t)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return t, nil
}

// OpenObject is for the tree.
func (t *TreeFile) OpenObject(d tree.ObjectDigest) (*os.File, error) {
	fd, err := unix.Openat(t.mount, d.String(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.String(), Err: err}
	}
	return os.NewFile(uintptr(fd), d.String()), nil
}

// Close lets the files go.
func (t *TreeFile) Close() error { return errors.Join(t.File.Close(), unix.Close(t.mount)) }
