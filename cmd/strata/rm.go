package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"
)

func rmCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Usage:     "remove containers and all that they have written",
		ArgsUsage: "[-f] CONTAINER...",
		Description: `Prints the name of each container that was removed. Images and layers stay.

Example:
   strata rm -f web db`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "unmount first"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			containers, err := p.openContainers()
			if err != nil {
				return err
			}
			var total int64
			var failed []error
			for _, name := range c.Args().Slice() {
				ct, err := containers.Find(name)
				if err != nil {
					failed = append(failed, err)
					continue
				}
				freed, err := ct.Remove(c.Context, c.Bool("force"))
				if err != nil {
					failed = append(failed, err)
					continue
				}
				total += freed
				if err := p.println(name); err != nil {
					return err
				}
			}
			if total > 0 {
				fmt.Fprintf(p.Stderr, "freed %s\n", size(total))
			}
			return errors.Join(failed...)
		},
	}
}
