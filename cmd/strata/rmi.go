package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"strata/layerstore"
)

func rmiCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "rmi",
		Usage:     "remove images, and layers and contents that nothing needs any more",
		ArgsUsage: "[-f] IMAGE...",
		Description: `A reference is taken away; with the last one the image goes, too. An image that
containers were made of is refused, unless -f is given: they keep their layers.

Example:
   strata rmi nginx:1 redis:1`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "also if containers use it, or an id has several references"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			store, err := p.openStore()
			if err != nil {
				return err
			}
			var failed []error
			for _, name := range c.Args().Slice() {
				failed = append(failed, p.rmi(c.Context, store, name, c.Bool("force")))
			}
			failed = append(failed, p.collectAfter(c, store))
			return errors.Join(failed...)
		},
	}
}

func (p *program) rmi(ctx context.Context, store *layerstore.Store, name string, force bool) error {
	removed, err := store.RemoveImage(ctx, p.imageName(name), force)
	if err != nil {
		return err
	}
	for _, ref := range removed.Untagged {
		if err := p.println("Untagged: " + ref.Familiar()); err != nil {
			return err
		}
	}
	for _, img := range removed.Deleted {
		if err := p.println("Deleted: " + string(img.ID)); err != nil {
			return err
		}
	}
	return nil
}
