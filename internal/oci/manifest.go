package oci

import (
	"encoding/json"
	"fmt"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Descriptor says which blob is meant: its kind, its name and its length.
type Descriptor struct {
	MediaType string
	Digest    Digest
	Size      int64
}

// Manifest is what an image manifest says: which config, which layers.
type Manifest struct {
	Config Descriptor
	Layers []Descriptor // base first
}

// manifestJSON has, beside an image manifest's fields, the one that only an
// index may have. A document that is both can be read as two different things
// under one digest (CVE-2021-41190), so it is refused as either.
type manifestJSON struct {
	v1.Manifest
	Manifests json.RawMessage `json:"manifests"`
}

// ParseManifest reads an OCI or Docker schema 2 image manifest. mediaType is
// what the one who referred to it called it; a manifest that calls itself
// something else is refused.
func ParseManifest(raw []byte, mediaType string) (*Manifest, error) {
	if err := checkManifestType(mediaType); err != nil {
		return nil, err
	}
	if len(raw) > maxManifestBytes {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d are read", len(raw), maxManifestBytes)
	}
	var m manifestJSON
	if err := decodeJSON(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if err := checkSelf(m.SchemaVersion, m.MediaType, mediaType); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.Manifests != nil {
		return nil, fmt.Errorf("manifest: it has the field manifests, which only an index has")
	}
	config, err := parseDescriptor(m.Config)
	if err != nil {
		return nil, fmt.Errorf("manifest: config: %w", err)
	}
	if !types.MediaType(config.MediaType).IsConfig() {
		return nil, fmt.Errorf("manifest: config of media type %s: not an image", quote(config.MediaType))
	}
	if config.Size > maxConfigBytes {
		return nil, fmt.Errorf("manifest: config of %d bytes, at most %d are read", config.Size, maxConfigBytes)
	}
	layers := make([]Descriptor, len(m.Layers))
	for i, l := range m.Layers {
		layers[i], err = parseDescriptor(l)
		if err == nil && !IsLayerType(l.MediaType) {
			err = fmt.Errorf("media type %s is not a layer's that strata knows", quote(l.MediaType))
		}
		if err != nil {
			return nil, fmt.Errorf("manifest: layer %d of %d: %w", i+1, len(m.Layers), err)
		}
	}
	return &Manifest{Config: config, Layers: layers}, nil
}

// ManifestType is the media type that an image manifest has by its own word;
// an OCI image's need not say it.
func ManifestType(raw []byte) (string, error) {
	var self struct {
		MediaType string `json:"mediaType"`
	}
	if err := decodeJSON(raw, &self); err != nil {
		return "", fmt.Errorf("manifest: %w", err)
	}
	if self.MediaType == "" {
		self.MediaType = v1.MediaTypeImageManifest
	}
	_, err := ParseManifest(raw, self.MediaType)
	return self.MediaType, err
}

// checkManifestType says what is wrong with a media type where an image
// manifest's is wanted.
func checkManifestType(mediaType string) error {
	t := types.MediaType(mediaType)
	switch {
	case t.IsImage():
		return nil
	case t.IsIndex():
		return fmt.Errorf("media type %s is an index, not an image manifest", mediaType)
	case t.IsSchema1():
		return fmt.Errorf("media type %s is Docker's schema 1, which is not supported: write the image again with a current tool", mediaType)
	case mediaType == "":
		return fmt.Errorf("no media type, want an image manifest's")
	}
	return fmt.Errorf("media type %s is not an image manifest's", quote(mediaType))
}

// checkSelf compares what a document says of itself with what it was called.
// Its own media type is optional.
func checkSelf(schemaVersion int, self, called string) error {
	if schemaVersion != 2 {
		return fmt.Errorf("schemaVersion is %d, want 2", schemaVersion)
	}
	if self != "" && self != called {
		return fmt.Errorf("it calls itself %s, but was referred to as %s", quote(self), quote(called))
	}
	return nil
}

func parseDescriptor(d v1.Descriptor) (Descriptor, error) {
	dgst, err := ParseDigest(string(d.Digest))
	if err != nil {
		return Descriptor{}, err
	}
	if d.Size < 0 {
		return Descriptor{}, fmt.Errorf("%s: size %d is negative", dgst, d.Size)
	}
	return Descriptor{MediaType: d.MediaType, Digest: dgst, Size: d.Size}, nil
}

// Layer media types that the libraries have no constant for. buildkit writes
// the first when it is told to use Docker's media types and zstd.
const (
	dockerLayerZstd       = "application/vnd.docker.image.rootfs.diff.tar.zstd"
	ociRestrictedLayerZst = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
)

// IsLayerType tells whether a media type is one of those that layers have.
func IsLayerType(mediaType string) bool {
	switch mediaType {
	case dockerLayerZstd, ociRestrictedLayerZst:
		return true
	}
	return types.MediaType(mediaType).IsLayer()
}

// foreignURLs tells where a layer's publisher wants it to be fetched from,
// for layers that archives and registries leave out.
func foreignURLs(manifest []byte, layer Digest) []string {
	var m v1.Manifest
	if err := decodeJSON(manifest, &m); err != nil {
		return nil
	}
	for _, l := range m.Layers {
		if string(l.Digest) == string(layer) {
			return l.URLs
		}
	}
	return nil
}

// ReplaceLayers is a manifest with other blobs for the same layers, base first:
// what is said of them in annotations stays.
func ReplaceLayers(manifest []byte, mediaType string, layers []Descriptor) ([]byte, error) {
	if _, err := ParseManifest(manifest, mediaType); err != nil {
		return nil, err
	}
	var m v1.Manifest
	if err := decodeJSON(manifest, &m); err != nil {
		return nil, err
	}
	if len(layers) != len(m.Layers) {
		return nil, fmt.Errorf("manifest of %d layers, %d to put in their places", len(m.Layers), len(layers))
	}
	m.MediaType = mediaType // it is optional, and no registry minds it
	for i, l := range layers {
		if m.Layers[i].Digest != digest.Digest(l.Digest) {
			m.Layers[i] = v1.Descriptor{
				MediaType: l.MediaType, Digest: digest.Digest(l.Digest), Size: l.Size, Annotations: m.Layers[i].Annotations,
			}
		}
	}
	return json.Marshal(m)
}

// encodeManifest is the OCI manifest of config and layers: the same for the
// same descriptors, always.
func encodeManifest(m Manifest) ([]byte, error) {
	out := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    encodeDescriptor(m.Config),
		Layers:    make([]v1.Descriptor, len(m.Layers)),
	}
	for i, l := range m.Layers {
		out.Layers[i] = encodeDescriptor(l)
	}
	return json.Marshal(out)
}

func encodeDescriptor(d Descriptor) v1.Descriptor {
	return v1.Descriptor{MediaType: d.MediaType, Digest: digest.Digest(d.Digest), Size: d.Size}
}
