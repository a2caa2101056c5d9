package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
	"strata/internal/oci"
	"strata/layerstore"
)

// layerJSON is one element of the list that layers --json prints, base first.
type layerJSON struct {
	Index      int      `json:"index"` // base is 0
	DiffID     string   `json:"diffID"`
	TarBytes   int64    `json:"tarBytes"` // of the uncompressed tar
	Entries    int      `json:"entries"`
	Files      int      `json:"files"`
	FileBytes  int64    `json:"fileBytes"`
	Sources    []string `json:"sources"`            // digests of blobs that the layer was read from
	SharedWith []string `json:"sharedWith"`         // other images that list it
	Checkout   string   `json:"checkout,omitempty"` // where it has been checked out
}

func layersCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "layers",
		Usage:     "list the layers of an image or a container, topmost first",
		ArgsUsage: "IMAGE|CONTAINER [--checkout DIR]",
		Description: `With --checkout, each layer is also written as a plain directory below DIR, as
the kernel's overlayfs takes it: whiteouts as devices 0:0, opaque directories as
trusted.overlay.opaque. The lowerdir= to mount them with is printed last. Needs
root. JSON lists the base first, as OCI does.

Examples:
   strata layers nginx:1
   strata layers nginx:1 --checkout /tmp/nginx`,
		Flags: []cli.Flag{
			jsonFlag(), noTruncFlag(),
			&cli.StringFlag{Name: "checkout", Usage: "write each layer into a directory below `DIR`"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			s, err := p.findSubject(c.Args().First())
			if err != nil {
				return err
			}
			list, err := p.listLayers(s)
			if err != nil {
				return err
			}
			if dir := c.String("checkout"); dir != "" {
				if err := p.checkout(c, s, list, dir); err != nil {
					return err
				}
			}
			if c.Bool("json") {
				return p.printJSON(list)
			}
			return p.printLayers(list, c.Bool("no-trunc"))
		},
	}
}

// listLayers describes the layers, base first.
func (p *program) listLayers(s subject) ([]layerJSON, error) {
	images, err := p.store.Images()
	if err != nil {
		return nil, err
	}
	list := []layerJSON{}
	for i, id := range s.layers {
		l, err := p.store.Layer(id)
		if err != nil {
			return nil, err
		}
		info := l.Info()
		if err := l.Close(); err != nil {
			return nil, err
		}
		j := layerJSON{
			Index: i, DiffID: string(id), TarBytes: info.TarSize, Entries: info.Entries, Files: info.Files,
			FileBytes: info.Bytes, Sources: []string{}, SharedWith: sharedWith(images, s, id),
		}
		for _, src := range info.Sources {
			j.Sources = append(j.Sources, string(src.Digest))
		}
		list = append(list, j)
	}
	return list, nil
}

// sharedWith names the images, other than s itself, that list the layer.
func sharedWith(images []layerstore.Image, s subject, id oci.DiffID) []string {
	names := []string{}
	for _, img := range images {
		name := shownName(img, s.title)
		if name != s.title && slices.Contains(img.Layers, id) {
			names = append(names, name)
		}
	}
	return names
}

func (p *program) printLayers(list []layerJSON, whole bool) error {
	t := newTable("#", "LAYER", "ENTRIES", "FILES", "SIZE", "SHARED WITH")
	for _, l := range slices.Backward(list) {
		id, shared := oci.DiffID(l.DiffID).Short(), strings.Join(l.SharedWith, ", ")
		if whole {
			id = l.DiffID
		} else {
			shared = shorten(shared, 40)
		}
		t.AppendRow([]any{l.Index, id, l.Entries, l.Files, size(l.FileBytes), shared})
	}
	if err := p.printTable(t); err != nil {
		return err
	}
	var dirs []string // base first
	for _, l := range list {
		if l.Checkout != "" {
			dirs = append(dirs, l.Checkout)
		}
	}
	if len(dirs) == 0 {
		return nil
	}
	return p.println(container.TopmostFirst(dirs).String())
}

// checkout writes the layers below dir and notes in list where each one is.
func (p *program) checkout(c *cli.Context, s subject, list []layerJSON, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	layers, err := s.open(p.store, false)
	if err != nil {
		return err
	}
	defer layers.Close()
	for i := range list {
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", i, s.layers[i].Short()))
		if err := container.Checkout(c.Context, layers.trees[:i+1], to); err != nil {
			return err
		}
		list[i].Checkout = to
	}
	return nil
}
