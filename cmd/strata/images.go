package main

import (
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

// imageJSON is one element of the list that images --json prints.
type imageJSON struct {
	References  []string  `json:"references"`
	ID          string    `json:"id"`     // digest of the config
	Digest      string    `json:"digest"` // of the manifest
	Created     time.Time `json:"created"`
	Layers      []string  `json:"layers"`      // diffIDs, base first
	Files       int       `json:"files"`       // in all layers
	FileBytes   int64     `json:"fileBytes"`   // their sizes added up
	OwnBytes    int64     `json:"ownBytes"`    // on disk: contents that no other image needs
	SharedBytes int64     `json:"sharedBytes"` // on disk: contents that others need, too
}

func imagesCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "images",
		Usage:     "list images",
		ArgsUsage: "[-q | --tree]",
		Description: `SIZE is what the files of all layers add up to. OWN is what the image takes on
disk alone, and what would be free without it; SHARED is what other images need
as well.

--tree shows which image stands on which layers: what is to the left is shared by
all that hangs from it. Contents are shared besides, wherever they are equal, so
OWN can be less than the layers that an image has alone.`,
		Flags: []cli.Flag{
			jsonFlag(), noTruncFlag(),
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print ids only"},
			&cli.BoolFlag{Name: "tree", Usage: "show the tree of layers that the images stand on"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			store, err := p.openStore()
			if err != nil {
				return err
			}
			if c.Bool("quiet") {
				if c.Bool("tree") {
					return wrongUsage(c, "-q and --tree exclude each other")
				}
				return p.printImageIDs(store, c.Bool("no-trunc"))
			}
			usage, err := store.Usage(c.Context)
			if err != nil {
				return err
			}
			switch {
			case c.Bool("tree"):
				return p.printImageTree(growTree(usage), c.Bool("json"), c.Bool("no-trunc"))
			case c.Bool("json"):
				return p.printJSON(imagesJSON(usage.Images))
			}
			t := newTable("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "OWN", "SHARED")
			for _, u := range usage.Images {
				for _, ref := range refsOf(u.Image) {
					id := u.Image.ID.Short()
					if c.Bool("no-trunc") {
						id = string(u.Image.ID)
					}
					t.AppendRow([]any{ref.repository, ref.tag, id, ago(u.Image.Created),
						size(u.FileBytes), size(u.Own.Bytes), size(u.Shared.Bytes)})
				}
			}
			return p.printTable(t)
		},
	}
}

func (p *program) printImageIDs(store *layerstore.Store, whole bool) error {
	images, err := store.Images()
	if err != nil {
		return err
	}
	for _, img := range images {
		id := img.ID.Short()
		if whole {
			id = string(img.ID)
		}
		if err := p.println(id); err != nil {
			return err
		}
	}
	return nil
}

func imagesJSON(list []layerstore.ImageUsage) []imageJSON {
	shown := []imageJSON{}
	for _, u := range list {
		shown = append(shown, imageJSON{
			References: familiar(u.Image.Refs), ID: string(u.Image.ID), Digest: string(u.Image.Digest),
			Created: u.Image.Created, Layers: diffIDStrings(u.Image.Layers), Files: u.Files, FileBytes: u.FileBytes,
			OwnBytes: u.Own.Bytes, SharedBytes: u.Shared.Bytes,
		})
	}
	return shown
}

// shownRef is a reference in two columns.
type shownRef struct{ repository, tag string }

// refsOf returns at least one: an image without a name is <none>, as docker
// shows it.
func refsOf(img layerstore.Image) []shownRef {
	const none = "<none>"
	if len(img.Refs) == 0 {
		return []shownRef{{none, none}}
	}
	var refs []shownRef
	for _, ref := range img.Refs {
		r := shownRef{repository: strings.TrimSuffix(ref.Familiar(), "@"+string(ref.Digest())), tag: none}
		if ref.Tag() != "" {
			r.repository, r.tag = strings.TrimSuffix(r.repository, ":"+ref.Tag()), ref.Tag()
		}
		refs = append(refs, r)
	}
	return refs
}

func familiar(refs []oci.Reference) []string {
	shown := []string{}
	for _, ref := range refs {
		shown = append(shown, ref.Familiar())
	}
	return shown
}

func diffIDStrings(ids []oci.DiffID) []string {
	shown := []string{}
	for _, id := range ids {
		shown = append(shown, string(id))
	}
	return shown
}

// shownName is how an image that was found by name is called: by the reference
// that name is, by one of its references, or by its id.
func shownName(img layerstore.Image, name string) string {
	if ref, err := oci.ParseReference(name); err == nil {
		for _, r := range img.Refs {
			if r == ref {
				return r.Familiar()
			}
		}
	}
	if len(img.Refs) > 0 {
		return img.Refs[0].Familiar()
	}
	return img.ID.Short()
}
