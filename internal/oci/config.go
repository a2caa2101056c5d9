package oci

import (
	"fmt"
	"time"
)

// Config is an image's config: what it is made of and how it wants to be run.
// Fields that strata has no use for are left out; the exact bytes stay in
// [Image].
type Config struct {
	Created      *time.Time `json:"created,omitempty"`
	Author       string     `json:"author,omitempty"`
	Architecture string     `json:"architecture"`
	Variant      string     `json:"variant,omitempty"`
	OS           string     `json:"os"`
	Config       RunConfig  `json:"config"`
	RootFS       RootFS     `json:"rootfs"`
	History      []History  `json:"history,omitempty"`
}

// RunConfig is how a process of the image is started by default.
type RunConfig struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
}

// RootFS lists the layers that the config belongs to.
type RootFS struct {
	Type    string   `json:"type"`     // always "layers"
	DiffIDs []DiffID `json:"diff_ids"` // base first
}

// History is one step that made the image. Steps are listed base first; those
// that are not EmptyLayer correspond to the layers, where the builder kept
// count.
type History struct {
	Created    *time.Time `json:"created,omitempty"`
	CreatedBy  string     `json:"created_by,omitempty"`
	Author     string     `json:"author,omitempty"`
	Comment    string     `json:"comment,omitempty"`
	EmptyLayer bool       `json:"empty_layer,omitempty"`
}

// ParseConfig reads an OCI or Docker image config.
func ParseConfig(raw []byte) (*Config, error) {
	if len(raw) > maxConfigBytes {
		return nil, fmt.Errorf("config of %d bytes, at most %d are read", len(raw), maxConfigBytes)
	}
	var c Config
	if err := decodeJSON(raw, &c); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if c.RootFS.Type != "layers" {
		return nil, fmt.Errorf("config: rootfs.type is %s, want \"layers\"", quote(c.RootFS.Type))
	}
	for i, d := range c.RootFS.DiffIDs {
		if _, err := ParseDiffID(string(d)); err != nil {
			return nil, fmt.Errorf("config: rootfs.diff_ids, layer %d of %d: %w", i+1, len(c.RootFS.DiffIDs), err)
		}
	}
	return &c, nil
}
