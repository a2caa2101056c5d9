package layerstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"strata/internal/oci"
)

// container is what the store reads of containers/<id>/config.json: what the
// container holds. The rest of that file is the business of who writes it.
type container struct {
	id     string
	Image  oci.Digest   `json:"image"`  // the ID of the image it was made from; may be empty
	Layers []oci.DiffID `json:"layers"` // base first
}

// containers lists all containers. A directory without a config.json is none.
func (s *Store) containers() ([]container, error) {
	names, err := os.ReadDir(s.path(containersDir))
	if err != nil {
		return nil, err
	}
	var containers []container
	for _, n := range names {
		path := s.path(containersDir, n.Name(), "config.json")
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		c := container{id: n.Name()}
		if err := json.Unmarshal(b, &c); err != nil {
			return nil, fmt.Errorf("container %s: %w", path, err)
		}
		for _, d := range c.Layers {
			if _, err := oci.ParseDiffID(string(d)); err != nil {
				return nil, fmt.Errorf("container %s: layers: %w", path, err)
			}
		}
		containers = append(containers, c)
	}
	return containers, nil
}
