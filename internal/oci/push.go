package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sync/errgroup"
)

// PushOptions say how an image is sent; the zero value is useful.
type PushOptions struct {
	// From names images of the same registry that may have a blob, which then
	// need not be sent: the registry mounts it. May be nil.
	From func(Digest) []Reference

	// Progress is told of every n bytes that were sent of a layer's blob;
	// negative ones when it has to be sent again. It is called from several
	// goroutines. May be nil.
	Progress func(layer Digest, n int64)

	// Done is told that the registry has a layer's blob, and whether it had it
	// before, or had it mounted from another repository. May be nil.
	Done func(layer Digest, had bool)
}

// Push sends what the registry lacks of an image's blobs, and then the manifest,
// under ref's tag. Everybody sees the image that the tag named before, or this
// one.
func (r *Registries) Push(ctx context.Context, ref Reference, img *Image, o PushOptions) error {
	return registryError("push", ref.Familiar(), ref.Host(), r.push(ctx, ref, img, o))
}

func (r *Registries) push(ctx context.Context, ref Reference, img *Image, o PushOptions) error {
	repo, err := r.repository(ref)
	if err != nil {
		return err
	}
	pusher, err := r.pusher()
	if err != nil {
		return err
	}
	g, sending := errgroup.WithContext(ctx)
	g.SetLimit(transfers)
	sent := map[Digest]bool{}
	for _, l := range img.Layers {
		if sent[l.Digest] || !types.MediaType(l.MediaType).IsDistributable() {
			continue // the publisher distributes the others
		}
		sent[l.Digest] = true
		g.Go(func() error { return r.pushLayer(sending, pusher, repo, l, o) })
	}
	config := Layer{
		Descriptor: Descriptor{MediaType: img.configType(), Digest: img.ID(), Size: int64(len(img.Config))},
		DiffID:     DiffID(img.ID()),
		name:       "config",
		open: func(context.Context, Descriptor) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(img.Config)), nil
		},
	}
	g.Go(func() error { return r.pushLayer(sending, pusher, repo, config, PushOptions{From: o.From}) })
	if err := g.Wait(); err != nil {
		return err
	}
	return pusher.Put(ctx, repo.Tag(ref.tag), manifestToPut{img})
}

func (r *Registries) pusher() (*remote.Pusher, error) {
	return remote.NewPusher(
		remote.WithTransport(r.tripper), remote.WithAuthFromKeychain(r.keychain), remote.WithJobs(transfers),
		remote.WithRetryBackoff(r.retry), remote.WithRetryPredicate(isTemporary), remote.WithRetryStatusCodes(retried...),
	)
}

// configType is what the manifest calls the config.
func (img *Image) configType() string {
	m, err := ParseManifest(img.Manifest, img.ManifestType)
	if err != nil {
		return "" // there is none without one that can be parsed
	}
	return m.Config.MediaType
}

// pushLayer sends one blob unless the registry has it.
func (r *Registries) pushLayer(ctx context.Context, pusher *remote.Pusher, repo name.Repository, l Layer, o PushOptions) error {
	blob := &blobToSend{ctx: ctx, layer: l, progress: o.Progress}
	send := ggcr.Layer(blob)
	if from := r.mountFrom(repo, l.Digest, o.From); from != nil {
		send = &remote.MountableLayer{Layer: blob, Reference: from}
	}
	if err := pusher.Upload(ctx, repo, send); err != nil {
		return fmt.Errorf("blob %s: %w", l.Digest, err)
	}
	if o.Done != nil {
		o.Done(l.Digest, !blob.opened.Load())
	}
	return nil
}

// mountFrom finds another repository of the registry that may have the blob.
func (r *Registries) mountFrom(repo name.Repository, d Digest, from func(Digest) []Reference) name.Reference {
	if from == nil {
		return nil
	}
	for _, ref := range from(d) {
		other, err := r.repository(ref)
		if err == nil && other.RegistryStr() == repo.RegistryStr() && other.RepositoryStr() != repo.RepositoryStr() {
			return other.Digest(string(d))
		}
	}
	return nil
}

// BlobFinder tells whether a repository has a blob.
type BlobFinder func(context.Context, Descriptor) (bool, error)

// errNothingToSend ends an upload of which the bytes would be wanted.
var errNothingToSend = errors.New("the blob is only looked for")

// FindBlobs looks for blobs in the repository of ref, and has those mounted
// there that another repository of the registry has, one of the names that from
// gives. It connects when it is first asked.
func (r *Registries) FindBlobs(ref Reference, from func(Digest) []Reference) BlobFinder {
	pusher := sync.OnceValues(r.pusher)
	nothing := func(context.Context, Descriptor) (io.ReadCloser, error) { return nil, errNothingToSend }
	find := func(ctx context.Context, d Descriptor) (bool, error) {
		repo, err := r.repository(ref)
		if err != nil {
			return false, err
		}
		p, err := pusher()
		if err != nil {
			return false, err
		}
		err = r.pushLayer(ctx, p, repo, NewLayer(d, "", nothing), PushOptions{From: from})
		if errors.Is(err, errNothingToSend) {
			return false, nil
		}
		return err == nil, err
	}
	return func(ctx context.Context, d Descriptor) (bool, error) {
		has, err := find(ctx, d)
		return has, registryError("push", ref.Familiar(), ref.Host(), err)
	}
}

// manifestToPut is an image's manifest, exactly, for the library to send.
type manifestToPut struct{ img *Image }

func (m manifestToPut) RawManifest() ([]byte, error) { return m.img.Manifest, nil }
func (m manifestToPut) MediaType() (types.MediaType, error) {
	return types.MediaType(m.img.ManifestType), nil
}

// blobToSend is a blob as the library takes it.
type blobToSend struct {
	ctx      context.Context // of this upload
	layer    Layer
	progress func(Digest, int64)
	opened   atomic.Bool
	sent     atomic.Int64 // in this try
}

func (b *blobToSend) Digest() (ggcr.Hash, error) { return ggcr.NewHash(string(b.layer.Digest)) }
func (b *blobToSend) DiffID() (ggcr.Hash, error) { return ggcr.NewHash(string(b.layer.DiffID)) }
func (b *blobToSend) Size() (int64, error)       { return b.layer.Size, nil }
func (b *blobToSend) MediaType() (types.MediaType, error) {
	return types.MediaType(b.layer.MediaType), nil
}

// Compressed opens the blob. The library asks anew for each try, so what was
// sent before is to be sent again.
func (b *blobToSend) Compressed() (io.ReadCloser, error) {
	r, err := b.layer.Open(b.ctx)
	if err != nil {
		return nil, err
	}
	b.opened.Store(true)
	b.tell(-b.sent.Swap(0))
	return &sentBlob{ReadCloser: r, b: b}, nil
}

// Uncompressed is never asked for: blobs are sent as they are.
func (b *blobToSend) Uncompressed() (io.ReadCloser, error) {
	return nil, fmt.Errorf("internal error: blob %s is not to be decompressed", b.layer.Digest)
}

func (b *blobToSend) tell(n int64) {
	if b.progress != nil && n != 0 {
		b.progress(b.layer.Digest, n)
	}
}

// sentBlob counts what is sent.
type sentBlob struct {
	io.ReadCloser
	b *blobToSend
}

func (s *sentBlob) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	s.b.sent.Add(int64(n))
	s.b.tell(int64(n))
	return n, err
}
