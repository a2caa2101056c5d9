package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/types"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// indexJSON has, beside an index's fields, those that only an image manifest
// may have; see manifestJSON.
type indexJSON struct {
	v1.Index
	Config json.RawMessage `json:"config"`
	Layers json.RawMessage `json:"layers"`
}

// parseIndex reads an OCI index or a Docker manifest list; its descriptors
// come out as they are, not yet validated.
func parseIndex(raw []byte, mediaType string) ([]v1.Descriptor, error) {
	var x indexJSON
	if err := decodeJSON(raw, &x); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if err := checkSelf(x.SchemaVersion, x.MediaType, mediaType); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if x.Config != nil || x.Layers != nil {
		return nil, errors.New("index: it has the fields of an image manifest")
	}
	return x.Manifests, nil
}

func isIndexType(mediaType string) bool { return types.MediaType(mediaType).IsIndex() }

// isAttestation recognises what buildkit puts beside an image: a manifest
// for no platform, whose layers are provenance documents.
func isAttestation(d v1.Descriptor) bool {
	return d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// pickPlatform chooses the manifest for a platform.
func pickPlatform(manifests []v1.Descriptor, want Platform) (v1.Descriptor, error) {
	best, bestRank := v1.Descriptor{}, 0
	var have []string
	for _, d := range manifests {
		if isAttestation(d) {
			continue
		}
		if p := platformName(d.Platform); !slices.Contains(have, p) {
			have = append(have, p)
		}
		if rank := want.rank(d.Platform); rank > bestRank {
			best, bestRank = d, rank
		}
	}
	if bestRank > 0 {
		return best, nil
	}
	if len(have) == 0 {
		return best, errors.New("index without images")
	}
	const most = 32
	if len(have) > most {
		have = append(have[:most], "...")
	}
	return best, fmt.Errorf("no image for %s; there are: %s", want, strings.Join(have, ", "))
}

func platformName(p *v1.Platform) string {
	if p == nil {
		return "(platform not said)"
	}
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return strings.Trim(quote(name), `"`)
}
