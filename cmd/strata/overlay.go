package main

import (
	"github.com/urfave/cli/v2"

	"strata/internal/container"
)

func overlayCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "overlay",
		Usage:     "lay plain directories over each other and mount the result",
		ArgsUsage: "-o lowerdir=TOP:...:BASE[,upperdir=DIR,workdir=DIR][,OPTIONS] [SOURCE] DIR [--foreground]",
		Description: `Takes the options of the kernel's overlayfs, written the same way: lowerdir
lists the topmost directory first, a colon or comma within a name is written
\: or \,, and lowerdir+=DIR adds one more below. Changes go to upperdir, with
workdir, an empty directory on the same filesystem, as scratch; without an
upperdir the mount is read-only. userxattr keeps marks and owners in user.*
xattrs, as without root. No store is needed. SOURCE is what mount(8) passes to
helpers and is not looked at; a link to this program called
/sbin/mount.fuse.strata is such a helper.

Further mount options:
` + indent(container.MountOptionHelp()) + `
Examples:
   strata overlay -o lowerdir=/a:/b,upperdir=/u,workdir=/w /mnt
   strata overlay -o lowerdir=/a:/b,ro /mnt --foreground
   strata umount /mnt`,
		Flags: []cli.Flag{optionsFlag(), foregroundFlag(), detachedFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			dir := c.Args().Get(c.NArg() - 1)
			plain, options, err := container.ParsePlain(c.StringSlice("o"))
			if err != nil {
				return err
			}
			if c.Bool("detached") || c.Bool("foreground") {
				options.Exits = true
				return p.serve(c, func() (*container.Mount, error) {
					return plain.Mount(c.Context, dir, options, p.containerOptions())
				})
			}
			log, err := container.PlainLog(p.run, dir)
			if err != nil {
				return err
			}
			return p.detach(c, append(p.childArgs(c), dir), log)
		},
	}
}
