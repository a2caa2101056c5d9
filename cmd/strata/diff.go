package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"strata/overlay/tree"
)

// changeJSON is one element of the list that diff --json prints.
type changeJSON struct {
	Change string `json:"change"` // A added, C changed, D deleted
	Path   string `json:"path"`
	Kind   string `json:"kind"`           // of what is there, or was
	Size   int64  `json:"size,omitempty"` // of a file: bytes it has, or had
}

func diffCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "diff",
		Usage:     "list what a container has changed",
		ArgsUsage: "CONTAINER",
		Description: `A is for added, C for changed and D for deleted. A deleted directory stands for
all that was in it. The container may be mounted.`,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			containers, err := p.openContainers()
			if err != nil {
				return err
			}
			ct, err := containers.Find(c.Args().First())
			if err != nil {
				return err
			}
			changes, err := ct.Changes(c.Context)
			if err != nil {
				return err
			}
			list := []changeJSON{}
			for _, ch := range changes {
				list = append(list, changeJSON{Change: ch.Kind.String(), Path: ch.Path, Kind: kindName(ch.Type), Size: ch.Size})
			}
			if c.Bool("json") {
				return p.printJSON(list)
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
