package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"strata/overlay/tree"
)

// PackOptions say what of a layer's tree becomes entries; the zero value is all.
type PackOptions struct {
	// Include, if there are any, are the only paths that are taken, each with all
	// that is below it; directories on the way to them keep their attributes, but
	// hide nothing. Exclude are paths that are left out with all that is below.
	// Paths are relative to the root and clean.
	Include, Exclude []string

	// LeftOut is told of what a layer's tar cannot hold. May be nil.
	LeftOut func(path, why string)
}

// Pack writes a layer's tree as a tar, as the OCI image specification has layers.
// Reading that as a layer gives the tree back, and the same tree gives the same
// bytes:
//
//   - Directories come before what is in them, the names of one directory in
//     the order of their bytes. Before its other names come its opaque mark and
//     its whiteouts.
//   - An implicit directory has no entry.
//   - Of an inode with several names the first has the contents, the others are
//     links to that. All have the attributes: who unpacks may take those of the
//     last.
//   - Nothing depends on the time, the machine, or names of users.
//
// Sockets are left out, as Docker does. A name that begins with ".wh." would
// mean something else in a layer and is an error.
//
// Memory is bounded but for the names of inodes with several names.
func Pack(ctx context.Context, w io.Writer, t tree.Tree, o PackOptions) error {
	out := tarWriter{raw: func(b []byte) error {
		_, err := w.Write(b)
		return err
	}}
	buf := make([]byte, slabSize)
	p := newPacker(t, o, func(e *entry, id tree.ID) error { return writeFile(ctx, w, &out, t, e, id, buf) })
	if err := p.run(ctx); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	return out.end()
}

// writeFile writes an entry with its contents, if it has any.
func writeFile(ctx context.Context, w io.Writer, out *tarWriter, t tree.Tree, e *entry, id tree.ID, buf []byte) error {
	if err := out.entry(e); err != nil || e.kind != kindFile {
		return err
	}
	f, err := t.Open(id)
	if err != nil {
		return err
	}
	defer f.Close()
	from := contextReader{ctx, io.LimitReader(f, e.size)}
	n, err := io.CopyBuffer(w, from, buf)
	if err == nil && n < e.size {
		err = fmt.Errorf("it has become shorter than the %d bytes that it had", e.size)
	}
	return errors.Join(err, out.filled(e.size))
}

// packer turns a layer's tree into the entries of its tar.
type packer struct {
	t     tree.Tree
	o     PackOptions
	links map[tree.ID]*packedLinks
	plain bool                             // names have no meaning
	emit  func(e *entry, id tree.ID) error // id is of a file whose contents are to follow
}

// packedLinks is an inode with several names, of which some have been packed.
type packedLinks struct {
	first string
	left  uint32 // names to come
}

func newPacker(t tree.Tree, o PackOptions, emit func(*entry, tree.ID) error) *packer {
	return &packer{t: t, o: o, links: map[tree.ID]*packedLinks{}, emit: emit}
}

func (p *packer) run(ctx context.Context) error {
	return tree.Walk(p.t, func(path string, e tree.Entry, a *tree.Attr) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Whiteout { // written with its directory
			return nil
		}
		if err := p.inode(path, e.ID, a); err != nil {
			return fmt.Errorf("/%s: %w", path, err)
		}
		return nil
	})
}

// inode packs one name of an inode, and the marks of a directory.
func (p *packer) inode(path string, id tree.ID, a *tree.Attr) error {
	wanted, parent := p.wants(path)
	if !wanted && !parent {
		return nil
	}
	if _, name := splitPath(path); strings.HasPrefix(name, whiteout) && !p.plain {
		return fmt.Errorf("a name that begins with %q means that something is removed when it stands in a layer: rename it or leave it out: %w",
			whiteout, syscall.EINVAL)
	}
	if !a.IsDir() {
		if !wanted {
			return nil
		}
		return p.other(path, id, a)
	}
	if !a.Implicit {
		meta, err := tree.MetaOf(p.t, id, a)
		if err != nil {
			return err
		}
		if err := p.emit(&entry{kind: kindDir, path: path, meta: meta}, tree.None); err != nil {
			return err
		}
	}
	if !wanted {
		return nil
	}
	opaque, err := p.t.Opaque(id)
	if err != nil {
		return err
	}
	if opaque {
		if err := p.emit(&entry{kind: kindOpaque, path: path}, tree.None); err != nil {
			return err
		}
	}
	return p.whiteouts(path, id)
}

// whiteouts packs those of a directory: the specification wants them before the
// other names.
func (p *packer) whiteouts(dir string, id tree.ID) error {
	var batch [64]tree.Entry
	for from := 0; ; {
		n, err := p.t.ReadDir(id, from, batch[:])
		if err != nil {
			return err
		}
		for _, e := range batch[:n] {
			path := strings.TrimPrefix(dir+"/"+e.Name, "/")
			if wanted, _ := p.wants(path); !e.Whiteout || !wanted {
				continue
			}
			if err := p.emit(&entry{kind: kindWhiteout, path: path}, tree.None); err != nil {
				return err
			}
		}
		if from += n; n < len(batch) {
			return nil
		}
	}
}

// other packs a name of what is no directory.
func (p *packer) other(path string, id tree.ID, a *tree.Attr) error {
	if a.Mode&tree.ModeType == tree.ModeSocket {
		if p.o.LeftOut != nil {
			p.o.LeftOut(path, "a tar cannot hold a socket")
		}
		return nil
	}
	meta, err := tree.MetaOf(p.t, id, a)
	if err != nil {
		return err
	}
	if l := p.links[id]; l != nil {
		if l.left--; l.left == 0 {
			delete(p.links, id)
		}
		return p.emit(&entry{kind: kindLink, path: path, meta: meta, target: l.first}, tree.None)
	}
	if a.Nlink > 1 {
		p.links[id] = &packedLinks{first: path, left: a.Nlink - 1}
	}
	e := &entry{path: path, meta: meta}
	switch a.Mode & tree.ModeType {
	case tree.ModeRegular:
		e.kind, e.size = kindFile, a.Size
		return p.emit(e, id)
	case tree.ModeSymlink:
		e.kind = kindSymlink
		e.target, err = p.t.Readlink(id)
	default:
		e.kind, e.typ, e.rdev = kindSpecial, a.Mode&tree.ModeType, a.Rdev
	}
	if err != nil {
		return err
	}
	return p.emit(e, tree.None)
}

// wants tells whether path is taken, or else stands on the way to what is.
func (p *packer) wants(path string) (wanted, parent bool) {
	for _, x := range p.o.Exclude {
		if isBelow(path, x) {
			return false, false
		}
	}
	if len(p.o.Include) == 0 {
		return true, false
	}
	for _, i := range p.o.Include {
		if isBelow(path, i) {
			return true, false
		}
		parent = parent || isBelow(i, path)
	}
	return false, parent
}

// isBelow tells whether path is dir or below it.
func isBelow(path, dir string) bool {
	return dir == "" || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// PackFiles writes a file of a tree, or a directory with all that is below it, as a
// plain tar, not as a layer's: names mean nothing, and whiteouts are left out. What
// stands at path at is called as there; of a directory that is called "" its
// contents are all there is. Sockets are left out.
func PackFiles(ctx context.Context, w io.Writer, t tree.Tree, at, as string) error {
	out := tarWriter{raw: func(b []byte) error {
		_, err := w.Write(b)
		return err
	}}
	buf := make([]byte, slabSize)
	p := newPacker(t, PackOptions{Include: []string{at}}, nil)
	renamed := func(path string) string { return strings.Trim(as+"/"+strings.TrimPrefix(path[len(at):], "/"), "/") }
	p.emit = func(e *entry, id tree.ID) error {
		if !isBelow(e.path, at) || e.kind == kindOpaque || e.kind == kindWhiteout {
			return nil
		}
		e.path = renamed(e.path)
		if e.kind == kindLink {
			e.target = renamed(e.target)
		}
		return writeFile(ctx, w, &out, t, e, id, buf)
	}
	p.plain = true
	if err := p.run(ctx); err != nil {
		return err
	}
	return out.end()
}
