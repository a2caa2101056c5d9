package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"strata/fusefs"
)

func benchCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:        "bench",
		Usage:       "measure, side by side with what else people use",
		ArgsUsage:   "COMMAND",
		Description: `fs measures how fast a mounted tree is.`,
		Subcommands: []*cli.Command{benchFSCommand(p), benchFloorCommand(p)},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowSubcommandHelp(c)
			}
			return wrongUsage(c, "%q is not something to measure", c.Args().First())
		},
	}
}

// benchFloorCommand is the empty server that bench fs measures the floor with.
func benchFloorCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "floor",
		Usage:     "serve an empty directory until it is unmounted",
		ArgsUsage: "DIR",
		Hidden:    true,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			server, err := fusefs.MountEmpty(c.Args().First())
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintln(p.Stdout, server.Mountpoint()); err != nil {
				p.log.Warn("nobody heard that the mount is ready", "err", err)
			}
			served := make(chan struct{})
			go func() {
				server.Wait()
				close(served)
			}()
			select {
			case <-served:
				return nil
			case <-c.Context.Done():
				return server.Unmount()
			}
		},
	}
}
