package main

import (
	"errors"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
	"strata/internal/oci"
	"strata/layerstore"
)

// inspectedImage is what inspect prints of an image: what docker inspect prints
// of one, by the same names, as far as there is such a thing here; and Digest,
// MediaType, Chain and Layers.
type inspectedImage struct {
	Kind         string `json:"Kind"` // image
	ID           string `json:"Id"`   // digest of the config
	RepoTags     []string
	RepoDigests  []string
	Digest       string // of the manifest
	MediaType    string // of the manifest
	Created      *time.Time
	Author       string
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64 // of the files of all layers
	Config       oci.RunConfig
	RootFS       inspectedRootFS
	Chain        string // chainID of the layers
	Layers       []inspectedLayer
}

type inspectedRootFS struct {
	Type   string
	Layers []oci.DiffID // base first
}

// inspectedLayer is a layer and the blob that the manifest has for it.
type inspectedLayer struct {
	DiffID    string
	Digest    string // of the blob
	MediaType string
	BlobSize  int64
	Kept      bool  // whether the store can give that blob
	TarSize   int64 // of the uncompressed tar
	Files     int
	Size      int64 // of the files
}

// inspectedContainer is what inspect prints of a container.
type inspectedContainer struct {
	Kind        string `json:"Kind"` // container
	ID          string `json:"Id"`
	Name        string
	Created     time.Time
	Image       string // the image's id
	ImageName   string // what the image was called
	Manifest    string // digest of the image's manifest
	State       inspectedState
	Format      string // of the upper: kernel or user
	UpperDir    string
	WorkDir     string
	UpperBytes  int64 // on disk
	UpperInodes int64
	Chain       string       // chainID of the layers
	Layers      []oci.DiffID // base first
}

type inspectedState struct {
	Status     string // created, mounted or dead
	Mountpoint string `json:",omitempty"`
	Options    string `json:",omitempty"`
	Pid        int    `json:",omitempty"`
}

func inspectCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "inspect",
		Usage:     "print all that is known of images and containers, as JSON",
		ArgsUsage: "[--type image|container] NAME...",
		Description: `NAME is a container's name or id, or an image's reference or id; of both, the
container is meant. What docker inspect prints too is called as there.

Example:
   strata inspect debian:12 | jq -r '.[0].Config.Env[]'`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json", Usage: "accepted for those who are used to it: it always is"},
			&cli.StringFlag{Name: "type", Usage: "look only for an `image` or a container"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			kind := c.String("type")
			if kind != "" && kind != "image" && kind != "container" {
				return wrongUsage(c, "--type %q is not known, want image or container", kind)
			}
			found := []any{}
			var failed []error
			for _, name := range c.Args().Slice() {
				v, err := p.inspect(name, kind)
				if err != nil {
					failed = append(failed, err)
					continue
				}
				found = append(found, v)
			}
			return errors.Join(append([]error{p.printJSON(found)}, failed...)...)
		},
	}
}

// inspect describes what name is; kind is empty, image or container.
func (p *program) inspect(name, kind string) (any, error) {
	containers, err := p.openContainers()
	if err != nil {
		return nil, err
	}
	if kind != "image" {
		ct, err := containers.Find(name)
		if err == nil {
			return inspectContainer(ct)
		}
		if notFound := (*container.NotFoundError)(nil); kind == "container" || !errors.As(err, &notFound) {
			return nil, err
		}
	}
	img, err := p.store.Image(p.imageName(name))
	if err != nil {
		return nil, err
	}
	return inspectImage(p.store, img)
}

func inspectImage(store *layerstore.Store, img layerstore.Image) (*inspectedImage, error) {
	config, err := oci.ParseConfig(img.Config)
	if err != nil {
		return nil, err
	}
	manifest, err := oci.ParseManifest(img.Manifest, img.ManifestType)
	if err != nil {
		return nil, err
	}
	v := &inspectedImage{
		Kind: "image", ID: string(img.ID), RepoTags: []string{}, RepoDigests: []string{},
		Digest: string(img.Digest), MediaType: img.ManifestType, Created: config.Created, Author: config.Author,
		Architecture: config.Architecture, Variant: config.Variant, Os: config.OS, Config: config.Config,
		RootFS: inspectedRootFS{Type: config.RootFS.Type, Layers: config.RootFS.DiffIDs},
		Chain:  string(oci.Chain(img.Layers)), Layers: []inspectedLayer{},
	}
	for _, ref := range img.Refs {
		if ref.Tag() != "" {
			v.RepoTags = append(v.RepoTags, ref.Familiar())
		}
		d := ref.FamiliarRepository() + "@" + string(img.Digest)
		if !slices.Contains(v.RepoDigests, d) { // as two tags of one repository have it
			v.RepoDigests = append(v.RepoDigests, d)
		}
	}
	for i, d := range manifest.Layers {
		l, err := inspectLayer(store, config.RootFS.DiffIDs[i], d)
		if err != nil {
			return nil, err
		}
		v.Layers = append(v.Layers, l)
		v.Size += l.Size
	}
	return v, nil
}

func inspectLayer(store *layerstore.Store, diffID oci.DiffID, d oci.Descriptor) (inspectedLayer, error) {
	l, err := store.Layer(diffID)
	if err != nil {
		return inspectedLayer{}, err
	}
	info := l.Info()
	if err := l.Close(); err != nil {
		return inspectedLayer{}, err
	}
	kept := d.Digest.Hex() == diffID.Hex()
	for _, src := range info.Sources {
		kept = kept || src.Digest == d.Digest && src.Kept
	}
	return inspectedLayer{
		DiffID: string(diffID), Digest: string(d.Digest), MediaType: d.MediaType, BlobSize: d.Size, Kept: kept,
		TarSize: info.TarSize, Files: info.Files, Size: info.Bytes,
	}, nil
}

func inspectContainer(ct *container.Container) (*inspectedContainer, error) {
	state, err := ct.State()
	if err != nil {
		return nil, err
	}
	upper, err := ct.UpperSize()
	if err != nil {
		return nil, err
	}
	v := &inspectedContainer{
		Kind: "container", ID: string(ct.ID), Name: ct.Name, Created: ct.Created,
		Image: string(ct.Image), ImageName: ct.Reference, Manifest: string(ct.Manifest),
		State: inspectedState{Status: string(state.Status)}, Format: ct.Format,
		UpperDir: ct.UpperDir(), WorkDir: ct.WorkDir(),
		UpperBytes: upper.Bytes, UpperInodes: upper.Inodes, Chain: string(ct.Chain), Layers: ct.Layers,
	}
	if r := state.Record; r != nil {
		v.State.Mountpoint, v.State.Options, v.State.Pid = r.Mountpoint, r.Options, r.PID
	}
	return v, nil
}
