package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"strata/layerstore"
)

// wasteJSON is what waste --json prints.
type wasteJSON struct {
	Bytes  int64            `json:"bytes"` // of all
	Layers []wasteLayerJSON `json:"layers"`
	Files  []wastedFileJSON `json:"files"` // the largest first
}

// wasteLayerJSON adds up what one layer carries.
type wasteLayerJSON struct {
	Index       int    `json:"index"`
	DiffID      string `json:"diffID"`
	FileBytes   int64  `json:"fileBytes"` // of all its files
	Overwritten int64  `json:"overwritten"`
	Deleted     int64  `json:"deleted"`
	Twice       int64  `json:"twice"`
}

type wastedFileJSON struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Why   string `json:"why"` // overwritten, deleted, twice
	Layer int    `json:"layer"`
	By    int    `json:"by"`              // the layer that hides it, or has the other
	Other string `json:"other,omitempty"` // path of the same contents
}

func wasteCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "waste",
		Usage:     "find what an image carries and never shows",
		ArgsUsage: "[--all] IMAGE",
		Description: `Files whose bytes are of no use: overwritten or deleted by a layer above, or seen
with the same contents elsewhere (twice; hard links do not count). Sizes are those
of contents. This store keeps equal contents once; registries do not.

Example:
   strata waste shop/web:1`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "list all files, and not only the largest"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			store, img, err := p.findImage(c.Args().First())
			if err != nil {
				return err
			}
			w, err := findWaste(c, store, img)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return p.printJSON(w)
			}
			return p.printWaste(w, c.Bool("all"))
		},
	}
}

func findWaste(c *cli.Context, store *layerstore.Store, img layerstore.Image) (wasteJSON, error) {
	w := wasteJSON{Layers: []wasteLayerJSON{}, Files: []wastedFileJSON{}}
	for i, d := range img.Layers {
		l, err := store.Layer(d)
		if err != nil {
			return w, err
		}
		w.Layers = append(w.Layers, wasteLayerJSON{Index: i, DiffID: string(d), FileBytes: l.Info().Bytes})
		if err := l.Close(); err != nil {
			return w, err
		}
	}
	files, err := store.Waste(c.Context, img)
	if err != nil {
		return w, err
	}
	for _, f := range files {
		w.Bytes += f.Bytes
		l := &w.Layers[f.Layer]
		*map[layerstore.Waste]*int64{layerstore.Overwritten: &l.Overwritten, layerstore.Deleted: &l.Deleted, layerstore.Twice: &l.Twice}[f.Why] += f.Bytes
		w.Files = append(w.Files, wastedFileJSON{Path: f.Path, Bytes: f.Bytes, Why: string(f.Why), Layer: f.Layer, By: f.By, Other: f.Other})
	}
	slices.SortStableFunc(w.Files, func(a, b wastedFileJSON) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Layer, b.Layer), cmp.Compare(a.Path, b.Path))
	})
	return w, nil
}

// shownWaste is how many files are listed.
const shownWaste = 20

func (p *program) printWaste(w wasteJSON, all bool) error {
	t := newTable("#", "LAYER", "FILES", "OVERWRITTEN", "DELETED", "TWICE")
	for _, l := range slices.Backward(w.Layers) {
		t.AppendRow([]any{l.Index, l.DiffID[len("sha256:"):][:12], size(l.FileBytes), size(l.Overwritten), size(l.Deleted), size(l.Twice)})
	}
	if err := p.printTable(t); err != nil {
		return err
	}
	if len(w.Files) == 0 {
		return p.println("nothing is wasted")
	}
	list := w.Files
	if !all && len(list) > shownWaste {
		list = list[:shownWaste]
	}
	t = newTable("SIZE", "LAYER", "WHY", "PATH")
	for _, f := range list {
		why := fmt.Sprintf("%s by layer %d", f.Why, f.By)
		if f.Other != "" {
			why = fmt.Sprintf("twice: also %s of layer %d", shownText(f.Other), f.By)
		}
		t.AppendRow([]any{size(f.Bytes), f.Layer, why, shownText(f.Path)})
	}
	if err := p.println(""); err != nil {
		return err
	}
	if err := p.printTable(t); err != nil {
		return err
	}
	rest := ""
	if n := len(w.Files) - len(list); n > 0 {
		rest = fmt.Sprintf(" (%s not shown: --all)", count(n, "file", "files"))
	}
	return p.println(fmt.Sprintf("total: %s in %s%s", size(w.Bytes), count(len(w.Files), "file", "files"), rest))
}
