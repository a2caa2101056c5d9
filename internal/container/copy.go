package container

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"strata/layerstore"
	"strata/overlay/tree"
)

// CopyOptions say how files are copied.
type CopyOptions struct {
	Follow bool // copy what a symlink at the source leads to, and not the link
	Owners bool // keep owners; else they are root's in a container, and the caller's on the host
}

// A copy is a tar from one end to the other:
//
//	host directory, tree, stream -> tar -> host directory, mounted container, overlay in this process, stream
//
// Its rules are those of docker cp:
//
//	SOURCE             TARGET is not there    is a directory         is a file
//	file               becomes it             goes into it           replaces it
//	file, TARGET/      is refused             goes into it           is refused
//	directory          becomes it             goes into it           is refused
//	directory/.        becomes it             its contents go there  is refused

// CopySource is where files are copied from.
type CopySource struct {
	// Of is the container that is copied from, if it is one.
	Of *Container

	at    string // where that is in the tree, relative to its root
	path  string // as it was typed
	name  string // the last name of the path; empty if there is none
	isDir bool
	tar   func(ctx context.Context, w io.Writer, as string) error
}

// contents tells whether the contents of a directory are meant, and not itself.
func (s *CopySource) contents() bool {
	return s.isDir && (s.name == "" || s.path == "." || strings.HasSuffix(s.path, "/."))
}

// CopyFrom copies from a tree.
func CopyFrom(t tree.Tree, name string, o CopyOptions) (*CopySource, error) {
	id, at, err := tree.Follow(t, name, o.Follow || strings.HasSuffix(name, "/."))
	var a tree.Attr
	if err == nil {
		a, err = t.Attr(id)
	}
	if err == nil && strings.HasSuffix(name, "/") && !a.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, &fs.PathError{Op: "copy", Path: name, Err: err}
	}
	at = strings.TrimPrefix(at, "/")
	return &CopySource{at: at, path: name, name: lastName(name), isDir: a.IsDir(), tar: func(ctx context.Context, w io.Writer, as string) error {
		return layerstore.PackFiles(ctx, w, t, at, as)
	}}, nil
}

// WriteTo writes the files as a tar, under the name that they have.
func (s *CopySource) WriteTo(ctx context.Context, w io.Writer) error {
	as := s.name
	if s.contents() {
		as = ""
	}
	return s.tar(ctx, w, as)
}

// CopyTarget is a directory into which files are copied, or a place in one.
type CopyTarget struct {
	of     *Container // nil on the host
	dir    string     // in the container, from its root
	path   string     // as it was typed
	name   string     // what is to be made in the directory, or is there and no directory; empty for what is copied into it
	exists bool       // name is there
	files  copyFiles
	owner  [2]uint32 // of all, unless owners are kept
}

// Close lets go of the directory.
func (t *CopyTarget) Close() error { return t.files.close() }

// Copy copies from a source.
func (t *CopyTarget) Copy(ctx context.Context, s *CopySource, o CopyOptions) error {
	as := t.name
	switch {
	case s.isDir && s.Of != nil && t.of != nil && s.Of.ID == t.of.ID && within(t.dir, "/"+s.at):
		return fmt.Errorf("copy %s to %s: a directory cannot go into itself", s.path, t.path)
	case s.isDir && t.exists:
		return fmt.Errorf("copy %s to %s: a directory cannot take the place of a file", s.path, t.path)
	case as == "" && !s.contents():
		as = s.name
	case as != "" && !s.isDir && strings.HasSuffix(t.path, "/"):
		return &fs.PathError{Op: "copy to", Path: t.path, Err: errors.New("no such directory")}
	}
	r, w := io.Pipe()
	ended := make(chan struct{})
	go func() { // ends at the latest when the reading end is closed
		defer close(ended)
		w.CloseWithError(s.tar(ctx, w, as))
	}()
	err := t.extract(ctx, r, o)
	r.CloseWithError(err)
	<-ended
	return err
}

// Extract copies what a tar holds into the directory, with its owners.
func (t *CopyTarget) Extract(ctx context.Context, r io.Reader) error {
	if t.name != "" {
		return &fs.PathError{Op: "extract to", Path: t.path, Err: errors.New("is no directory")}
	}
	return t.extract(ctx, r, CopyOptions{Owners: true})
}

// copyFiles makes files in a directory. Paths are relative to it and clean; no symlink
// in them is followed to a place outside, and none that is their last name at all.
type copyFiles interface {
	// mode returns the mode of what is there, or ENOENT.
	mode(name string) (uint32, error)
	mkdir(name string) error
	create(name string) (io.WriteCloser, error) // there is nothing of that name
	symlink(target, name string) error
	link(old, name string) error
	mknod(name string, mode uint32, rdev uint64) error
	remove(name string) error // no directory
	setMeta(name string, mode uint32, m *tree.Meta) error
	close() error
}

// extraction is a tar on its way into a target.
type extraction struct {
	t    *CopyTarget
	o    CopyOptions
	dirs []extractedDir
}

type extractedDir struct {
	name string
	meta tree.Meta
}

func (t *CopyTarget) extract(ctx context.Context, r io.Reader, o CopyOptions) error {
	x := extraction{t: t, o: o}
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err == nil || errors.Is(err, tar.ErrInsecurePath) {
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("copy to %s: read the tar: %w", t.path, err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if err := x.entry(name, h, in); err != nil {
			return fmt.Errorf("copy to %s: %s: %w", t.path, h.Name, err)
		}
	}
	// Directories last, the deepest first: what is made in one changes its time.
	for i := len(x.dirs) - 1; i >= 0; i-- {
		if err := t.files.setMeta(x.dirs[i].name, tree.ModeDir, &x.dirs[i].meta); err != nil {
			return fmt.Errorf("copy to %s: %s: %w", t.path, x.dirs[i].name, err)
		}
	}
	_, err := io.Copy(io.Discard, r) // what follows the end of the archive
	return err
}

func (x *extraction) entry(name string, h *tar.Header, contents io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader || name == "" { // the directory itself is there
		return nil
	}
	if err := x.parents(name); err != nil {
		return err
	}
	isDir := h.Typeflag == tar.TypeDir
	there, err := x.t.files.mode(name)
	switch {
	case errors.Is(err, unix.ENOENT):
	case err != nil:
		return err
	case there&tree.ModeType == tree.ModeDir && !isDir:
		return errors.New("a directory is there, which a file cannot take the place of")
	case there&tree.ModeType != tree.ModeDir && isDir:
		return errors.New("a file is there, which a directory cannot take the place of")
	case isDir:
		x.dirs = append(x.dirs, extractedDir{name, x.meta(h)})
		return nil
	default:
		if err := x.t.files.remove(name); err != nil {
			return err
		}
	}
	return x.make(name, h, contents)
}

// parents makes the directories that a tar does not list.
func (x *extraction) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	if _, err := x.t.files.mode(dir); !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := x.parents(dir); err != nil {
		return err
	}
	return x.t.files.mkdir(dir)
}

func (x *extraction) make(name string, h *tar.Header, contents io.Reader) error {
	files, meta := x.t.files, x.meta(h)
	typ := uint32(tree.ModeRegular)
	var err error
	switch h.Typeflag {
	case tar.TypeDir:
		x.dirs = append(x.dirs, extractedDir{name, meta})
		return files.mkdir(name)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		err = x.file(name, contents)
	case tar.TypeSymlink:
		typ = tree.ModeSymlink
		err = files.symlink(h.Linkname, name)
	case tar.TypeLink:
		return files.link(strings.TrimPrefix(path.Clean("/"+h.Linkname), "/"), name)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		typ = map[byte]uint32{tar.TypeChar: tree.ModeChar, tar.TypeBlock: tree.ModeBlock, tar.TypeFifo: tree.ModeFIFO}[h.Typeflag]
		err = files.mknod(name, typ|0o600, unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))
	default:
		err = fmt.Errorf("entry type %q is unknown", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return files.setMeta(name, typ, &meta)
}

func (x *extraction) file(name string, contents io.Reader) error {
	w, err := x.t.files.create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, contents)
	return errors.Join(err, w.Close())
}

// meta is what a header says of an inode, with the owner that it is to have.
func (x *extraction) meta(h *tar.Header) tree.Meta {
	m := tree.Meta{
		Mode: uint32(h.Mode) & tree.ModePerm, UID: uint32(h.Uid), GID: uint32(h.Gid),
		Mtime: tree.Time{Sec: h.ModTime.Unix(), Nsec: uint32(h.ModTime.Nanosecond())},
	}
	if !x.o.Owners {
		m.UID, m.GID = x.t.owner[0], x.t.owner[1]
	}
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && (strings.HasPrefix(name, "user.") || name == "security.capability") {
			m.Xattrs = append(m.Xattrs, tree.Xattr{Name: name, Value: []byte(value)})
		}
	}
	return m
}
