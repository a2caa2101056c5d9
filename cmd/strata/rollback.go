package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

func rollbackCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "rollback",
		Usage:     "give a container the state of a snapshot",
		ArgsUsage: "CONTAINER SNAPSHOT",
		Description: `What the container has written since, and is in no snapshot, is gone. Other
snapshots stay, later ones too. It must not be mounted.

Example:
   strata rollback web before-upgrade`,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 2); err != nil {
				return err
			}
			ct, err := p.findContainer(c.Args().First())
			if err != nil {
				return err
			}
			lost, err := ct.Rollback(c.Context, c.Args().Get(1))
			if err != nil {
				return err
			}
			fmt.Fprintf(p.Stderr, "dropped an upper of %s\n", size(lost))
			return nil
		},
	}
}
