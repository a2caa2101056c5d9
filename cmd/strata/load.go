package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

// loadedJSON is one element of the list that load --json prints.
type loadedJSON struct {
	References  []string `json:"references"`
	ID          string   `json:"id"`     // digest of the config
	Digest      string   `json:"digest"` // of the manifest
	NewLayers   int      `json:"newLayers"`
	KnownLayers int      `json:"knownLayers"`
	Files       int      `json:"files"` // in the new layers
	FileBytes   int64    `json:"fileBytes"`
	NewContents int      `json:"newContents"` // of those, contents that the store did not have
	NewBytes    int64    `json:"newBytes"`
}

func loadCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "load",
		Usage:     "load the images of an archive",
		ArgsUsage: "PATH|- [IMAGE]",
		Description: `PATH is an OCI image layout (a directory or a tar) or an archive of docker save,
also compressed with gzip or zstd; - is standard input. All images in it are
loaded, or just IMAGE. A layer that is known is not read again; a file whose
contents are known, in whatever layer, is not stored again.

` + keepBlobsHelp + `

Examples:
   strata load debian.tar.zst
   strata load ./layout nginx:1
   docker save redis | strata load -`,
		Flags: []cli.Flag{
			jsonFlag(), quietFlag(), keepBlobsFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 2); err != nil {
				return err
			}
			return p.load(c)
		},
	}
}

func (p *program) load(c *cli.Context) error {
	keep, err := keepBlobs(c)
	if err != nil {
		return err
	}
	store, err := p.openStore()
	if err != nil {
		return err
	}
	archive, err := oci.OpenArchive(c.Context, c.Args().Get(0), oci.ArchiveOptions{})
	if err != nil {
		return err
	}
	defer archive.Close()
	images, unusable := archive.Images()
	if c.NArg() == 2 {
		ref, err := p.parseReference(c.Args().Get(1))
		if err != nil {
			return err
		}
		img, err := archive.Image(ref)
		if err != nil {
			return err
		}
		// The others' troubles are none of this one's, nor are its other names.
		one := *img
		one.Refs = []oci.Reference{ref}
		images, unusable = []*oci.Image{&one}, nil
	}
	loaded := []loadedJSON{}
	for _, img := range images {
		l, err := p.loadImage(c.Context, store, img, layerstore.AddOptions{KeepBlobs: keep}, !c.Bool("quiet"))
		if err != nil {
			return errors.Join(err, unusable)
		}
		loaded = append(loaded, l)
		if !c.Bool("json") {
			if err := p.printLoaded("Loaded", l); err != nil {
				return err
			}
		}
	}
	if c.Bool("json") {
		if err := p.printJSON(loaded); err != nil {
			return err
		}
	}
	return unusable
}

func (p *program) loadImage(ctx context.Context, store *layerstore.Store, img *oci.Image, o layerstore.AddOptions, show bool) (loadedJSON, error) {
	if show {
		bars := p.newLoadProgress(store, img)
		defer bars.end()
		o.Progress = bars.move
	}
	added, stats, err := store.AddImage(ctx, img, o)
	if err != nil {
		return loadedJSON{}, err
	}
	l := loadedJSON{
		References: []string{}, ID: string(added.ID), Digest: string(added.Digest),
		NewLayers: stats.Layers, KnownLayers: stats.KnownLayers,
		Files: stats.Files, FileBytes: stats.Bytes, NewContents: stats.Objects, NewBytes: stats.ObjectBytes,
	}
	for _, ref := range img.Refs {
		l.References = append(l.References, ref.Familiar())
	}
	return l, nil
}

// printLoaded says which image has come, verb being how.
func (p *program) printLoaded(verb string, l loadedJSON) error {
	detail := "all layers known"
	if l.NewLayers > 0 {
		detail = fmt.Sprintf("%s of %d new: %s with %s, of which %s with %s are new",
			count(l.NewLayers, "layer", "layers"), l.NewLayers+l.KnownLayers,
			count(l.Files, "file", "files"), size(l.FileBytes),
			count(l.NewContents, "content", "contents"), size(l.NewBytes))
	}
	for _, ref := range l.References {
		if err := p.println(fmt.Sprintf("%s image: %s (%s)", verb, ref, detail)); err != nil {
			return err
		}
	}
	if len(l.References) == 0 {
		return p.println(fmt.Sprintf("%s image ID: %s (%s)", verb, l.ID, detail))
	}
	return nil
}
