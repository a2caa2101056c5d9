package testdata

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// WriteLayout writes the images as an OCI image layout into dir, which is made
// if it is missing.
func WriteLayout(dir string, images []*Image) error {
	content, err := layout(images)
	if err != nil {
		return err
	}
	for name, data := range content {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// WriteArchive writes the images as a tar of an OCI image layout.
func WriteArchive(w io.Writer, images []*Image) error {
	content, err := layout(images)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(content)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content[name]))}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(content[name]); err != nil {
			return err
		}
	}
	return tw.Close()
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	Manifests     []descriptor `json:"manifests"`
}

type imageConfig struct {
	Created      time.Time `json:"created"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	Config       Config    `json:"config"`
	RootFS       rootFS    `json:"rootfs"`
	History      []history `json:"history"`
}

type rootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"` // base first
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeTar      = "application/vnd.oci.image.layer.v1.tar"
)

// layout returns the files of an OCI image layout by their names in it.
func layout(images []*Image) (map[string][]byte, error) {
	content := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	add := func(mediaType string, data []byte) descriptor {
		hex := fmt.Sprintf("%x", sha256.Sum256(data))
		content["blobs/sha256/"+hex] = data
		return descriptor{MediaType: mediaType, Digest: "sha256:" + hex, Size: len(data)}
	}
	addJSON := func(mediaType string, v any) (descriptor, error) {
		data, err := json.Marshal(v)
		return add(mediaType, data), err
	}
	ix := index{SchemaVersion: 2}
	for _, img := range images {
		m := manifest{SchemaVersion: 2, MediaType: typeManifest, Layers: []descriptor{}}
		c := imageConfig{
			Created: img.Created, Architecture: "amd64", OS: "linux", Config: img.Config,
			RootFS: rootFS{Type: "layers", DiffIDs: []string{}},
		}
		for _, l := range img.Layers {
			data, err := l.Tar()
			if err != nil {
				return nil, fmt.Errorf("image %s: %w", img.Ref, err)
			}
			if img.Plain {
				m.Layers = append(m.Layers, add(typeTar, data))
			} else {
				m.Layers = append(m.Layers, add(typeLayer, gzipped(data)))
			}
			c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, fmt.Sprintf("sha256:%x", sha256.Sum256(data)))
			c.History = append(c.History, history{Created: l.created, CreatedBy: l.Comment})
		}
		var err error
		if m.Config, err = addJSON(typeConfig, c); err != nil {
			return nil, fmt.Errorf("image %s: config: %w", img.Ref, err)
		}
		d, err := addJSON(typeManifest, m)
		if err != nil {
			return nil, fmt.Errorf("image %s: manifest: %w", img.Ref, err)
		}
		d.Annotations = map[string]string{"org.opencontainers.image.ref.name": img.Ref}
		ix.Manifests = append(ix.Manifests, d)
	}
	data, err := json.Marshal(ix)
	content["index.json"] = data
	return content, err
}

// gzipped compresses data. Writing to memory does not fail.
func gzipped(data []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(data)
	w.Close()
	return out.Bytes()
}
