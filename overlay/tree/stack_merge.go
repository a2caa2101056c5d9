package tree

import (
	"cmp"
	"fmt"
	"slices"
)

// resolve decides which parts are merged and whose attributes show.
func (s *Stacked) resolve(d *stackDir) error {
	if d.resolved.Load() {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return s.resolveLocked(d)
}

// resolveLocked is resolve for one who holds d.mu.
func (s *Stacked) resolveLocked(d *stackDir) error {
	if d.resolved.Load() {
		return nil
	}
	merged := len(d.parts)
	for i, p := range d.parts {
		redirect, err := s.redirect(p)
		if err != nil {
			return err
		}
		if i < len(d.parts)-1 || redirect != "" {
			opaque, err := s.layers[p.layer].Opaque(p.id)
			if err != nil {
				return fmt.Errorf("layer %d: is a directory opaque: %w", p.layer, err)
			}
			if opaque {
				merged = i + 1
				break
			}
		}
		if redirect != "" {
			moved, err := s.followDir(d, p, redirect)
			if err != nil {
				return err
			}
			d.parts = slices.Concat(d.parts[:i+1], moved)
			merged = len(d.parts)
			break
		}
	}
	source := d.parts[0]
	if len(d.parts) > 1 {
		// The parts below an opaque one are asked last: implicit means that a
		// layer has nothing to say about the attributes, opaque or not.
		for _, p := range d.parts {
			a, err := s.layers[p.layer].Attr(p.id)
			if err != nil {
				return fmt.Errorf("layer %d: attributes of a directory: %w", p.layer, err)
			}
			if !a.Implicit {
				source = p
				break
			}
		}
	}
	d.source = source
	d.parts = slices.Clip(d.parts[:merged])
	d.resolved.Store(true)
	return nil
}

// layerEntry is an entry of a layer in a directory that is being merged.
type layerEntry struct {
	Entry
	rank  int // index in parts: 0 is the topmost
	layer uint32
}

// merge returns the entries of d, sorted by name.
func (s *Stacked) merge(d *stackDir) ([]stackEntry, error) {
	if entries := d.entries.Load(); entries != nil {
		return *entries, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if entries := d.entries.Load(); entries != nil {
		return *entries, nil
	}
	if err := s.resolveLocked(d); err != nil {
		return nil, err
	}
	var all []layerEntry
	for rank, p := range d.parts {
		var err error
		if all, err = s.readLayer(all, rank, p); err != nil {
			return nil, fmt.Errorf("layer %d: read directory: %w", p.layer, err)
		}
	}
	if len(d.parts) > 1 {
		slices.SortFunc(all, func(a, b layerEntry) int {
			if c := cmp.Compare(a.Name, b.Name); c != 0 {
				return c
			}
			return cmp.Compare(a.rank, b.rank)
		})
	}
	entries := s.settle(d, all)
	d.entries.Store(&entries)
	return entries, nil
}

func (s *Stacked) readLayer(all []layerEntry, rank int, p stackPart) ([]layerEntry, error) {
	var buf [128]Entry
	for from := 0; ; {
		n, err := s.layers[p.layer].ReadDir(p.id, from, buf[:])
		if err != nil {
			return nil, err
		}
		all = slices.Grow(all, n)
		for _, e := range buf[:n] {
			all = append(all, layerEntry{e, rank, p.layer})
		}
		if n < len(buf) {
			return all, nil
		}
		from += n
	}
}

// found is a name that is visible, before its inode has an ID.
type found struct {
	name     string
	typ      uint32
	parts    []stackPart // several only for directories
	hasLinks bool
}

// settle takes everything that the parts of d say, sorted by name and then
// topmost first, and returns what is visible, with IDs.
func (s *Stacked) settle(d *stackDir, all []layerEntry) []stackEntry {
	var visible []found
	parts := make([]stackPart, 0, len(all)) // one array for all of them
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Name == all[0].Name {
			n++
		}
		group := all[:n]
		all = all[n:]
		top := group[0]
		if top.Whiteout {
			continue
		}
		first := len(parts)
		for _, e := range group {
			if e.Whiteout || e.Type != top.Type {
				break
			}
			parts = append(parts, stackPart{e.layer, e.ID})
			if top.Type != ModeDir {
				break
			}
		}
		f := found{name: top.Name, typ: top.Type, parts: parts[first:len(parts):len(parts)]}
		if top.Type != ModeDir {
			// An error here shows again, and to the right one, in Attr.
			a, err := s.layers[top.layer].Attr(top.ID)
			f.hasLinks = err == nil && a.Nlink > 1
		}
		visible = append(visible, f)
	}
	return s.allot(d, visible)
}

// allot gives IDs to the inodes of d's names.
func (s *Stacked) allot(d *stackDir, visible []found) []stackEntry {
	entries := make([]stackEntry, 0, len(visible))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range visible {
		in := stackInode{parent: uint32(d.id), at: uint32(len(entries)), hasLinks: f.hasLinks}
		id := ID(len(s.inodes))
		known := false
		switch {
		case f.typ == ModeDir:
			d.subdirs++
			in.dir = &stackDir{id: id, parts: slices.Clone(f.parts)}
		case f.hasLinks:
			in.part = f.parts[0]
			var old ID
			if old, known = s.linked[in.part]; known {
				id = old
			} else {
				s.linked[in.part] = id
			}
		default:
			in.part = f.parts[0]
		}
		if !known {
			s.inodes = append(s.inodes, in)
		}
		entries = append(entries, stackEntry{name: f.name, id: uint32(id), typ: f.typ})
	}
	return entries
}
