package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

// squashedJSON is what squash --json prints.
type squashedJSON struct {
	ID          string          `json:"id"`
	Digest      string          `json:"digest"`
	Layer       string          `json:"layer"`  // diffID of the one that was made
	Merged      []string        `json:"merged"` // diffIDs, base first
	BytesBefore int64           `json:"bytesBefore"`
	BytesAfter  int64           `json:"bytesAfter"`
	LostSharing []lostShareJSON `json:"lostSharing"`
}

type lostShareJSON struct {
	Layer  string   `json:"layer"`
	Bytes  int64    `json:"bytes"`
	Images []string `json:"images"` // that have it still
}

func squashCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "squash",
		Usage:     "make an image in which one layer stands for several",
		ArgsUsage: "--from LAYER [-t NAME[:TAG]] IMAGE",
		Description: `LAYER, and all layers above it, become one that holds what they change together;
what one of them adds and another removes is gone. The layers below stay, and are
shared as before. LAYER is a number, as "strata layers" shows it, or a diffID.

It is told what was saved, in bytes of uncompressed tars, and which of the merged
layers other images have: they have nothing in common there any more, but equal
contents, which this store keeps once all the same. Without -t the image has no
name. IMAGE stays as it is.

Example:
   strata squash --from 1 -t shop/web:small shop/web:1`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "the lowest `LAYER` that is merged"},
			&cli.StringFlag{Name: "tag", Aliases: []string{"t"}, Usage: "call the new image `NAME`"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return p.squash(c)
		},
	}
}

func (p *program) squash(c *cli.Context) error {
	if c.String("from") == "" {
		return wrongUsage(c, "--from LAYER is missing: the lowest layer that is merged")
	}
	o := layerstore.SquashOptions{}
	var err error
	if o.Created, err = p.buildTime(); err != nil {
		return err
	}
	if name := c.String("tag"); name != "" {
		ref, err := p.newName(c, name)
		if err != nil {
			return err
		}
		o.Refs = []oci.Reference{ref}
	}
	store, img, err := p.findImage(c.Args().First())
	if err != nil {
		return err
	}
	if o.From, err = layerIndex(c, img, c.String("from")); err != nil {
		return err
	}
	last := len(img.Layers) - 1
	o.Comment = fmt.Sprintf("layers %d to %d of %s in one", o.From, last, shownName(img, c.Args().First()))
	squashed, done, err := store.Squash(c.Context, img, o)
	if err != nil {
		return err
	}
	return p.printSquashed(c, squashed, done)
}

// layerIndex reads which layer of an image is meant: by its number, or by the
// beginning of its diffID.
func layerIndex(c *cli.Context, img layerstore.Image, layer string) (int, error) {
	if n, err := strconv.Atoi(layer); err == nil && n >= 0 && n < len(img.Layers) {
		return n, nil
	}
	digits := strings.TrimPrefix(layer, "sha256:")
	for i, d := range img.Layers {
		if digits != "" && strings.HasPrefix(d.Hex(), digits) {
			return i, nil
		}
	}
	return 0, wrongUsage(c, "--from %s: the image has layers 0 to %d", layer, len(img.Layers)-1)
}

func (p *program) printSquashed(c *cli.Context, img layerstore.Image, done layerstore.Squashed) error {
	j := squashedJSON{
		ID: string(img.ID), Digest: string(img.Digest), Layer: string(done.Layer.DiffID), Merged: []string{},
		BytesBefore: done.Before, BytesAfter: done.After, LostSharing: []lostShareJSON{},
	}
	for _, l := range done.Merged {
		j.Merged = append(j.Merged, string(l.DiffID))
	}
	for _, l := range done.LostShares {
		lost := lostShareJSON{Layer: string(l.DiffID), Bytes: l.TarSize}
		for _, other := range l.Images {
			lost.Images = append(lost.Images, shownName(other, string(other.ID)))
		}
		j.LostSharing = append(j.LostSharing, lost)
	}
	if c.Bool("json") {
		return p.printJSON(j)
	}
	saved := fmt.Sprintf("saved %s", size(j.BytesBefore-j.BytesAfter))
	if j.BytesAfter > j.BytesBefore {
		saved = fmt.Sprintf("%s more than before", size(j.BytesAfter-j.BytesBefore))
	}
	fmt.Fprintf(p.Stderr, "%s in one: %s (%s -> %s)\n", count(len(j.Merged), "layer", "layers"), saved, size(j.BytesBefore), size(j.BytesAfter))
	for _, l := range j.LostSharing {
		fmt.Fprintf(p.Stderr, "no longer shared with %s: layer %s (%s)\n", strings.Join(l.Images, ", "), oci.DiffID(l.Layer).Short(), size(l.Bytes))
	}
	return p.println(j.ID)
}
