package oci

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerManifestFile lists a docker archive's images. It is no manifest in
// the sense of the registry, in spite of its name.
const dockerManifestFile = "manifest.json"

// dockerItem is one image in manifest.json.
type dockerItem struct {
	Config   string   // file
	RepoTags []string // references; null for an image that was saved by its id
	Layers   []string // files, base first
}

// docker reads a docker archive.
type docker struct {
	archive string // its name, for errors
	files   fs.FS
	known   map[string]Descriptor // compressed layers that were read already, by file
}

// listDocker lists the images of a docker archive.
func listDocker(ctx context.Context, archive string, files fs.FS) (*entries, error) {
	dk := docker{archive: archive, files: files, known: make(map[string]Descriptor)}
	raw, err := readBounded(files, dockerManifestFile, maxManifestBytes)
	if err != nil {
		return nil, err
	}
	var items []dockerItem
	if err := decodeJSON(raw, &items); err != nil {
		return nil, fmt.Errorf("%s: %w", dockerManifestFile, err)
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("%s lists no images", dockerManifestFile)
	}
	var es entries
	for _, item := range items {
		at := es.add(item.Config+"\x00"+strings.Join(item.Layers, "\x00"), entry{
			load: func(refs []Reference) (*Image, error) { return dk.image(ctx, item, refs) },
		})
		for _, tag := range item.RepoTags {
			ref, err := ParseReference(tag)
			if err != nil {
				es.list[at].err = fmt.Errorf("%s: image with the config %s: RepoTags: %w", archive, quote(item.Config), err)
				continue
			}
			es.name(at, ref)
		}
	}
	return &es, nil
}

// image gives item a manifest of what stands in the archive.
func (dk docker) image(ctx context.Context, item dockerItem, refs []Reference) (*Image, error) {
	m, config, fileOf, err := dk.describe(ctx, item)
	var manifest []byte
	if err == nil {
		manifest, err = encodeManifest(m)
	}
	if err != nil {
		name := "with the config " + quote(item.Config)
		if len(refs) > 0 {
			name = refs[0].Familiar()
		}
		return nil, fmt.Errorf("%s: image %s: %w", dk.archive, name, err)
	}
	return NewImage(dk.archive, refs, manifest, v1.MediaTypeImageManifest, config,
		func(_ context.Context, d Descriptor) (io.ReadCloser, error) {
			return openSized(dk.files, fileOf[d.Digest], d.Size)
		})
}

func (dk docker) describe(ctx context.Context, item dockerItem) (m Manifest, config []byte, fileOf map[Digest]string, err error) {
	if config, err = dk.readConfig(item.Config); err != nil {
		return m, nil, nil, err
	}
	parsed, err := ParseConfig(config)
	if err != nil {
		return m, nil, nil, err
	}
	diffIDs := parsed.RootFS.DiffIDs
	if len(item.Layers) != len(diffIDs) {
		return m, nil, nil, fmt.Errorf("%s lists %d layers, but the config %d diff_ids",
			dockerManifestFile, len(item.Layers), len(diffIDs))
	}
	m.Config = Descriptor{
		MediaType: v1.MediaTypeImageConfig,
		Digest:    DigestBytes(config),
		Size:      int64(len(config)),
	}
	fileOf = make(map[Digest]string, len(diffIDs))
	for i, name := range item.Layers {
		d, err := dk.describeLayer(ctx, name, diffIDs[i])
		if err != nil {
			return m, nil, nil, fmt.Errorf("layer %d of %d (diffID %s), file %s: %w", i+1, len(diffIDs), diffIDs[i], quote(name), err)
		}
		m.Layers = append(m.Layers, d)
		fileOf[d.Digest] = path.Clean(name)
	}
	return m, config, fileOf, nil
}

// readConfig reads a config. Where the file is named by a digest, as every
// writer does, it must have that digest: nothing else would notice a change.
func (dk docker) readConfig(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, fmt.Errorf("config file %s: %w", quote(name), err)
	}
	config, err := readBounded(dk.files, path.Clean(name), maxConfigBytes)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	want, err := ParseDigest(digestPrefix + strings.TrimSuffix(path.Base(name), ".json"))
	if got := DigestBytes(config); err == nil && got != want {
		return nil, fmt.Errorf("config file %s: %w: the bytes hash to %s", quote(name), ErrCorrupt, got)
	}
	return config, nil
}

// describeLayer makes a descriptor of a layer's file as it stands. That of an
// uncompressed one must be what its diffID says, which is seen when the layer
// is read; of a compressed one nothing is known, so it is read here, once.
func (dk docker) describeLayer(ctx context.Context, name string, diffID DiffID) (Descriptor, error) {
	if err := checkName(name); err != nil {
		return Descriptor{}, err
	}
	name = path.Clean(name)
	if d, ok := dk.known[name]; ok {
		return d, nil
	}
	f, err := dk.files.Open(name)
	if err != nil {
		return Descriptor{}, err
	}
	defer f.Close()
	magic := make([]byte, magicLen)
	n, err := io.ReadFull(f, magic)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return Descriptor{}, err
	}
	magic = magic[:n]

	var d Descriptor
	switch kind := compressionOf(magic); kind {
	case uncompressed:
		fi, err := f.Stat()
		if err != nil {
			return Descriptor{}, err
		}
		return Descriptor{MediaType: v1.MediaTypeImageLayer, Digest: Digest(diffID), Size: fi.Size()}, nil
	case gzipped:
		d.MediaType = v1.MediaTypeImageLayerGzip
	case zstandard:
		d.MediaType = v1.MediaTypeImageLayerZstd
	default:
		return Descriptor{}, fmt.Errorf("a layer compressed with %s is not supported", kind)
	}
	h := sha256.New()
	d.Size, err = io.Copy(h, &ctxReader{ctx, io.MultiReader(bytes.NewReader(magic), f)})
	if err != nil {
		return Descriptor{}, err
	}
	d.Digest = Digest(digestPrefix + hex.EncodeToString(h.Sum(nil)))
	dk.known[name] = d
	return d, nil
}

// checkName refuses a file name that leads out of the archive. It could do no
// harm, names being looked up in the tar's own index, but whoever wrote it
// meant some.
func checkName(name string) error {
	if name == "" || path.IsAbs(name) || !fs.ValidPath(path.Clean(name)) {
		return errors.New("not a name within the archive")
	}
	return nil
}
