package main

import (
	"fmt"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

// dfJSON is what df --json prints. Bytes are allocated blocks, as du counts
// them, unless they are called fileBytes.
type dfJSON struct {
	Root       string          `json:"root"`
	Kinds      []kindJSON      `json:"kinds"` // they add up to Total
	Total      kindJSON        `json:"total"`
	Images     []imageJSON     `json:"images"`
	Layers     []dfLayerJSON   `json:"layers"`
	Containers []containerJSON `json:"containers"`
}

// kindJSON is one kind of thing in the store.
type kindJSON struct {
	Kind   string `json:"kind"`
	Count  int    `json:"count,omitempty"`
	Bytes  int64  `json:"bytes"`
	Inodes int    `json:"inodes"`
	Own    *int64 `json:"ownBytes,omitempty"`    // needed by one image alone
	Shared *int64 `json:"sharedBytes,omitempty"` // needed by several
	Unused *int64 `json:"unusedBytes,omitempty"` // needed by none
}

// dfLayerJSON is one layer's part. Own and shared are against other layers.
type dfLayerJSON struct {
	DiffID      string `json:"diffID"`
	Images      int    `json:"images"` // that list it
	Files       int    `json:"files"`
	FileBytes   int64  `json:"fileBytes"`
	OwnBytes    int64  `json:"ownBytes"`
	SharedBytes int64  `json:"sharedBytes"`
	TreeBytes   int64  `json:"treeBytes"`
	RecipeBytes int64  `json:"recipeBytes"`
	BlobBytes   int64  `json:"blobBytes"`
}

func dfCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "df",
		Usage:     "show what takes up the disk, what is shared and what is each one's own",
		ArgsUsage: "[-v]",
		Description: `SIZE is allocated blocks; the total is what du says of the store. OWN is needed
by one image alone, SHARED by several, UNUSED by none.

   contents     file contents, each stored once
   layers       names and attributes, and what gives the exact tars back
   kept blobs   blobs of layers that nothing else gives back bit for bit
   chains       layers stacked; made again when needed
   images       manifests and configs
   containers   what containers have written

-v lists images, layers and containers one by one.`,
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "list images, layers and containers"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			store, err := p.openStore()
			if err != nil {
				return err
			}
			usage, err := store.Usage(c.Context)
			if err != nil {
				return err
			}
			containers, err := p.listContainers()
			if err != nil {
				return err
			}
			d := diskFree(usage, containers)
			d.Root = store.Root()
			if c.Bool("json") {
				return p.printJSON(d)
			}
			if err := p.printTable(kindTable(d)); err != nil || !c.Bool("verbose") {
				return err
			}
			return p.printDetails(d)
		},
	}
}

// diskFree arranges what the store has measured.
func diskFree(u layerstore.Usage, containers []containerJSON) dfJSON {
	d := dfJSON{Images: imagesJSON(u.Images), Layers: []dfLayerJSON{}, Containers: containers}
	var own, layersOwn, layersShared, layersUnused int64
	for _, img := range u.Images {
		own += img.Own.Bytes
	}
	for _, l := range u.Layers {
		d.Layers = append(d.Layers, dfLayerJSON{
			DiffID: string(l.DiffID), Images: l.Images, Files: l.Files, FileBytes: l.FileBytes,
			OwnBytes: l.Own.Bytes, SharedBytes: l.Shared.Bytes,
			TreeBytes: l.Tree.Bytes, RecipeBytes: l.Recipe.Bytes, BlobBytes: l.Blobs.Bytes,
		})
		switch n := l.Tree.Bytes + l.Recipe.Bytes; {
		case l.Images == 0:
			layersUnused += n
		case l.Images == 1:
			layersOwn += n
		default:
			layersShared += n
		}
	}
	layers := plus(u.Trees, u.Recipes)
	contents := kind("contents", u.Objects.Inodes-u.FanOut.Inodes, u.Objects)
	contents.Own = &own
	contents.Unused = &u.LooseObjects.Bytes
	contents.Shared = rest(u.Objects.Bytes, own, u.LooseObjects.Bytes) // with the directories, which all share
	layerKind := kind("layers", len(u.Layers), layers)
	layerKind.Own, layerKind.Unused = &layersOwn, &layersUnused
	layerKind.Shared = rest(layers.Bytes, layersOwn, layersUnused)
	d.Kinds = []kindJSON{
		contents, layerKind,
		kind("kept blobs", u.Blobs.Inodes, u.Blobs),
		kind("chains", 0, u.Chains),
		kind("images", len(u.Images), u.Documents),
		kind("containers", len(containers), u.Containers),
		kind("other", 0, plus(u.Staging, u.Other)),
	}
	d.Total = kind("total", 0, u.Total)
	return d
}

func kind(name string, count int, d layerstore.Disk) kindJSON {
	return kindJSON{Kind: name, Count: count, Bytes: d.Bytes, Inodes: d.Inodes}
}

func plus(a, b layerstore.Disk) layerstore.Disk {
	return layerstore.Disk{Bytes: a.Bytes + b.Bytes, Inodes: a.Inodes + b.Inodes}
}

func rest(all int64, parts ...int64) *int64 {
	for _, n := range parts {
		all -= n
	}
	return &all
}

func kindTable(d dfJSON) table.Writer {
	t := newTable("TYPE", "COUNT", "OWN", "SHARED", "UNUSED", "SIZE", "INODES")
	for _, k := range append(d.Kinds, d.Total) {
		n := ""
		switch k.Kind {
		case "chains", "other", "total":
		default:
			n = fmt.Sprint(k.Count)
		}
		t.AppendRow([]any{k.Kind, n, optionalSize(k.Own), optionalSize(k.Shared), optionalSize(k.Unused), size(k.Bytes), k.Inodes})
	}
	return t
}

func optionalSize(n *int64) string {
	if n == nil {
		return ""
	}
	return size(*n)
}

func (p *program) printDetails(d dfJSON) error {
	images := newTable("IMAGE", "FILES", "SIZE", "OWN", "SHARED")
	for _, i := range d.Images {
		name := strings.Join(i.References, ", ")
		if name == "" {
			name = i.ID
		}
		images.AppendRow([]any{name, i.Files, size(i.FileBytes), size(i.OwnBytes), size(i.SharedBytes)})
	}
	layers := newTable("LAYER", "IMAGES", "FILES", "SIZE", "OWN", "SHARED", "TREE", "RECIPE", "BLOBS")
	for _, l := range d.Layers {
		layers.AppendRow([]any{oci.DiffID(l.DiffID).Short(), l.Images, l.Files, size(l.FileBytes), size(l.OwnBytes), size(l.SharedBytes),
			size(l.TreeBytes), size(l.RecipeBytes), size(l.BlobBytes)})
	}
	containers := newTable("CONTAINER", "IMAGE", "UPPER", "INODES")
	for _, c := range d.Containers {
		containers.AppendRow([]any{c.Name, c.Reference, size(c.UpperBytes), c.UpperNodes})
	}
	for _, t := range []struct {
		title string
		table table.Writer
	}{
		{"Images (OWN and SHARED against other images)", images},
		{"Layers (OWN and SHARED against other layers)", layers},
		{"Containers", containers},
	} {
		if t.table.Length() == 0 {
			continue
		}
		if err := p.println("\n" + t.title); err != nil {
			return err
		}
		if err := p.printTable(t.table); err != nil {
			return err
		}
	}
	return nil
}
