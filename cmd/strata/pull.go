package main

import (
	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

// pullJobs is how many layers come at once, as docker has it.
const pullJobs = 3

func pullCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Usage:     "get an image from a registry",
		ArgsUsage: "[--platform OS/ARCH[/VARIANT]] IMAGE",
		Description: `IMAGE is [HOST/]NAME[:TAG][@DIGEST]. Layers are unpacked while they come, several
at once; those that are known do not come again. A broken connection is taken up
where it broke off. Nothing is in the store until all of it is there and right.

` + registryHelp + `

` + keepBlobsHelp + `

Examples:
   strata pull debian:12
   strata pull --platform linux/arm64 alpine
   strata pull localhost:5000/app`,
		Flags: []cli.Flag{
			jsonFlag(), quietFlag(), plainHTTPFlag(), keepBlobsFlag(),
			&cli.StringFlag{Name: "platform", Usage: "of an image for several, take that for `OS/ARCH`[/VARIANT]; else this machine's"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return p.pull(c)
		},
	}
}

func (p *program) pull(c *cli.Context) error {
	keep, err := keepBlobs(c)
	if err != nil {
		return err
	}
	var o oci.PullOptions
	if s := c.String("platform"); s != "" {
		if o.Platform, err = oci.ParsePlatform(s); err != nil {
			return wrongUsage(c, "%v", err)
		}
	}
	ref, err := p.parseReference(c.Args().First())
	if err != nil {
		return err
	}
	store, err := p.openStore()
	if err != nil {
		return err
	}
	o.Known = func(d oci.Digest) []byte {
		b, err := store.Document(d)
		if err != nil {
			return nil // then it comes again, and is mended
		}
		return b
	}
	img, err := p.registries(c).Pull(c.Context, ref, o)
	if err != nil {
		return err
	}
	l, err := p.loadImage(c.Context, store, img, layerstore.AddOptions{KeepBlobs: keep, Jobs: pullJobs, PulledFrom: ref}, !c.Bool("quiet"))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.printJSON([]loadedJSON{l})
	}
	if err := p.printLoaded("Pulled", l); err != nil {
		return err
	}
	return p.println("Digest: " + l.Digest)
}
