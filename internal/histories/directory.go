package histories

import "fmt"

// Directory is a world that is a directory of the host, with one process, which is
// this one. The zero value is in none.
type Directory struct {
	Process
	path string
}

// Enter makes a directory the world.
func (d *Directory) Enter(dir string) error {
	if err := d.open(dir); err != nil {
		return fmt.Errorf("enter %s: %w", dir, err)
	}
	d.path = dir
	return nil
}

func (d *Directory) End() error {
	d.CloseFiles()
	return nil
}

func (d *Directory) Tree() (Tree, error) { return ReadTree(d.path) }

func (d *Directory) Where(s Step) uint64 { return d.stat(s).Ino }

// Leave lets the directory go, so that it can be unmounted.
func (d *Directory) Leave() error {
	if d.path == "" {
		return nil
	}
	d.path = ""
	return d.close()
}
