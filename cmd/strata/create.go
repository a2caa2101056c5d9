package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
)

func createCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "create",
		Usage:     "make a container of an image; prints its id",
		ArgsUsage: "[--name NAME] IMAGE",
		Description: `The container's upper is empty: it costs a few blocks until something is
written into its mount. IMAGE is a reference, an id or the beginning of one.

Example:
   strata create --name web nginx:1`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "name", Usage: "call it `NAME`, which must be free (one is made up otherwise)"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			containers, err := p.openContainers()
			if err != nil {
				return err
			}
			name := p.imageName(c.Args().First())
			img, err := p.store.Image(name)
			if err != nil {
				return err
			}
			ct, err := containers.Create(c.Context, img, container.CreateOptions{
				Name:      c.String("name"),
				Reference: shownName(img, name),
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.Stdout, ct.ID)
			return err
		},
	}
}
