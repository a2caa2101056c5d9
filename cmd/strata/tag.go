package main

import "github.com/urfave/cli/v2"

func tagCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "tag",
		Usage:     "give an image another name",
		ArgsUsage: "IMAGE NAME[:TAG]",
		Description: `IMAGE keeps the names that it has. If another image has the new one, it loses
it.

Example:
   strata tag debian:12 localhost:5000/debian:stable`,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 2); err != nil {
				return err
			}
			ref, err := p.newName(c, c.Args().Get(1))
			if err != nil {
				return err
			}
			store, err := p.openStore()
			if err != nil {
				return err
			}
			return store.Tag(c.Context, p.imageName(c.Args().First()), ref)
		},
	}
}
