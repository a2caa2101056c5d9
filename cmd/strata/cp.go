package main

import (
	"context"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
)

func cpCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "cp",
		Usage:     "copy files between the host, containers and images",
		ArgsUsage: "[-a] [-L] SOURCE TARGET",
		Description: `One of the two, or both, is NAME:PATH; NAME is a container, or, as SOURCE, an
image or a layer's diffID. A path that begins with / or . is the host's. Nothing is
mounted for it; a container that is mounted is written through its mount.

A directory goes into a directory that is there, under its name; with /. at its end
only what is in it does. Otherwise the source becomes the target, whose directory
must be there. As SOURCE, - is a tar on standard input, which is extracted into the
directory TARGET; as TARGET, - is standard output, which gets a tar.

Files belong to root in a container, and to you on the host, unless -a keeps owners.
A tar has its own.

Examples:
   strata cp debian:12:/etc/os-release .
   strata cp site/. web:/srv/www
   strata cp web:/var/log - | tar -t`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "archive", Aliases: []string{"a"}, Usage: "keep owners"},
			&cli.BoolFlag{Name: "follow-link", Aliases: []string{"L"}, Usage: "copy what the symlink SOURCE leads to"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 2); err != nil {
				return err
			}
			return p.cp(c, c.Args().Get(0), c.Args().Get(1))
		},
	}
}

func (p *program) cp(c *cli.Context, from, to string) error {
	source, target := p.copyPlace(from), p.copyPlace(to)
	if !source.inside() && !target.inside() {
		return wrongUsage(c, "neither %s nor %s is NAME:PATH, in an image or a container", from, to)
	}
	for _, place := range []copyPlace{source, target} {
		if place.inside() && place.path == "" {
			return wrongUsage(c, "%s: names no path: want NAME:PATH", place.arg)
		}
	}
	o := container.CopyOptions{Follow: c.Bool("follow-link"), Owners: c.Bool("archive")}
	if from == "-" {
		return p.onTarget(c.Context, target, func(t *container.CopyTarget) error { return t.Extract(c.Context, p.Stdin) })
	}
	s, done, err := p.copySource(c.Context, source, o)
	if err != nil {
		return err
	}
	defer done()
	if to == "-" {
		if isTerminal(p.Stdout) {
			return wrongUsage(c, "a tar is not for a terminal to show: redirect the output")
		}
		return s.WriteTo(c.Context, p.Stdout)
	}
	return p.onTarget(c.Context, target, func(t *container.CopyTarget) error { return t.Copy(c.Context, s, o) })
}

// copyPlace is one end of a copy.
type copyPlace struct {
	arg  string
	name string // of an image or a container; empty for the host
	path string
}

func (c *copyPlace) inside() bool { return c.name != "" }

func (p *program) copyPlace(arg string) copyPlace {
	if !strings.HasPrefix(arg, "/") && !strings.HasPrefix(arg, ".") && arg != "-" {
		if name, path, ok := p.splitSubject(arg); ok && name != "" {
			return copyPlace{arg, name, path}
		}
	}
	return copyPlace{arg: arg, path: arg}
}

func (p *program) copySource(ctx context.Context, from copyPlace, o container.CopyOptions) (*container.CopySource, func() error, error) {
	if !from.inside() {
		s, err := container.CopyFromHost(from.path, o)
		return s, func() error { return nil }, err
	}
	t, err := p.openTree(ctx, from.name)
	if err != nil {
		return nil, nil, err
	}
	s, err := container.CopyFrom(t, from.path, o)
	if err != nil {
		return nil, nil, errors.Join(err, t.Close())
	}
	s.Of = t.container
	return s, t.Close, nil
}

// onTarget opens the target of a copy and calls fn with it.
func (p *program) onTarget(ctx context.Context, to copyPlace, fn func(*container.CopyTarget) error) (err error) {
	var t *container.CopyTarget
	if !to.inside() {
		t, err = container.CopyToHost(to.path)
	} else {
		var ct *container.Container
		if ct, err = p.findContainer(to.name); err == nil {
			t, err = ct.CopyTo(ctx, to.path)
		}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return fn(t)
}
