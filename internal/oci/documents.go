package oci

import (
	"fmt"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxIndexDepth is how often an index may lead to another. In practice it is
// once: an image's index of platforms.
const maxIndexDepth = 4

// documents finds an image's manifest and config from where something refers
// to them.
type documents struct {
	// read returns the bytes that a descriptor names, verified, or an error if
	// they are more than most.
	read func(d Descriptor, most int64) ([]byte, error)
	want Platform
}

// follow reads what top leads to: a manifest, or an index of which the image
// for the wanted platform is taken.
func (ds documents) follow(top v1.Descriptor) (manifest []byte, mediaType string, config []byte, err error) {
	d, err := ds.resolve(top)
	if err != nil {
		return nil, "", nil, err
	}
	if err := checkManifestType(d.MediaType); err != nil {
		return nil, "", nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	manifest, err = ds.read(d, maxManifestBytes)
	if err != nil {
		return nil, "", nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	m, err := ParseManifest(manifest, d.MediaType)
	if err != nil {
		return nil, "", nil, fmt.Errorf("%s: %w", d.Digest, err)
	}
	config, err = ds.read(m.Config, maxConfigBytes)
	if err != nil {
		return nil, "", nil, fmt.Errorf("config %s: %w", m.Config.Digest, err)
	}
	return manifest, d.MediaType, config, nil
}

// resolve follows d through indexes to a manifest.
func (ds documents) resolve(d v1.Descriptor) (Descriptor, error) {
	for range maxIndexDepth {
		desc, err := parseDescriptor(d)
		if err != nil {
			return Descriptor{}, err
		}
		if !isIndexType(desc.MediaType) {
			return desc, nil
		}
		raw, err := ds.read(desc, maxManifestBytes)
		if err != nil {
			return Descriptor{}, fmt.Errorf("index %s: %w", desc.Digest, err)
		}
		manifests, err := parseIndex(raw, desc.MediaType)
		if err == nil {
			d, err = pickPlatform(manifests, ds.want)
		}
		if err != nil {
			return Descriptor{}, fmt.Errorf("%s: %w", desc.Digest, err)
		}
	}
	return Descriptor{}, fmt.Errorf("indexes within indexes, deeper than %d", maxIndexDepth)
}
