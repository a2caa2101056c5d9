package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
	"strata/internal/oci"
)

// commitJSON is what commit --json prints.
type commitJSON struct {
	ID          string   `json:"id"`
	Digest      string   `json:"digest"`
	Layer       string   `json:"layer"` // diffID
	Known       bool     `json:"known"` // whether the store had the layer
	NewContents int      `json:"newContents"`
	NewBytes    int64    `json:"newBytes"`
	Writing     []string `json:"writing"` // paths
	LeftOut     []string `json:"leftOut"`
}

func commitCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "commit",
		Usage:     "make an image of a container; prints its id",
		ArgsUsage: "[-m MESSAGE] [-a AUTHOR] [--change INSTRUCTION]... CONTAINER [NAME[:TAG]]",
		Description: `The image has the layers of the container's image and, on top, one of what the
container has changed. The same changes give the same layer. The container may be
mounted: names and attributes are then taken at one instant; a file that somebody
has open for writing is copied as it is found, and named on stderr.

--change takes an instruction of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE,
HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR. The image's time
is SOURCE_DATE_EPOCH, if that is set.

Examples:
   strata commit web shop/web:2
   strata commit -m 'index' --change 'CMD ["httpd", "-f"]' --exclude /tmp web shop/web:3`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "message", Aliases: []string{"m"}, Usage: "what `TEXT` says of it in the history"},
			&cli.StringFlag{Name: "author", Aliases: []string{"a"}, Usage: "who made it, such as `'Ada <ada@example.org>'`"},
			&cli.StringSliceFlag{Name: "change", Aliases: []string{"c"}, Usage: "change the config by `INSTRUCTION`"},
			&cli.StringSliceFlag{Name: "include", Usage: "take only `PATH` and what is below it, of all that was changed"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out `PATH` and what is below it"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			o, err := p.commitOptions(c)
			if err != nil {
				return err
			}
			ct, err := p.findContainer(c.Args().First())
			if err != nil {
				return err
			}
			made, err := ct.Commit(c.Context, o)
			if err != nil {
				return err
			}
			return p.printCommitted(c, made)
		},
	}
}

func (p *program) commitOptions(c *cli.Context) (o container.CommitOptions, err error) {
	o = container.CommitOptions{
		Author: c.String("author"), Message: c.String("message"),
		Include: c.StringSlice("include"), Exclude: c.StringSlice("exclude"),
	}
	if o.Created, err = p.buildTime(); err != nil {
		return o, err
	}
	if name := c.Args().Get(1); name != "" {
		ref, err := p.newName(c, name)
		if err != nil {
			return o, err
		}
		o.Refs = []oci.Reference{ref}
	}
	for _, text := range c.StringSlice("change") {
		change, err := oci.ParseChange(text)
		if err != nil {
			return o, wrongUsage(c, "%v", err)
		}
		o.Changes = append(o.Changes, change)
	}
	return o, nil
}

// newName reads a name that an image is to get.
func (p *program) newName(c *cli.Context, name string) (oci.Reference, error) {
	ref, err := p.parseReference(name)
	if err != nil {
		return ref, err
	}
	if ref.Digest() != "" {
		return ref, wrongUsage(c, "%s has a digest in it: the new name is a tag", name)
	}
	return ref, nil
}

// buildTime is the time that an image made now says it was made at.
func (p *program) buildTime() (time.Time, error) {
	epoch := p.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Now().UTC(), nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%s is no number of seconds since 1970", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func (p *program) printCommitted(c *cli.Context, made container.Committed) error {
	if c.Bool("json") {
		j := commitJSON{
			ID: string(made.Image.ID), Digest: string(made.Image.Digest), Layer: string(made.Layer.DiffID),
			Known: made.Layer.Added.KnownLayers > 0, NewContents: made.Layer.Added.Objects, NewBytes: made.Layer.Added.ObjectBytes,
			Writing: []string{}, LeftOut: []string{},
		}
		for _, path := range made.Layer.Writing {
			j.Writing = append(j.Writing, "/"+path)
		}
		for _, path := range made.LeftOut {
			j.LeftOut = append(j.LeftOut, "/"+path)
		}
		return p.printJSON(j)
	}
	p.warnTaken(made.Taken)
	return p.println(string(made.Image.ID))
}

// warnTaken tells people what is not quite in a layer as it was in the container.
func (p *program) warnTaken(made container.Taken) {
	for _, path := range made.Layer.Writing {
		fmt.Fprintf(p.Stderr, "strata: /%s was open for writing: it was taken as it was found\n", shownText(path))
	}
	for _, path := range made.LeftOut {
		fmt.Fprintf(p.Stderr, "strata: /%s is a socket, which a layer cannot hold: left out\n", shownText(path))
	}
}
