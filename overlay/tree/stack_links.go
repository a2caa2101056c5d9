package tree

import (
	"cmp"
	"errors"
	"slices"
	"syscall"
)

// linksUnknown is what a Tree has that cannot always tell cheaply which names
// an inode has.
type linksUnknown interface {
	// LinksKnown tells whether Names is answered from memory.
	LinksKnown() bool
}

func linksKnown(t Tree) bool {
	l, ok := t.(linksUnknown)
	return !ok || l.LinksKnown()
}

// LinksKnown tells whether Names and Nlink count all visible names without
// reading a host directory tree as a whole.
func (s *Stacked) LinksKnown() bool {
	for _, l := range s.layers {
		if !linksKnown(l) {
			return false
		}
	}
	return true
}

// visibleNames returns those names of id, an inode with hard links in its
// layer, that no other layer hides.
func (s *Stacked) visibleNames(id ID, in stackInode) ([]Name, error) {
	s.mu.RLock()
	names, ok := s.names[id]
	s.mu.RUnlock()
	if ok {
		return names, nil
	}
	all, err := s.layers[in.part.layer].Names(in.part.id)
	if err != nil {
		return nil, err
	}
	for _, n := range all {
		d, err := s.place(in.part.layer, n.Dir)
		if errors.Is(err, syscall.ENOENT) {
			continue
		}
		if err != nil {
			return nil, err
		}
		entries, err := s.merge(d)
		if err != nil {
			return nil, err
		}
		if i, ok := findEntry(entries, n.Name); ok && ID(entries[i].id) == id {
			names = append(names, Name{Dir: d.id, Name: entries[i].name})
		}
	}
	// A directory may be merged in two places, where somebody copied an upper.
	if own, err := s.nameAt(in); err != nil {
		return nil, err
	} else if !slices.Contains(names, own) {
		names = append(names, own)
	}
	slices.SortFunc(names, func(a, b Name) int {
		if c := cmp.Compare(a.Dir, b.Dir); c != 0 {
			return c
		}
		return cmp.Compare(a.Name, b.Name)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[id] = names
	return names, nil
}

// place returns the directory into which directory dir of a layer is merged,
// ENOENT if it is hidden.
func (s *Stacked) place(layer uint32, dir ID) (*stackDir, error) {
	d, err := s.locate(layer, dir)
	if !errors.Is(err, syscall.ENOENT) || !s.mayMove(layer) {
		return d, err
	}
	id, ok := s.allPlaces()[stackPart{layer, dir}]
	if !ok {
		return nil, syscall.ENOENT
	}
	return s.dir(id)
}

// mayMove tells whether redirects of the layers above can move a directory of
// this one.
func (s *Stacked) mayMove(layer uint32) bool {
	return slices.ContainsFunc(s.layers[layer+1:], func(t Tree) bool { return redirects(t) != nil })
}

// allPlaces tells for each directory of each layer into which directory it is
// merged. Redirects say where something comes from, not where it went, so this
// takes merging all that there is, once. What cannot be merged shows no names.
func (s *Stacked) allPlaces() map[stackPart]ID {
	s.placesMu.Lock()
	defer s.placesMu.Unlock()
	if s.places != nil {
		return s.places
	}
	places := make(map[stackPart]ID)
	for todo := []ID{Root}; len(todo) > 0; {
		d, err := s.dir(todo[len(todo)-1])
		todo = todo[:len(todo)-1]
		if err != nil {
			continue
		}
		entries, err := s.merge(d)
		if err != nil {
			continue
		}
		seen := false
		for _, p := range d.parts {
			_, known := places[p]
			seen = seen || known
			places[p] = d.id
		}
		if seen { // damaged: directories that hold each other, or are in two places
			continue
		}
		for _, e := range entries {
			if e.typ == ModeDir {
				todo = append(todo, ID(e.id))
			}
		}
	}
	s.places = places
	return places
}

// locate is place where no redirect has moved the directory.
func (s *Stacked) locate(layer uint32, dir ID) (*stackDir, error) {
	l := s.layers[layer]
	var up []Name // from dir to the root; Dir is the layer's directory itself
	for at := dir; at != Root; {
		names, err := l.Names(at)
		if err != nil {
			return nil, err
		}
		if len(names) == 0 || len(up) > MaxDepth { // damaged: directories that hold each other
			return nil, errTooDeep
		}
		up = append(up, Name{Dir: at, Name: names[0].Name})
		at = names[0].Dir
	}
	d, err := s.dir(Root)
	if err != nil {
		return nil, err
	}
	part := stackPart{layer, Root}
	for i := len(up); ; i-- {
		if err := s.resolve(d); err != nil {
			return nil, err
		}
		if !slices.Contains(d.parts, part) {
			return nil, syscall.ENOENT
		}
		if i == 0 {
			return d, nil
		}
		part.id = up[i-1].Dir
		e, err := s.Lookup(d.id, up[i-1].Name)
		if err != nil {
			return nil, err
		}
		if d, err = s.dir(e.ID); err != nil {
			return nil, syscall.ENOENT // something else hides the directory
		}
	}
}
