package main

import "github.com/urfave/cli/v2"

func forkCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "fork",
		Usage:     "make another container that goes on from a container's state; prints its id",
		ArgsUsage: "[--name NAME] CONTAINER",
		Description: `What the container has written becomes a layer of the new one, which shares it
with others that are forked from the same state. The container stays as it is, and
may be mounted.

Example:
   strata fork --name web-test web`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "call it `NAME`, which must be free (one is made up otherwise)"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			ct, err := p.findContainer(c.Args().First())
			if err != nil {
				return err
			}
			forked, taken, err := ct.Fork(c.Context, c.String("name"))
			if err != nil {
				return err
			}
			p.warnTaken(taken)
			return p.println(string(forked.ID))
		},
	}
}
