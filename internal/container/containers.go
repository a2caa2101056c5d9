package container

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"strata/layerstore"
)

// Containers are the containers of one store.
type Containers struct {
	store *layerstore.Store
	dir   string // containers/ of the store
	run   runDir
	log   *slog.Logger
}

// Options say where the containers' run state is and who is told.
type Options struct {
	// RunBase is where run state lives. Empty means /run/strata for root and
	// $XDG_RUNTIME_DIR/strata for others.
	RunBase string

	// Logger may be nil.
	Logger *slog.Logger
}

// Open gives access to the containers of a store, which must stay open as long
// as they are used.
func Open(store *layerstore.Store, o Options) (*Containers, error) {
	base, err := runBase(o.RunBase)
	if err != nil {
		return nil, fmt.Errorf("open the containers of %s: %w", store.Root(), err)
	}
	root, err := filepath.Abs(store.Root())
	if err != nil {
		return nil, fmt.Errorf("open the containers of %s: %w", store.Root(), err)
	}
	// A store reached by two names is one store.
	if real, err := filepath.EvalSymlinks(root); err == nil {
		root = real
	}
	c := &Containers{
		store: store,
		dir:   filepath.Join(root, "containers"),
		run:   runDir(filepath.Join(base, hashName(root))),
		log:   o.Logger,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return nil, err
	}
	return c, nil
}

// Container is one container.
type Container struct {
	Config
	all *Containers
	dir string
}

// UpperDir is the directory that holds what the container has written, and WorkDir
// the scratch beside it.
func (ct *Container) UpperDir() string { return ct.numbered(upperName) }
func (ct *Container) WorkDir() string  { return ct.numbered(workName) }

// Names in a container's directory; the first ones have no number.
const (
	upperName = "upper"
	workName  = "work"
)

func (ct *Container) numbered(name string) string {
	return filepath.Join(ct.dir, numbered(name, ct.Upper))
}

func numbered(name string, n int) string {
	if n > 0 {
		name += "." + strconv.Itoa(n)
	}
	return name
}

// String is the container's name.
func (ct *Container) String() string { return ct.Name }

// List returns all containers, the newest first.
func (c *Containers) List() ([]*Container, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var list []*Container
	for _, e := range entries {
		if !isID(e.Name()) {
			continue
		}
		dir := filepath.Join(c.dir, e.Name())
		config, err := readConfig(dir)
		if errors.Is(err, errNoContainer) {
			continue // being made or being removed
		}
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		list = append(list, &Container{Config: config, all: c, dir: dir})
	}
	slices.SortFunc(list, func(a, b *Container) int {
		if n := b.Created.Compare(a.Created); n != 0 {
			return n
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return list, nil
}

// NotFoundError is returned when a name names no container.
type NotFoundError struct {
	Name string
}

func (e *NotFoundError) Error() string {
	return fmt.Sprintf("no container is called %q", e.Name)
}

// Find returns the container with that id, name, or beginning of an id; a name
// goes before a beginning.
func (c *Containers) Find(name string) (*Container, error) {
	list, err := c.List()
	if err != nil {
		return nil, err
	}
	var begins []*Container
	for _, ct := range list {
		if string(ct.ID) == name || ct.Name == name {
			return ct, nil
		}
		if name != "" && strings.HasPrefix(string(ct.ID), name) {
			begins = append(begins, ct)
		}
	}
	switch len(begins) {
	case 0:
		return nil, &NotFoundError{Name: name}
	case 1:
		return begins[0], nil
	}
	return nil, fmt.Errorf("%q is the beginning of %d ids: %s and %s are two of them; give more digits",
		name, len(begins), begins[0].ID.Short(), begins[1].ID.Short())
}
