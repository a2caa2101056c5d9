package layerstore

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// tellConsequences says of each damage what cannot be done because of it.
func (f *fsck) tellConsequences(ctx context.Context) error {
	needs, err := f.objectNeeds(ctx)
	if err != nil {
		return err
	}
	_, imagesErr := f.s.Images()
	_, containersErr := f.s.containers()
	f.blind = imagesErr != nil || containersErr != nil || len(f.badTrees) > 0
	for _, d := range f.damages {
		switch d.Kind {
		case "object":
			d.Consequence, d.needed = f.objectConsequence(needs[d.object])
		case "layer":
			d.Consequence, d.needed = f.layerConsequence(d)
		case "blob":
			d.Consequence, d.needed = f.blobConsequence(d)
		case "chain":
			d.Consequence, d.needed = f.chainConsequence(d)
		case "image":
			d.Consequence, d.needed = f.imageConsequence(d)
		case "leftover":
			d.Consequence = leftoverConsequence(d.Path)
		case "store":
			if d.Consequence == "" {
				d.Consequence = storeConsequence(d.Path)
			}
		}
	}
	return nil
}

// layerObject is what one layer needs an object for.
type layerObject struct {
	layer oci.DiffID
	need  *objectNeed
}

// objectNeeds finds out who needs the damaged objects. Layers that cannot be
// read are told of themselves.
func (f *fsck) objectNeeds(ctx context.Context) (map[tree.ObjectDigest][]layerObject, error) {
	needs := map[tree.ObjectDigest][]layerObject{}
	if len(f.badObjects) == 0 {
		return needs, nil
	}
	layers, _ := f.layersOnDisk()
	for _, layer := range layers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		need, err := f.s.layerNeed(layer, f.badObjects)
		if err != nil {
			continue
		}
		for d, n := range need {
			needs[d] = append(needs[d], layerObject{layer, n})
		}
	}
	return needs, nil
}

// users says which images and containers have a stack of layers that has is true
// of; empty if none do.
func (f *fsck) users(has func([]oci.DiffID) bool) string {
	images, _ := f.s.Images()
	containers, _, _ := f.s.findContainers()
	var names, boxes []string
	for _, image := range images {
		if has(image.Layers) {
			names = append(names, image.label())
		}
	}
	for _, c := range containers {
		if slices.ContainsFunc(c.held(), has) {
			boxes = append(boxes, c.label())
		}
	}
	var parts []string
	for _, part := range []struct {
		one, many string
		names     []string
	}{{"image", "images", names}, {"container", "containers", boxes}} {
		switch len(part.names) {
		case 0:
		case 1:
			parts = append(parts, part.one+" "+part.names[0])
		default:
			parts = append(parts, part.many+" "+strings.Join(part.names, ", "))
		}
	}
	return strings.Join(parts, " and ")
}

func (f *fsck) layerUsers(d oci.DiffID) string {
	return f.users(func(layers []oci.DiffID) bool { return slices.Contains(layers, d) })
}

// unneeded says that nobody needs something, as far as that can be known.
func (f *fsck) unneeded() (string, bool) {
	if f.blind {
		return "nothing that can be read needs it", false
	}
	return "nothing needs it: gc removes it", false
}

func (f *fsck) objectConsequence(needs []layerObject) (text string, needed bool) {
	var parts []string
	for _, n := range needs {
		users := f.layerUsers(n.layer)
		if users == "" {
			continue
		}
		if len(n.need.paths) == 0 {
			parts = append(parts, fmt.Sprintf("the tar of layer %s of %s cannot be given back", n.layer.Short(), users))
			continue
		}
		names := strings.Join(n.need.paths, ", ")
		if n.need.more > 0 {
			names += fmt.Sprintf(" and %d more", n.need.more)
		}
		parts = append(parts, fmt.Sprintf("%s of layer %s of %s cannot be read", names, n.layer.Short(), users))
	}
	if len(parts) == 0 {
		return f.unneeded()
	}
	return strings.Join(parts, "; "), true
}

func (f *fsck) layerConsequence(d *Damage) (string, bool) {
	users := f.layerUsers(d.layer)
	switch {
	case users == "":
		return f.unneeded()
	case d.file == recipeFile:
		return fmt.Sprintf("%s of layer %s cannot leave the store as it came, and gc does not run", users, d.layer.Short()), true
	}
	return fmt.Sprintf("layer %s of %s cannot be read or stacked, and gc does not run", d.layer.Short(), users), true
}

func (f *fsck) blobConsequence(d *Damage) (string, bool) {
	users := f.layerUsers(d.layer)
	if users == "" {
		return f.unneeded()
	}
	return fmt.Sprintf("%s cannot be pushed or saved with the digests that it came with", users), true
}

func (f *fsck) chainConsequence(d *Damage) (string, bool) {
	users := f.users(func(layers []oci.DiffID) bool { return oci.Chain(layers) == d.chain })
	if users == "" {
		return f.unneeded()
	}
	text := users + " cannot be mounted, or shows what is not there"
	if in := f.s.inUse(d.chain); len(in) > 0 {
		text += "; it is in use by " + strings.Join(in, ", ")
	}
	return text, true
}

func (f *fsck) imageConsequence(d *Damage) (string, bool) {
	if d.image == "" {
		if users := f.documentUsers(d.blob); len(users) > 0 {
			return fmt.Sprintf("image %s cannot be used, and gc does not run (strata rmi -f gives it up)", strings.Join(users, ", ")), true
		}
		return f.unneeded()
	}
	name := d.image.Short()
	if ix, err := f.s.readIndex(); err == nil {
		for _, e := range ix.Manifests {
			if e.Digest == d.image && e.ref() != "" {
				if ref, err := oci.ParseReference(e.ref()); err == nil {
					name = ref.Familiar()
				}
			}
		}
	}
	return fmt.Sprintf("image %s cannot be used, and gc does not run (strata rmi -f gives it up)", name), true
}

// documentUsers are the images that have a manifest or config, by name or digest.
func (f *fsck) documentUsers(d oci.Digest) []string {
	ix, err := f.s.readIndex()
	if err != nil {
		return nil
	}
	var users []string
	for _, e := range ix.Manifests {
		if e.Digest != d && !slices.Contains(f.s.configOf(e), d) {
			continue
		}
		name := e.Digest.Short()
		if ref, err := oci.ParseReference(e.ref()); err == nil {
			name = ref.Familiar()
		}
		users = append(users, name)
	}
	return users
}

func leftoverConsequence(path string) string {
	dir, _, _ := strings.Cut(path, "/")
	if (dir == layersDir || dir == objectsDir) && strings.Count(path, "/") == 1 {
		return "gc does not run"
	}
	return "it takes up room"
}

func storeConsequence(path string) string {
	if strings.HasSuffix(path, indexFile) {
		return "no image can be found, and gc does not run"
	}
	return "other programs do not take images/ for an OCI image layout"
}
