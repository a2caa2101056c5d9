package layerstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"strata/internal/oci"
)

// container is what the store reads of containers/<id>/config.json: what the
// container holds. The rest of that file is the business of who writes it.
type container struct {
	id     string
	Name   string       `json:"name"`   // for people to read; may be empty
	Image  oci.Digest   `json:"image"`  // the ID of the image it was made from; may be empty
	Layers []oci.DiffID `json:"layers"` // base first

	// Snapshots are what it can go back to.
	Snapshots []struct {
		Layers []oci.DiffID `json:"layers"` // base first
	} `json:"snapshots"`
}

// held lists the stacks of layers that the container holds.
func (c *container) held() [][]oci.DiffID {
	stacks := [][]oci.DiffID{c.Layers}
	for _, s := range c.Snapshots {
		stacks = append(stacks, s.Layers)
	}
	return stacks
}

// containers lists all containers. A directory without a config.json is none.
func (s *Store) containers() ([]container, error) {
	containers, bad, err := s.findContainers()
	if err == nil && len(bad) > 0 {
		err = bad[0]
	}
	return containers, err
}

// findContainers is containers that tells apart what is wrong with single ones.
func (s *Store) findContainers() (containers []container, bad []error, err error) {
	names, err := os.ReadDir(s.path(containersDir))
	if err != nil {
		return nil, nil, err
	}
	for _, n := range names {
		c, err := s.readContainer(n.Name())
		switch {
		case err == nil:
			containers = append(containers, c)
		case !errors.Is(err, fs.ErrNotExist):
			bad = append(bad, err)
		}
	}
	return containers, bad, nil
}

func (s *Store) readContainer(id string) (container, error) {
	path := s.path(containersDir, id, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return container{}, err
	}
	c := container{id: id}
	if err := json.Unmarshal(b, &c); err != nil {
		return container{}, fmt.Errorf("container %s: %w", path, err)
	}
	for _, d := range slices.Concat(c.held()...) {
		if _, err := oci.ParseDiffID(string(d)); err != nil {
			return container{}, fmt.Errorf("container %s: layers: %w", path, err)
		}
	}
	return c, nil
}

// label is how people call the container.
func (c *container) label() string {
	if c.Name != "" {
		return c.Name
	}
	return c.id[:min(12, len(c.id))]
}
