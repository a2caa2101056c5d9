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
		d, err := s.locate(in.part.layer, n.Dir)
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
	// A redirect may have moved a directory to where locate does not look.
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

// locate returns the directory into which directory dir of a layer is merged,
// ENOENT if it is hidden.
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
