package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Bounds on what is read into memory because a stranger's document says so.
// Registries refuse manifests above 4 MiB, so nothing real comes near.
const (
	maxManifestBytes = 8 << 20 // manifest, index, docker's manifest.json
	maxConfigBytes   = 16 << 20
	maxLayoutBytes   = 4 << 10 // the oci-layout file

	// Decoded, an empty array element takes some hundred bytes for the two
	// that it takes in the text. A real document has far fewer commas.
	maxCommas = 1 << 19
)

// decodeJSON reads one JSON value, which must be all that raw holds.
func decodeJSON(raw []byte, v any) error {
	if bytes.Count(raw, []byte{','}) > maxCommas {
		return fmt.Errorf("more than %d commas in a JSON document of %d bytes", maxCommas, len(raw))
	}
	return json.Unmarshal(raw, v)
}
