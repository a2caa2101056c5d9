package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
)

// redirecting is what a layer has that the kernel's overlayfs wrote with
// redirect_dir or metacopy: its directories may be continued under another
// name in the layers below, and the data of its files may be there.
type redirecting interface {
	Redirect(id ID) (string, error)
	Metacopy(id ID) (bool, error)
}

func redirects(t Tree) redirecting {
	r, _ := t.(redirecting)
	return r
}

// redirect returns where the layers below have what p is; "" is the same
// place. Below the lowest layer there is no other place.
func (s *Stacked) redirect(p stackPart) (string, error) {
	r := redirects(s.layers[p.layer])
	if r == nil || p.layer == 0 {
		return "", nil
	}
	to, err := r.Redirect(p.id)
	if err != nil {
		return "", fmt.Errorf("layer %d: redirect: %w", p.layer, err)
	}
	return to, nil
}

// descent looks for one thing in layer after layer, from the top to the base,
// while redirects change where.
type descent struct {
	s     *Stacked
	bases []stackPart // the directories in which names[0] is looked up, topmost first
	names []string    // a path from there
	below uint32      // only layers below this one count from now on
}

// newDescent starts below part p of something called name in directory parent.
func (s *Stacked) newDescent(parent *stackDir, name string, p stackPart, redirect string) (*descent, error) {
	if err := s.resolve(parent); err != nil {
		return nil, err
	}
	d := &descent{s: s, bases: parent.parts, names: []string{name}, below: p.layer}
	_, err := d.turn(0, p.layer, redirect)
	return d, err
}

// turn obeys a redirect found at names[i] in a layer, and returns the new index
// of the same component.
func (d *descent) turn(i int, layer uint32, redirect string) (int, error) {
	switch {
	case redirect == "":
	case redirect[0] == '/':
		root, err := d.s.dir(Root)
		if err != nil {
			return 0, err
		}
		if err := d.s.resolve(root); err != nil {
			return 0, err
		}
		// That a directory on the way here is opaque says nothing about the
		// way that is taken from here.
		d.bases, d.below = root.parts, layer
		to := strings.Split(redirect[1:], "/")
		d.names = append(to, d.names[i+1:]...)
		return len(to) - 1, nil
	default:
		d.names = slices.Clone(d.names)
		d.names[i] = redirect
	}
	return i, nil
}

// next goes down to the next layer that has something at the path. The entry
// is a whiteout when there is nothing in any.
func (d *descent) next() (stackPart, Entry, error) {
	for {
		i := slices.IndexFunc(d.bases, func(p stackPart) bool { return p.layer < d.below })
		if i < 0 {
			return stackPart{}, Entry{Whiteout: true}, nil
		}
		base := d.bases[i]
		d.below = base.layer
		e, err := d.in(base)
		if errors.Is(err, syscall.ENOENT) {
			continue
		}
		return stackPart{base.layer, e.ID}, e, err
	}
}

// in looks for the path in one layer, and turns for the ones below.
func (d *descent) in(base stackPart) (Entry, error) {
	layer := d.s.layers[base.layer]
	e := Entry{ID: base.id, Type: ModeDir}
	names, shift := d.names, 0
	for i, name := range names {
		var err error
		if e, err = layer.Lookup(e.ID, name); err != nil {
			return e, err
		}
		if i < len(names)-1 && e.Type != ModeDir {
			return Entry{Whiteout: true}, nil // it hides what is below, too
		}
		if e.Whiteout {
			return e, nil
		}
		if e.Type == ModeDir {
			opaque, err := layer.Opaque(e.ID)
			if err != nil {
				return e, err
			}
			if opaque {
				d.below = 0
				continue // it is not continued elsewhere either
			}
		}
		redirect, err := d.s.redirect(stackPart{base.layer, e.ID})
		if err != nil {
			return e, err
		}
		at, err := d.turn(i+shift, base.layer, redirect)
		if err != nil {
			return e, err
		}
		shift = at - i
	}
	return e, nil
}

// followDir returns the parts of d below p, which says that they are elsewhere.
func (s *Stacked) followDir(dir *stackDir, p stackPart, redirect string) ([]stackPart, error) {
	in, err := s.inode(dir.id)
	if err != nil {
		return nil, err
	}
	parent, err := s.dir(ID(in.parent))
	if err != nil {
		return nil, err
	}
	d, err := s.newDescent(parent, "", p, redirect)
	if err != nil {
		return nil, err
	}
	var parts []stackPart
	for {
		p, e, err := d.next()
		if err != nil {
			return nil, fmt.Errorf("follow the redirect to %q: %w", redirect, err)
		}
		if e.Type != ModeDir {
			return parts, nil
		}
		parts = append(parts, p)
	}
}

// data returns the part that has the data of regular file id.
func (s *Stacked) data(id ID) (stackPart, error) {
	in, err := s.inode(id)
	if err != nil {
		return stackPart{}, err
	}
	if in.dir != nil {
		return stackPart{}, syscall.EINVAL
	}
	return s.dataOf(in)
}

// dataOf is data for one who has the inode.
func (s *Stacked) dataOf(in stackInode) (stackPart, error) {
	metacopy, err := s.metacopy(in.part)
	if err != nil || !metacopy {
		return in.part, err
	}
	name, err := s.nameAt(in)
	if err != nil {
		return stackPart{}, err
	}
	parent, err := s.dir(name.Dir)
	if err != nil {
		return stackPart{}, err
	}
	redirect, err := s.redirect(in.part)
	if err != nil {
		return stackPart{}, err
	}
	d, err := s.newDescent(parent, name.Name, in.part, redirect)
	if err != nil {
		return stackPart{}, err
	}
	for {
		p, e, err := d.next()
		if err == nil && e.Type != ModeRegular {
			err = fmt.Errorf("no layer below layer %d has the data: %w", in.part.layer, syscall.EIO)
		}
		if err != nil {
			return stackPart{}, fmt.Errorf("data of %q: %w", name.Name, err)
		}
		if metacopy, err = s.metacopy(p); err != nil || !metacopy {
			return p, err
		}
	}
}

// metacopy tells whether file p, of any type, has its data in a layer below.
func (s *Stacked) metacopy(p stackPart) (bool, error) {
	r := redirects(s.layers[p.layer])
	if r == nil || p.layer == 0 {
		return false, nil
	}
	metacopy, err := r.Metacopy(p.id)
	if errors.Is(err, syscall.EINVAL) { // no regular file
		return false, nil
	}
	return metacopy, err
}
