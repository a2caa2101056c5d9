package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

// parseReference reads a reference as the user means it: on the registry of his
// choice if he names none.
func (p *program) parseReference(s string) (oci.Reference, error) {
	return oci.ParseReferenceIn(p.registry, s)
}

// imageName is what the store knows an image by that the user calls name: with
// his registry in front if there is such an image.
func (p *program) imageName(name string) string {
	if p.registry == "" {
		return name
	}
	ref, err := p.parseReference(name)
	if err != nil {
		return name
	}
	store, err := p.openStore()
	if err != nil {
		return name
	}
	if img, err := store.Image(ref.String()); err != nil || !slices.Contains(img.Refs, ref) {
		return name
	}
	return ref.String()
}

// plainHTTPFlag is on every command that speaks to a registry.
func plainHTTPFlag() cli.Flag {
	return &cli.BoolFlag{Name: "plain-http", Usage: "speak http where the registry has no https (always allowed to this machine's own)"}
}

func (p *program) registries(c *cli.Context) *oci.Registries {
	return oci.NewRegistries(oci.RegistryOptions{PlainHTTP: c.Bool("plain-http"), Logger: p.log})
}

// registryHelp is for commands whose arguments name images of registries.
const registryHelp = `A name without a host is docker.io's, as docker has it (redis means
docker.io/library/redis:latest); --registry or STRATA_REGISTRY names another
host. Credentials are those of strata login, docker login and podman login.`

func keepBlobsFlag() cli.Flag {
	return &cli.StringFlag{Name: "keep-blobs", Value: "needed", Usage: "keep compressed layers as they came: `WHEN` is always, needed or never"}
}

// keepBlobsHelp explains keepBlobsFlag.
const keepBlobsHelp = `The store keeps a layer unpacked. So that push and save can give the image away
under the same digests, it also keeps each compressed blob that cannot be made
again from that (--keep-blobs needed; an uncompressed one always can). never
saves this room, and other blobs may have to be made later, with other digests;
always keeps uncompressed ones, too. "strata df" shows what kept blobs take up.`

func keepBlobs(c *cli.Context) (layerstore.KeepBlobs, error) {
	switch word := c.String("keep-blobs"); word {
	case "needed":
		return layerstore.KeepNeeded, nil
	case "never":
		return layerstore.KeepNever, nil
	case "always":
		return layerstore.KeepAlways, nil
	default:
		return 0, wrongUsage(c, "--keep-blobs %q is not known, want always, needed or never", word)
	}
}

// remadeJSON is a layer that went out in another blob than it came in.
type remadeJSON struct {
	Layer  int    `json:"layer"` // its index; base is 0
	DiffID string `json:"diffID"`
	Was    string `json:"was"` // digest of the blob that was not kept
	Is     string `json:"is"`
}

// tellRemade says which blobs of an image could not be given as they came.
func (p *program) tellRemade(img layerstore.Image, name string, out *oci.Image, remade []layerstore.Remade) []remadeJSON {
	list := []remadeJSON{}
	for _, r := range remade {
		fmt.Fprintf(p.Stderr, "strata: %s: layer %d of %d came as blob %s, which was not kept; it goes out as %s\n",
			name, r.Index, len(img.Layers), r.Was.Digest, r.Is.Digest)
		list = append(list, remadeJSON{Layer: r.Index, DiffID: string(r.DiffID), Was: string(r.Was.Digest), Is: string(r.Is.Digest)})
	}
	if len(remade) > 0 {
		fmt.Fprintf(p.Stderr, "strata: %s: so its manifest is %s, not %s; the image's id stays\n", name, out.Digest(), img.Digest)
	}
	return list
}

// exported is the image that the user calls name, under the one reference that
// this is, ready to leave the store.
func (p *program) exported(c *cli.Context, name string, o layerstore.ExportOptions) (*oci.Image, []remadeJSON, error) {
	store, err := p.openStore()
	if err != nil {
		return nil, nil, err
	}
	name = p.imageName(name)
	img, err := store.Image(name)
	if err != nil {
		return nil, nil, err
	}
	out, remade, err := store.Export(c.Context, img, o)
	if err != nil {
		return nil, nil, err
	}
	list := p.tellRemade(img, shownName(img, name), out, remade)
	out.Refs = nil // called by its id, it has no name
	if ref, err := oci.ParseReference(name); err == nil && slices.Contains(img.Refs, ref) {
		out.Refs = []oci.Reference{ref}
	}
	return out, list, nil
}

// registryHost reads a registry's host as docker login takes it.
func registryHost(c *cli.Context, s string) (string, error) {
	host := strings.TrimPrefix(s, "https://")
	host, _, _ = strings.Cut(host, "/")
	if strings.Contains(s, "://") && !strings.HasPrefix(s, "https://") {
		return "", wrongUsage(c, "a registry is named by its host, without a scheme; for http, add --plain-http")
	}
	if ref, err := oci.ParseReference(host + "/x"); err != nil || ref.Host() != host {
		return "", wrongUsage(c, "%q is not the host of a registry, such as registry.example or localhost:5000", s)
	}
	return host, nil
}
