package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
)

// Flags that mount and overlay share.
func optionsFlag() cli.Flag {
	return &cli.StringSliceFlag{Name: "o", Usage: "mount `OPTIONS`, separated by commas"}
}

func foregroundFlag() cli.Flag {
	return &cli.BoolFlag{Name: "foreground", Aliases: []string{"f"}, Usage: "stay and serve until unmounted"}
}

// detachedFlag is how a process that is left behind knows that somebody waits
// to hear from it.
func detachedFlag() cli.Flag {
	return &cli.BoolFlag{Name: "detached", Hidden: true}
}

func mountCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "mount",
		Usage:     "mount a container; prints the directory",
		ArgsUsage: "[-o OPTIONS] [--foreground] CONTAINER [DIR]",
		Description: `Returns when the mount can be used, and leaves a process behind that serves it
until strata umount. Without DIR, a directory below /run/strata is used (or
below $XDG_RUNTIME_DIR/strata, without root).

Mount options:
` + indent(container.MountOptionHelp()) + `
Examples:
   cd $(strata mount web)
   strata mount -o ro web /mnt`,
		Flags: []cli.Flag{optionsFlag(), foregroundFlag(), detachedFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			options, err := container.ParseMountOptions(c.StringSlice("o"))
			if err != nil {
				return err
			}
			containers, err := p.openContainers()
			if err != nil {
				return err
			}
			ct, err := containers.Find(c.Args().Get(0))
			if err != nil {
				return err
			}
			dir := c.Args().Get(1)
			if c.Bool("detached") || c.Bool("foreground") {
				options.Exits = true
				return p.serve(c, func() (*container.Mount, error) { return ct.Mount(c.Context, dir, options) })
			}
			if err := ct.CheckUnmounted(); err != nil { // the child would say so, too, but with fewer hints
				return err
			}
			log, err := ct.LogFile()
			if err != nil {
				return err
			}
			args := append(p.childArgs(c), string(ct.ID))
			if dir != "" {
				args = append(args, dir)
			}
			return p.detach(c, args, log)
		},
	}
}

// serve mounts, says so and serves until the mount is gone.
func (p *program) serve(c *cli.Context, mount func() (*container.Mount, error)) error {
	detached := c.Bool("detached")
	m, err := mount()
	if err != nil {
		if detached {
			err = errors.Join(err, container.Failed(err))
		}
		return err
	}
	if detached {
		err = container.Ready(m.Dir)
	} else {
		_, err = fmt.Fprintln(p.Stdout, m.Dir)
	}
	if err != nil {
		p.log.Warn("nobody heard that the mount is ready", "dir", m.Dir, "err", err)
	}
	return m.Serve(c.Context)
}

// childArgs begins the command line of a process that does what this command
// was asked to do, but stays.
func (p *program) childArgs(c *cli.Context) []string {
	args := []string{"--root", p.root}
	if p.run != "" {
		args = append(args, "--run", p.run)
	}
	if c.Bool("debug") {
		args = append(args, "--debug")
	}
	args = append(args, c.Command.Name, "--detached")
	for _, o := range c.StringSlice("o") {
		args = append(args, "-o", o)
	}
	return append(args, "--")
}

// detach leaves a process behind and prints the directory that it serves.
func (p *program) detach(c *cli.Context, args []string, log string) error {
	dir, logged, err := container.Detach(c.Context, args, log)
	if err != nil {
		return err
	}
	fmt.Fprint(p.Stderr, logged)
	_, err = fmt.Fprintln(p.Stdout, dir)
	return err
}
