package main

import (
	"errors"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
)

func umountCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "umount",
		Usage:     "unmount containers, by name or by directory",
		ArgsUsage: "[-l] CONTAINER|DIR...",
		Description: `Returns when everything that was written is in the container's upper and the
process that served the mount is gone. If the mount is in use, it says by whom.
A word with a slash, or that is no container, is a directory; it may also be a
mount of strata overlay.

Examples:
   strata umount web
   strata umount /mnt`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "lazy", Aliases: []string{"l"}, Usage: "take it away though it is in use; it ends with its last user"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			o := container.UnmountOptions{Lazy: c.Bool("lazy")}
			var failed []error
			for _, arg := range c.Args().Slice() {
				failed = append(failed, p.umount(c, arg, o))
			}
			return errors.Join(failed...)
		},
	}
}

func (p *program) umount(c *cli.Context, arg string, o container.UnmountOptions) error {
	ct, err := p.mountedAs(arg)
	switch {
	case err != nil:
		return err
	case ct == nil:
		return container.UnmountPlain(c.Context, arg, o, p.run)
	}
	return ct.Unmount(c.Context, o)
}

// mountedAs finds the container that a name or a directory means; nil if it can
// only be a mount of plain directories.
func (p *program) mountedAs(arg string) (*container.Container, error) {
	if strings.Contains(arg, "/") && container.IsPlainMount(arg, p.run) {
		return nil, nil // without a look at the store, which may not even be there
	}
	containers, err := p.openContainers()
	if err != nil {
		return nil, err
	}
	if !strings.Contains(arg, "/") {
		ct, err := containers.Find(arg)
		if err == nil {
			return ct, nil
		}
		if _, statErr := os.Lstat(arg); errors.Is(statErr, os.ErrNotExist) {
			return nil, err // no directory either, dead or alive
		}
	}
	return containers.At(arg)
}
