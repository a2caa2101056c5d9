package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"strata/overlay/tree"
)

// changeJSON is one element of the list that diff --json prints.
type changeJSON struct {
	Change string `json:"change"` // A added, C changed, D deleted
	Path   string `json:"path"`
	Kind   string `json:"kind"`           // of what is there, or was
	Size   int64  `json:"size,omitempty"` // of a file: bytes it has, or had

	// Of two arguments, for what is in both.
	What    []string `json:"what,omitempty"`
	OldKind string   `json:"oldKind,omitempty"` // if it is another
	OldSize int64    `json:"oldSize,omitempty"` // of a file
}

func diffCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "list what a container has changed, or in what two things differ",
		ArgsUsage: "CONTAINER | A B",
		Description: `A is for added, C for changed and D for deleted. A deleted directory stands for
all that was in it. Containers may be mounted.

With two arguments, each an image, a container or a layer's diffID, what B shows is
compared with what A shows, and it is told what has changed: kind, content, mode,
owner, time, xattr. A directory is listed, too, if only something in it differs.

Examples:
   strata diff web
   strata diff shop/web:1 shop/web:2
   strata diff --json shop/web:2 web`,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			list, err := p.diff(c)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return p.printJSON(list)
			}
			if c.NArg() == 2 {
				return p.printDifferences(list)
			}
			for _, ch := range list {
				if err := p.println(fmt.Sprintf("%s %s", ch.Change, shownText(ch.Path))); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (p *program) diff(c *cli.Context) ([]changeJSON, error) {
	if c.NArg() == 2 {
		return p.differences(c.Context, c.Args().Get(0), c.Args().Get(1))
	}
	ct, err := p.findContainer(c.Args().First())
	if err != nil {
		return nil, err
	}
	changes, err := ct.Changes(c.Context)
	if err != nil {
		return nil, err
	}
	list := []changeJSON{}
	for _, ch := range changes {
		list = append(list, changeJSON{Change: ch.Kind.String(), Path: ch.Path, Kind: kindName(ch.Type), Size: ch.Size})
	}
	return list, nil
}

// differences compares what two names show.
func (p *program) differences(ctx context.Context, a, b string) (list []changeJSON, err error) {
	was, err := p.openTree(ctx, a)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, was.Close()) }()
	is, err := p.openTree(ctx, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, is.Close()) }()
	differences, err := tree.Compare(was, is, tree.CompareOptions{})
	if err != nil {
		return nil, fmt.Errorf("compare %s with %s: %w", was.title, is.title, err)
	}
	list = []changeJSON{}
	for _, d := range differences {
		list = append(list, differenceJSON(&d))
	}
	return list, nil
}

func differenceJSON(d *tree.Difference) changeJSON {
	c := changeJSON{Change: "C", Path: "/" + d.Path}
	a := &d.Is
	switch {
	case d.New == tree.None:
		c.Change, a = "D", &d.Was
	case d.Old == tree.None:
		c.Change = "A"
	default:
		if d.Was.IsRegular() {
			c.OldSize = d.Was.Size
		}
		if d.What&tree.KindDiffers != 0 {
			c.OldKind = kindName(d.Was.Mode & tree.ModeType)
		}
		c.What = whatNames(d.What)
	}
	c.Kind = kindName(a.Mode & tree.ModeType)
	if a.IsRegular() {
		c.Size = a.Size
	}
	return c
}

// whatNames are the words for a set of what differs.
func whatNames(w tree.What) []string {
	var names []string
	for _, n := range []struct {
		what tree.What
		name string
	}{
		{tree.KindDiffers, "kind"}, {tree.ContentDiffers, "content"}, {tree.ModeDiffers, "mode"},
		{tree.OwnerDiffers, "owner"}, {tree.TimeDiffers, "time"}, {tree.XattrDiffers, "xattr"},
	} {
		if w&n.what != 0 {
			names = append(names, n.name)
		}
	}
	return names
}

func (p *program) printDifferences(list []changeJSON) error {
	if len(list) == 0 {
		return nil
	}
	t := newTable("", "PATH", "SIZE", "WHAT")
	for _, ch := range list {
		bytes := ""
		switch regular := kindName(tree.ModeRegular); {
		case ch.Kind == regular && ch.Change == "C" && ch.OldSize != ch.Size:
			bytes = size(ch.OldSize) + " -> " + size(ch.Size)
		case ch.Kind == regular:
			bytes = size(ch.Size)
		}
		what := strings.Join(ch.What, ", ")
		if ch.OldKind != "" {
			what = ch.OldKind + " -> " + ch.Kind
		}
		t.AppendRow([]any{ch.Change, shownText(ch.Path), bytes, what})
	}
	return p.printTable(t)
}

// kindName is the word for a type, as explain has it.
func kindName(typ uint32) string {
	switch typ {
	case tree.ModeRegular:
		return "regular file"
	case tree.ModeDir:
		return "directory"
	case tree.ModeSymlink:
		return "symlink"
	case tree.ModeChar:
		return "character device"
	case tree.ModeBlock:
		return "block device"
	case tree.ModeFIFO:
		return "FIFO"
	case tree.ModeSocket:
		return "socket"
	}
	return fmt.Sprintf("%#o", typ)
}
