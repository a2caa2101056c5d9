package main

import "github.com/urfave/cli/v2"

func syncCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "sync",
		Usage:     "wait until all that was written in a mounted container is on disk",
		ArgsUsage: "CONTAINER|DIR",
		Description: `sync(1) and syncfs(2) do not reach a filesystem that is served through FUSE. This
does; fsync(2) on a file or directory does, too, and so does unmounting.

Example:
   strata sync web`,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			mount, err := p.served(c.Args().First())
			if err != nil {
				return err
			}
			return mount.Sync(c.Context)
		},
	}
}
