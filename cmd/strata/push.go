package main

import (
	"slices"
	"sync"

	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

// pushedJSON is what push --json prints.
type pushedJSON struct {
	Reference   string       `json:"reference"`
	ID          string       `json:"id"`     // digest of the config
	Digest      string       `json:"digest"` // of the manifest
	SentLayers  int          `json:"sentLayers"`
	KnownLayers int          `json:"knownLayers"` // that the registry had, or found in another repository
	SentBytes   int64        `json:"sentBytes"`
	Remade      []remadeJSON `json:"remade"`
}

func pushCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "push",
		Usage:     "send an image to a registry",
		ArgsUsage: "IMAGE",
		Description: `IMAGE is [HOST/]NAME[:TAG]: where it goes, and what it is called here; "strata
tag" gives an image such a name. Blobs that the registry has are not sent again,
and the image appears under its tag when all of it is there. Manifest and blobs
have the digests with which they were pulled or loaded. Where a blob was not kept
(--keep-blobs never) and the registry lacks it, another is made, and push says
which digest the manifest has then.

` + registryHelp + `

Example:
   strata tag debian:12 localhost:5000/debian:12
   strata push localhost:5000/debian:12`,
		Flags: []cli.Flag{jsonFlag(), quietFlag(), plainHTTPFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			return p.push(c)
		},
	}
}

func (p *program) push(c *cli.Context) error {
	name := c.Args().First()
	ref, err := p.parseReference(name)
	if err != nil {
		return err
	}
	if ref.Tag() == "" || ref.Digest() != "" {
		return wrongUsage(c, "%s names a digest, which the registry gives: name a tag (strata tag gives an image one)", name)
	}
	store, err := p.openStore()
	if err != nil {
		return err
	}
	if img, err := store.Image(p.imageName(name)); err != nil {
		return err
	} else if !slices.Contains(img.Refs, ref) {
		return wrongUsage(c, "%s is not a name of an image, which would say where it goes: give it one with strata tag", name)
	}
	r := p.registries(c)
	holders, err := blobHolders(store)
	if err != nil {
		return err
	}
	img, remade, err := p.exported(c, name, layerstore.ExportOptions{Elsewhere: r.FindBlobs(ref, holders)})
	if err != nil {
		return err
	}
	result := pushedJSON{Reference: ref.Familiar(), ID: string(img.ID()), Digest: string(img.Digest()), Remade: remade}
	o, end := p.pushOptions(img, &result, !c.Bool("quiet"))
	o.From = holders
	err = r.Push(c.Context, ref, img, o)
	end()
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.printJSON(result)
	}
	if err := p.println("Pushed image: " + ref.Familiar()); err != nil {
		return err
	}
	return p.println("Digest: " + result.Digest)
}

// pushOptions count what is sent, and show it. end must be called when all has
// been sent.
func (p *program) pushOptions(img *oci.Image, result *pushedJSON, show bool) (o oci.PushOptions, end func()) {
	bars := &progress{} // of no layers
	end = func() {}
	if show {
		bars = p.newProgress()
		end = bars.end
	}
	layers := map[oci.Digest]oci.Layer{}
	for _, l := range img.Layers {
		layers[l.Digest] = l
		if show {
			bars.add(l, "")
		}
	}
	var mu sync.Mutex // guards result
	o.Progress = func(d oci.Digest, n int64) { bars.move(layers[d].DiffID, n) }
	o.Done = func(d oci.Digest, had bool) {
		mu.Lock()
		defer mu.Unlock()
		if had {
			result.KnownLayers++
			bars.finish(layers[d].DiffID, "known")
			return
		}
		result.SentLayers++
		result.SentBytes += layers[d].Size
		bars.finish(layers[d].DiffID, "sent")
	}
	return o, end
}

// blobHolders tells by which names images have a blob: a registry that has one
// of them may have it, too.
func blobHolders(store *layerstore.Store) (func(oci.Digest) []oci.Reference, error) {
	images, err := store.Images()
	if err != nil {
		return nil, err
	}
	holders := map[oci.Digest][]oci.Reference{}
	for _, img := range images {
		m, err := oci.ParseManifest(img.Manifest, img.ManifestType)
		if err != nil {
			return nil, err
		}
		for _, d := range append(m.Layers, m.Config) {
			holders[d.Digest] = append(holders[d.Digest], img.Refs...)
		}
	}
	return func(d oci.Digest) []oci.Reference { return holders[d] }, nil
}
