package main

import (
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

// historyJSON is one element of the list that history --json prints.
type historyJSON struct {
	Layer     string     `json:"layer,omitempty"` // diffID; none if the step made no layer
	Created   *time.Time `json:"created,omitempty"`
	CreatedBy string     `json:"createdBy,omitempty"`
	Comment   string     `json:"comment,omitempty"`
	FileBytes int64      `json:"fileBytes"` // the sizes of the layer's files added up
}

func historyCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:        "history",
		Usage:       "show the steps that made an image, the last one first",
		ArgsUsage:   "IMAGE",
		Description: `A step without a layer changed only the image's config.`,
		Flags:       []cli.Flag{jsonFlag(), noTruncFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			store, img, err := p.findImage(c.Args().First())
			if err != nil {
				return err
			}
			steps, err := imageHistory(store, img)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return p.printJSON(steps)
			}
			t := newTable("LAYER", "CREATED", "CREATED BY", "SIZE", "COMMENT")
			for _, s := range steps {
				layer, by := "", shownText(strings.Join(strings.Fields(s.CreatedBy), " "))
				if s.Layer != "" {
					layer = oci.DiffID(s.Layer).Short()
				}
				if c.Bool("no-trunc") {
					layer = s.Layer
				} else {
					by = shorten(by, 45)
				}
				created := "N/A"
				if s.Created != nil {
					created = ago(*s.Created)
				}
				t.AppendRow([]any{layer, created, by, size(s.FileBytes), shownText(s.Comment)})
			}
			return p.printTable(t)
		},
	}
}

// imageHistory pairs the steps in the config with the layers, topmost first.
func imageHistory(store *layerstore.Store, img layerstore.Image) ([]historyJSON, error) {
	config, err := oci.ParseConfig(img.Config)
	if err != nil {
		return nil, err
	}
	steps := []historyJSON{}
	layers := img.Layers
	for _, h := range config.History {
		s := historyJSON{Created: h.Created, CreatedBy: h.CreatedBy, Comment: h.Comment}
		if !h.EmptyLayer && len(layers) > 0 {
			s.Layer, layers = string(layers[0]), layers[1:]
		}
		steps = append(steps, s)
	}
	for _, id := range layers { // those that nobody wrote a line for
		steps = append(steps, historyJSON{Layer: string(id)})
	}
	for i, s := range steps {
		if s.Layer == "" {
			continue
		}
		l, err := store.Layer(oci.DiffID(s.Layer))
		if err != nil {
			return nil, err
		}
		steps[i].FileBytes = l.Info().Bytes
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	slices.Reverse(steps)
	return steps, nil
}

// shorten cuts text to at most n characters.
func shorten(text string, n int) string {
	runes := []rune(text)
	if len(runes) <= n {
		return text
	}
	return string(runes[:n-1]) + "…"
}
