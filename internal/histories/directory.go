package histories

import "errors"

// Directory is a world that is a directory of the host, with one process, which is
// this one.
type Directory struct {
	*Process
	path string
}

// OpenDirectory makes a directory a world.
func OpenDirectory(path string) (*Directory, error) {
	p, err := Open(path)
	if err != nil {
		return nil, err
	}
	return &Directory{p, path}, nil
}

func (d *Directory) End() error {
	d.CloseFiles()
	return nil
}

func (d *Directory) Tree() (Tree, error) { return ReadTree(d.path) }

func (d *Directory) Where(s Step) uint64 { return d.inode(s) }

// Leave lets the directory go, so that it can be unmounted.
func (d *Directory) Leave() error { return errors.Join(d.End(), d.Close()) }
