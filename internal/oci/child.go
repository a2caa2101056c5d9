package oci

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Child is an image that is made of another: some of its layers, and further ones
// on top. Its documents are those that docker's commit writes, as an OCI image.
type Child struct {
	// Parent's documents; without any, the child stands on nothing.
	Manifest     []byte
	ManifestType string
	Config       []byte

	// Keep is how many of the parent's layers the child has, base first; negative
	// means all. Steps of the history that made the others are left out, and so is
	// what came after the last that is kept.
	Keep int

	Added   []AddedLayer // base first
	Author  string
	Comment string // of the last step
	Created time.Time
	Changes []Change
}

// AddedLayer is a layer whose blob is its tar, uncompressed.
type AddedLayer struct {
	DiffID    DiffID
	Size      int64
	CreatedBy string
	Comment   string
}

// EmptyLayer is the layer of a tar without entries, which makes no difference and
// is left out, as docker does.
const EmptyLayer DiffID = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"

// configFields are what a child takes over from its parent. Others tell how the
// parent was built.
var configFields = []string{"architecture", "variant", "os", "os.version", "os.features", "config"}

// Documents makes the child's manifest, an OCI one, and its config.
func (c *Child) Documents() (manifest, config []byte, err error) {
	parent := struct {
		rootFS  RootFS
		history []json.RawMessage
		layers  []Descriptor
	}{}
	fields := map[string]json.RawMessage{}
	if c.Config != nil {
		m, err := ParseManifest(c.Manifest, c.ManifestType)
		if err != nil {
			return nil, nil, err
		}
		parsed, err := ParseConfig(c.Config)
		if err != nil {
			return nil, nil, err
		}
		var all map[string]json.RawMessage
		if err := json.Unmarshal(c.Config, &all); err != nil {
			return nil, nil, fmt.Errorf("config: %w", err)
		}
		for _, key := range configFields {
			if raw, ok := all[key]; ok {
				fields[key] = raw
			}
		}
		if raw, ok := all["history"]; ok {
			if err := json.Unmarshal(raw, &parent.history); err != nil {
				return nil, nil, fmt.Errorf("config: history: %w", err)
			}
		}
		parent.rootFS, parent.layers = parsed.RootFS, m.Layers
	} else {
		if err := setJSON(fields, "architecture", runtime.GOARCH); err != nil {
			return nil, nil, err
		}
		if err := setJSON(fields, "os", "linux"); err != nil {
			return nil, nil, err
		}
	}
	keep := len(parent.layers)
	if c.Keep >= 0 {
		keep = min(c.Keep, keep)
	}
	diffIDs := slices.Clone(parent.rootFS.DiffIDs[:keep])
	out := Manifest{Layers: slices.Clone(parent.layers[:keep])}
	history, err := keptHistory(parent.history, keep, len(parent.layers))
	if err != nil {
		return nil, nil, err
	}
	for i, l := range c.Added {
		step := History{Created: &c.Created, CreatedBy: l.CreatedBy, Author: c.Author, Comment: l.Comment, EmptyLayer: l.DiffID == EmptyLayer}
		if i == len(c.Added)-1 && c.Comment != "" {
			step.Comment = c.Comment
		}
		raw, err := json.Marshal(step)
		if err != nil {
			return nil, nil, err
		}
		history = append(history, raw)
		if !step.EmptyLayer {
			diffIDs = append(diffIDs, l.DiffID)
			out.Layers = append(out.Layers, Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: Digest(l.DiffID), Size: l.Size})
		}
	}
	if diffIDs == nil {
		diffIDs = []DiffID{} // the specification wants a list
	}
	if err := c.change(fields); err != nil {
		return nil, nil, err
	}
	if c.Author != "" {
		err = setJSON(fields, "author", c.Author)
	}
	for _, f := range []struct {
		key   string
		value any
	}{{"created", c.Created}, {"rootfs", RootFS{Type: "layers", DiffIDs: diffIDs}}, {"history", history}} {
		if err == nil {
			err = setJSON(fields, f.key, f.value)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	if config, err = json.Marshal(fields); err != nil {
		return nil, nil, err
	}
	out.Config = Descriptor{MediaType: v1.MediaTypeImageConfig, Digest: DigestBytes(config), Size: int64(len(config))}
	for i := range out.Layers {
		out.Layers[i].MediaType = ociLayerType(out.Layers[i].MediaType)
	}
	manifest, err = encodeManifest(out)
	return manifest, config, err
}

func setJSON(fields map[string]json.RawMessage, key string, v any) (err error) {
	fields[key], err = json.Marshal(v)
	return err
}

// change applies the changes to the run config.
func (c *Child) change(fields map[string]json.RawMessage) error {
	r := runConfig{fields: map[string]json.RawMessage{}}
	if raw, ok := fields["config"]; ok {
		if err := json.Unmarshal(raw, &r.fields); err != nil {
			return fmt.Errorf("config: %w", err)
		}
		if r.fields == nil { // null
			r.fields = map[string]json.RawMessage{}
		}
	}
	for _, change := range c.Changes {
		if err := change.apply(&r); err != nil {
			return err
		}
	}
	return setJSON(fields, "config", r.fields)
}

// keptHistory is the history as far as it made the layers that are kept.
func keptHistory(history []json.RawMessage, keep, all int) ([]json.RawMessage, error) {
	if keep == all {
		return slices.Clip(history), nil
	}
	made := 0
	for i, raw := range history {
		var step History
		if err := json.Unmarshal(raw, &step); err != nil {
			return nil, fmt.Errorf("config: history, step %d: %w", i+1, err)
		}
		if !step.EmptyLayer {
			made++
		}
		if made > keep {
			return slices.Clip(history[:i]), nil
		}
	}
	return slices.Clip(history), nil
}

// ociLayerType is what the OCI calls a layer of docker's media types.
func ociLayerType(mediaType string) string {
	base, compression := v1.MediaTypeImageLayer, ""
	switch {
	case strings.HasPrefix(mediaType, "application/vnd.oci."):
		return mediaType
	case types.MediaType(mediaType) == types.DockerForeignLayer:
		return string(types.OCIRestrictedLayer)
	case strings.HasSuffix(mediaType, ".gzip"):
		compression = "+gzip"
	case strings.HasSuffix(mediaType, ".zstd"):
		compression = "+zstd"
	}
	return base + compression
}
