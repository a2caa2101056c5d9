package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// PullOptions say what is wanted of a registry; the zero value is useful.
type PullOptions struct {
	// Platform is which image is taken of an index. If it is not zero, an image
	// for another one is refused.
	Platform Platform

	// Known returns a manifest or config that need not be sent again, nil if
	// there is none. May be nil.
	Known func(Digest) []byte
}

// Pull reads an image's manifest and config from its registry. Its layers are
// sent when they are opened; a connection that is lost on the way is made again,
// and the blob goes on where it was cut.
func (r *Registries) Pull(ctx context.Context, ref Reference, o PullOptions) (*Image, error) {
	img, err := r.pull(ctx, ref, o)
	return img, registryError("pull", ref.Familiar(), ref.Host(), err)
}

func (r *Registries) pull(ctx context.Context, ref Reference, o PullOptions) (*Image, error) {
	repo, err := r.repository(ref)
	if err != nil {
		return nil, err
	}
	client, err := r.client(ctx, repo, transport.PullScope)
	if err != nil {
		return nil, err
	}
	p := puller{ctx: ctx, client: client, repo: repo, host: ref.Host(), known: o.Known, backoff: r.retry, log: r.log}
	if p.known == nil {
		p.known = func(Digest) []byte { return nil }
	}
	top, raw, err := p.top(ref)
	if err != nil {
		return nil, err
	}
	read := func(d Descriptor, most int64) ([]byte, error) {
		if d.Digest == Digest(top.Digest) {
			return raw, nil
		}
		return p.document(d, most)
	}
	manifest, mediaType, config, err := documents{read: read, want: o.Platform}.follow(top)
	if err != nil {
		return nil, err
	}
	if o.Platform != (Platform{}) {
		if err := checkPlatform(config, o.Platform); err != nil {
			return nil, err
		}
	}
	return NewImage("registry "+ref.Host(), []Reference{ref}, manifest, mediaType, config, p.openBlob(manifest))
}

// checkPlatform refuses an image for another platform: one that is no index is
// all that there is, for whatever platform.
func checkPlatform(config []byte, want Platform) error {
	c, err := ParseConfig(config)
	if err != nil {
		return err
	}
	if is := (&v1.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}); want.rank(is) == 0 {
		return fmt.Errorf("the image is for %s, not for %s, and there is no other under this name", platformName(is), want)
	}
	return nil
}

// puller reads from one repository during one pull.
type puller struct {
	ctx     context.Context // of the documents; each blob has its own
	client  *http.Client
	repo    name.Repository
	host    string // of the registry, as people write it
	known   func(Digest) []byte
	backoff transport.Backoff
	log     *slog.Logger
}

func (p *puller) url(kind, id string) string {
	u := url.URL{Scheme: p.repo.Scheme(), Host: p.repo.RegistryStr(), Path: "/v2/" + p.repo.RepositoryStr() + "/" + kind + "/" + id}
	return u.String()
}

// accepted are the kinds of manifests that can be read.
var accepted = strings.Join([]string{
	v1.MediaTypeImageIndex, v1.MediaTypeImageManifest, string(types.DockerManifestList), string(types.DockerManifestSchema2),
}, ", ")

// top reads what ref names. A digest is what the registry is asked for, even if
// there is a tag as well.
func (p *puller) top(ref Reference) (v1.Descriptor, []byte, error) {
	id := ref.tag
	if ref.digest != "" {
		id = string(ref.digest)
	}
	raw, header, err := p.get(p.url("manifests", id), accepted, maxManifestBytes)
	if err != nil {
		return v1.Descriptor{}, nil, err
	}
	d := DigestBytes(raw)
	// The header is the registry's own word on what the tag names.
	said := header.Get("Docker-Content-Digest")
	switch {
	case ref.digest != "" && d != ref.digest:
		return v1.Descriptor{}, nil, fmt.Errorf("manifest %s: %w: the bytes hash to %s", ref.digest, ErrCorrupt, d)
	case strings.HasPrefix(said, digestPrefix) && said != string(d):
		return v1.Descriptor{}, nil, fmt.Errorf("manifest: %w: the registry calls it %s, but the bytes hash to %s", ErrCorrupt, quote(said), d)
	}
	mediaType, err := manifestType(header.Get("Content-Type"), raw)
	if err != nil {
		return v1.Descriptor{}, nil, fmt.Errorf("manifest %s: %w", d, err)
	}
	return v1.Descriptor{MediaType: mediaType, Digest: digest.Digest(d), Size: int64(len(raw))}, raw, nil
}

// manifestType is the media type of a manifest that came as contentType. Some
// servers know nothing better than JSON or text; then the document's own word
// is taken.
func manifestType(contentType string, raw []byte) (string, error) {
	mediaType, _, err := mime.ParseMediaType(contentType)
	if t := types.MediaType(mediaType); err == nil && (t.IsImage() || t.IsIndex() || t.IsSchema1()) {
		return mediaType, nil
	}
	var self struct {
		MediaType string `json:"mediaType"`
	}
	if err := decodeJSON(raw, &self); err != nil {
		return "", fmt.Errorf("the answer is no manifest (media type %s): is this a registry? %w", quote(contentType), err)
	}
	if self.MediaType == "" {
		return "", fmt.Errorf("neither the registry (%s) nor the document says what it is", quote(contentType))
	}
	return self.MediaType, nil
}

// document reads a manifest, index or config by its digest.
func (p *puller) document(d Descriptor, most int64) ([]byte, error) {
	if raw := p.known(d.Digest); raw != nil && int64(len(raw)) == d.Size {
		return raw, nil
	}
	if d.Size > most {
		return nil, fmt.Errorf("its descriptor says %d bytes, at most %d are read", d.Size, most)
	}
	at, accept := p.url("blobs", string(d.Digest)), ""
	if t := types.MediaType(d.MediaType); t.IsImage() || t.IsIndex() {
		at, accept = p.url("manifests", string(d.Digest)), d.MediaType
	}
	raw, _, err := p.get(at, accept, most)
	if err != nil {
		return nil, err
	}
	if got := DigestBytes(raw); got != d.Digest || int64(len(raw)) != d.Size {
		return nil, fmt.Errorf("%w: %d bytes that hash to %s, want %d", ErrCorrupt, len(raw), got, d.Size)
	}
	return raw, nil
}

// get reads a whole small answer. One that was cut is asked for again.
func (p *puller) get(at, accept string, most int64) ([]byte, http.Header, error) {
	for try := p.backoff; ; {
		raw, header, err := p.getOnce(at, accept, most)
		if err == nil || !isTemporary(err) || try.Steps <= 1 {
			return raw, header, err
		}
		if err := sleep(p.ctx, try.Step()); err != nil {
			return nil, nil, err
		}
	}
}

func (p *puller) getOnce(at, accept string, most int64) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(p.ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, nil, err
	}
	if accept != "" {
		req.Header.Set("Accept", accept)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if err := transport.CheckError(resp, http.StatusOK); err != nil {
		return nil, nil, err
	}
	if resp.ContentLength > most {
		return nil, nil, fmt.Errorf("GET %s: %w: %d bytes, at most %d are read", at, errTooLong, resp.ContentLength, most)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err == nil && int64(len(raw)) > most:
		return nil, nil, fmt.Errorf("GET %s: %w: it has more than %d bytes", at, errTooLong, most)
	case err != nil:
		return nil, nil, fmt.Errorf("GET %s: %w: %w", at, errCut, err)
	}
	return raw, resp.Header, nil
}

// openBlob is the BlobOpener of the manifest's layers.
func (p *puller) openBlob(manifest []byte) BlobOpener {
	return func(ctx context.Context, d Descriptor) (io.ReadCloser, error) {
		b := &blobDownload{ctx: context.WithValue(ctx, blobKey{}, true), p: p, want: d, tries: p.backoff}
		err := p.explain(b.open())
		if urls := foreignURLs(manifest, d.Digest); errors.Is(err, ErrNoSuchImage) && len(urls) > 0 {
			err = fmt.Errorf("the layer is not distributed with the image, but by its publisher at %s: %w", quote(urls[0]), err)
		}
		if err != nil {
			return nil, err
		}
		return b, nil
	}
}

// explain makes a RegistryError of what went wrong with a blob.
func (p *puller) explain(err error) error {
	return registryError("get it", "from "+p.host, p.host, err)
}
