package main

import (
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// fileJSON is one element of the list that ls --json prints.
type fileJSON struct {
	Path     string    `json:"path"`
	Kind     string    `json:"kind"` // whiteout, or what explain calls it
	Mode     uint32    `json:"mode"` // permission bits
	UID      uint32    `json:"uid"`
	GID      uint32    `json:"gid"`
	Size     int64     `json:"size"` // of a regular file
	Links    uint32    `json:"links"`
	Mtime    time.Time `json:"mtime"`
	Target   string    `json:"target,omitempty"` // of a symlink
	Device   string    `json:"device,omitempty"` // MAJOR:MINOR
	Digest   string    `json:"digest,omitempty"` // of a file's contents, if the store knows it
	Opaque   bool      `json:"opaque,omitempty"`
	Implicit bool      `json:"implicit,omitempty"`
	mode     uint32    // with type
}

func lsCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list files of an image, a container or a layer",
		ArgsUsage: "[-d] [-R] [--layer N] NAME[:PATH]",
		Description: `Nothing is mounted for it. NAME is a container, an image or a layer's diffID.
With --layer only what that layer of it holds is listed, with whiteouts and
opaque marks; 0 is the base, as "strata layers" shows them.

Examples:
   strata ls debian:12:/etc
   strata ls -R --layer 2 shop/web:1`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "layer", Value: -1, DefaultText: "all", Usage: "only layer `N`"},
			&cli.BoolFlag{Name: "directory", Aliases: []string{"d"}, Usage: "a directory itself, and not what is in it"},
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"R"}, Usage: "what is in directories below, too"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			list, err := p.ls(c, c.Args().First())
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return p.printJSON(list)
			}
			return p.printFiles(list)
		},
	}
}

func (p *program) ls(c *cli.Context, arg string) (list []fileJSON, err error) {
	name, at, _ := p.splitSubject(arg)
	var v *subjectTree
	if c.IsSet("layer") {
		v, err = p.openNthLayer(c, name)
	} else {
		v, err = p.openTree(c.Context, name)
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	id, at, a, err := v.follow("ls", at, false)
	if err != nil {
		return nil, err
	}
	l := lister{v: v, recursive: c.Bool("recursive"), list: []fileJSON{}}
	if !a.IsDir() || c.Bool("directory") {
		err = l.add(at, tree.Entry{ID: id, Type: a.Mode & tree.ModeType})
	} else {
		err = l.dir(at, id)
	}
	return l.list, err
}

// openNthLayer opens one layer of an image or a container.
func (p *program) openNthLayer(c *cli.Context, name string) (*subjectTree, error) {
	s, err := p.findSubject(name)
	if err != nil {
		return nil, err
	}
	n := c.Int("layer")
	if n < 0 || n >= len(s.layers) {
		return nil, wrongUsage(c, "--layer %d: %s has layers 0 to %d", n, s.title, len(s.layers)-1)
	}
	s.title = fmt.Sprintf("%s, layer %d", s.title, n)
	return p.openLayerTree(s, s.layers[n], false)
}

// openLayerTree opens a layer: as it is, or what it shows over nothing.
func (p *program) openLayerTree(s subject, id oci.DiffID, resolved bool) (*subjectTree, error) {
	l, err := p.store.Layer(id)
	if err != nil {
		return nil, err
	}
	v := &subjectTree{Tree: l.Tree(), title: s.title, close: []func() error{l.Close}}
	if resolved {
		v.Tree = tree.Stack(l.Tree())
	}
	return v, nil
}

// lister lists a view.
type lister struct {
	v         *subjectTree
	recursive bool
	list      []fileJSON
}

func (l *lister) dir(at string, id tree.ID) error {
	entries, err := tree.ReadDirAll(l.v, id)
	if err != nil {
		return l.v.pathError("ls", at, err)
	}
	for _, e := range entries {
		path := path.Join(at, e.Name)
		if err := l.add(path, e); err != nil {
			return err
		}
		if l.recursive && e.Type == tree.ModeDir {
			if err := l.dir(path, e.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lister) add(at string, e tree.Entry) error {
	f := fileJSON{Path: at, Kind: "whiteout"}
	if !e.Whiteout {
		var err error
		if f, err = describeFile(l.v, at, e.ID); err != nil {
			return l.v.pathError("ls", at, err)
		}
	}
	l.list = append(l.list, f)
	return nil
}

func describeFile(t tree.Tree, at string, id tree.ID) (fileJSON, error) {
	a, err := t.Attr(id)
	if err != nil {
		return fileJSON{}, err
	}
	f := fileJSON{
		Path: at, Kind: kindName(a.Mode & tree.ModeType), Mode: a.Mode & tree.ModePerm, UID: a.UID, GID: a.GID, Links: a.Nlink,
		Mtime: time.Unix(a.Mtime.Sec, int64(a.Mtime.Nsec)).UTC(), Implicit: a.Implicit, mode: a.Mode,
	}
	switch a.Mode & tree.ModeType {
	case tree.ModeDir:
		f.Opaque, err = t.Opaque(id)
	case tree.ModeSymlink:
		f.Target, err = t.Readlink(id)
	case tree.ModeRegular:
		f.Size = a.Size
		var c tree.Content
		if c, err = t.Content(id); c.Known {
			f.Digest = "sha256:" + c.Digest.String()
		}
	case tree.ModeChar, tree.ModeBlock:
		f.Device = fmt.Sprintf("%d:%d", unix.Major(a.Rdev), unix.Minor(a.Rdev))
	}
	return f, err
}

func (p *program) printFiles(list []fileJSON) error {
	if len(list) == 0 {
		return nil
	}
	t := newTable("MODE", "OWNER", "SIZE", "MODIFIED", "PATH")
	for _, f := range list {
		name := shownText(f.Path)
		if f.Kind == "whiteout" {
			t.AppendRow([]any{"whiteout", "", "", "", name})
			continue
		}
		for _, more := range []struct {
			there bool
			says  string
		}{{f.Target != "", " -> " + shownText(f.Target)}, {f.Opaque, " (opaque)"}, {f.Implicit, " (no entry of its own)"}} {
			if more.there {
				name += more.says
			}
		}
		bytes := f.Device
		if bytes == "" && f.Kind == kindName(tree.ModeRegular) {
			bytes = fmt.Sprint(f.Size)
		}
		t.AppendRow([]any{modeString(f.mode), fmt.Sprintf("%d:%d", f.UID, f.GID), bytes, f.Mtime.Format("2006-01-02 15:04:05"), name})
	}
	return p.printTable(t)
}
