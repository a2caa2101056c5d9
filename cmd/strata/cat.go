package main

import (
	"errors"
	"io"

	"github.com/urfave/cli/v2"
)

func catCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "cat",
		Usage:     "print files of an image, a container or a layer",
		ArgsUsage: "NAME:PATH...",
		Description: `Nothing is mounted for it. NAME is a container, an image or a layer's diffID.
Symlinks are followed, and lead nowhere outside.

Examples:
   strata cat debian:12:/etc/os-release
   strata cat web:/etc/passwd`,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			var failed []error
			for _, arg := range c.Args().Slice() {
				failed = append(failed, p.cat(c, arg))
			}
			return errors.Join(failed...)
		},
	}
}

func (p *program) cat(c *cli.Context, arg string) (err error) {
	name, path, ok := p.splitSubject(arg)
	if !ok || path == "" {
		return wrongUsage(c, "%q names no file: want NAME:PATH", arg)
	}
	v, err := p.openTree(c.Context, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	f, err := v.open("cat", path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(p.Stdout, f); err != nil {
		return v.pathError("cat", path, err)
	}
	return nil
}
