package main

import (
	"errors"
	"fmt"

	"strata/internal/container"
	"strata/internal/oci"
	"strata/layerstore"
	"strata/overlay/tree"
)

// subject is what can be looked into by name: an image, or a container, which
// has an upper on top.
type subject struct {
	title     string
	layers    []oci.DiffID         // base first
	container *container.Container // nil for an image
}

// findSubject looks for a container first, then for an image.
func (p *program) findSubject(name string) (subject, error) {
	containers, err := p.openContainers()
	if err != nil {
		return subject{}, err
	}
	ct, err := containers.Find(name)
	if err == nil {
		return subject{title: "container " + ct.Name, layers: ct.Layers, container: ct}, nil
	}
	if notFound := (*container.NotFoundError)(nil); !errors.As(err, &notFound) {
		return subject{}, err
	}
	name = p.imageName(name)
	img, err := p.store.Image(name)
	if err != nil {
		return subject{}, err
	}
	return subject{title: shownName(img, name), layers: img.Layers}, nil
}

// findImage finds an image by what the user calls it.
func (p *program) findImage(name string) (*layerstore.Store, layerstore.Image, error) {
	store, err := p.openStore()
	if err != nil {
		return nil, layerstore.Image{}, err
	}
	img, err := store.Image(p.imageName(name))
	return store, img, err
}

// openLayers are open layers as trees, base first.
type openLayers struct {
	trees []tree.Tree
	close []func() error
}

func (o *openLayers) Close() error {
	var errs []error
	for _, c := range o.close {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// open opens all layers of the subject; with upper, a container's upper is the
// last one.
func (s *subject) open(store *layerstore.Store, upper bool) (*openLayers, error) {
	o := &openLayers{}
	for i, id := range s.layers {
		l, err := store.Layer(id)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: layer %d: %w", s.title, i, err), o.Close())
		}
		o.trees = append(o.trees, l.Tree())
		o.close = append(o.close, l.Close)
	}
	if upper && s.container != nil {
		u, err := s.container.OpenUpper()
		if err != nil {
			return nil, errors.Join(err, o.Close())
		}
		o.trees = append(o.trees, u)
		o.close = append(o.close, u.Close)
	}
	return o, nil
}
