package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"strata/internal/container"
	"strata/layerstore"
	"strata/overlay/tree"
)

// subjectTree is what a name shows, as one tree.
type subjectTree struct {
	tree.Tree
	title     string
	container *container.Container // nil if it is none
	close     []func() error
}

func (v *subjectTree) Close() error {
	var errs []error
	for _, c := range v.close {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// openTree opens what an image, a container or a layer shows: of a container its
// layers and its upper, as it is at the moment; of a layer alone what it would show
// over nothing.
func (p *program) openTree(ctx context.Context, name string) (*subjectTree, error) {
	s, err := p.findSubject(name)
	if noImage := (*layerstore.NotFoundError)(nil); errors.As(err, &noImage) {
		if id, layerErr := p.store.FindLayer(name); layerErr == nil {
			return p.openLayerTree(subject{title: "layer " + id.Short()}, id, true)
		} else if !errors.As(layerErr, &noImage) {
			return nil, layerErr
		}
	}
	if err != nil {
		return nil, err
	}
	chain, err := p.store.Chain(ctx, s.layers)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.title, err)
	}
	v := &subjectTree{Tree: chain.Tree(), title: s.title, close: []func() error{chain.Close}}
	if s.container == nil {
		return v, nil
	}
	upper, err := s.container.OpenUpper()
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	v.container = s.container
	v.Tree, v.close = tree.Stack(chain.Tree(), upper), append(v.close, upper.Close)
	return v, nil
}

// pathError is an error about a path that people typed.
func (v *subjectTree) pathError(op, name string, err error) error {
	return fmt.Errorf("%s: %w", v.title, &fs.PathError{Op: op, Path: name, Err: err})
}

// follow finds the inode that a path leads to.
func (v *subjectTree) follow(op, name string, last bool) (id tree.ID, at string, a tree.Attr, err error) {
	id, at, err = tree.Follow(v, name, last)
	if err == nil {
		a, err = v.Attr(id)
	}
	if err == nil && strings.HasSuffix(name, "/") && !a.IsDir() {
		err = fs.ErrInvalid
	}
	if err != nil {
		err = v.pathError(op, name, err)
	}
	return id, at, a, err
}

// splitName splits NAME:PATH. NAME may hold colons, of a tag or a registry's port;
// without a path it is empty. exists tells whether there is something of that name.
func splitName(arg string, exists func(name string) bool) (name, path string, ok bool) {
	if i := strings.Index(arg, ":/"); i >= 0 {
		return arg[:i], arg[i+1:], true
	}
	i := strings.LastIndexByte(arg, ':')
	if i < 0 || exists(arg) {
		return arg, "", false
	}
	return arg[:i], arg[i+1:], true
}

// splitSubject is splitName for what openTree takes.
func (p *program) splitSubject(arg string) (name, path string, ok bool) {
	return splitName(arg, func(name string) bool {
		_, err := p.findSubject(name)
		return err == nil
	})
}

// modeString is how ls(1) shows a mode.
func modeString(mode uint32) string {
	types := map[uint32]byte{tree.ModeSocket: 's', tree.ModeSymlink: 'l', tree.ModeRegular: '-', tree.ModeBlock: 'b',
		tree.ModeDir: 'd', tree.ModeChar: 'c', tree.ModeFIFO: 'p'}
	s := []byte("?rwxrwxrwx")
	s[0] = types[mode&tree.ModeType]
	for i := range 9 {
		if mode&(1<<(8-i)) == 0 {
			s[i+1] = '-'
		}
	}
	for i, special := range []struct {
		bit uint32
		x   byte
	}{{0o4000, 's'}, {0o2000, 's'}, {0o1000, 't'}} {
		at := 3 * (i + 1)
		switch {
		case mode&special.bit == 0:
		case s[at] == 'x':
			s[at] = special.x
		default:
			s[at] = special.x - 'a' + 'A'
		}
	}
	return string(s)
}

// open opens the regular file that a path leads to.
func (v *subjectTree) open(op, name string) (*os.File, error) {
	id, _, a, err := v.follow(op, name, true)
	if err != nil {
		return nil, err
	}
	if a.IsDir() {
		return nil, v.pathError(op, name, errors.New("is a directory"))
	}
	if !a.IsRegular() {
		return nil, v.pathError(op, name, fmt.Errorf("is a %s, which has no contents", kindName(a.Mode&tree.ModeType)))
	}
	f, err := v.Open(id)
	if err != nil {
		return nil, v.pathError(op, name, err)
	}
	return f, nil
}
