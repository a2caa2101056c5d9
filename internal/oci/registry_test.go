package oci

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// testRegistry is a registry in this process that can be made to misbehave.
type testRegistry struct {
	t      *testing.T
	host   string // 127.0.0.1:port
	inner  http.Handler
	server *httptest.Server

	mu sync.Mutex
	// misbehave may answer in the registry's stead; guarded by mu.
	misbehave func(w http.ResponseWriter, r *http.Request) bool
	requests  []string // "METHOD PATH", guarded by mu
}

func newTestRegistry(t *testing.T) *testRegistry {
	t.Helper()
	g := &testRegistry{t: t, inner: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	g.server = httptest.NewServer(g)
	g.host = strings.TrimPrefix(g.server.URL, "http://")
	t.Cleanup(g.server.Close)
	return g
}

func (g *testRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests = append(g.requests, r.Method+" "+r.URL.Path)
	misbehave := g.misbehave
	g.mu.Unlock()
	if misbehave == nil || !misbehave(w, r) {
		g.inner.ServeHTTP(w, r)
	}
}

// from now on, misbehave is asked first; what was requested is forgotten.
func (g *testRegistry) from(misbehave func(w http.ResponseWriter, r *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.misbehave, g.requests = misbehave, nil
}

// count tells how many requests began with prefix and had part in them.
func (g *testRegistry) count(prefix, part string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, r := range g.requests {
		if strings.HasPrefix(r, prefix) && strings.Contains(r, part) {
			n++
		}
	}
	return n
}

// put stores a blob or manifest.
func (g *testRegistry) put(repo string, d object, body []byte) {
	g.t.Helper()
	digest, mediaType := fmt.Sprint(d["digest"]), fmt.Sprint(d["mediaType"])
	target := "/v2/" + repo + "/blobs/uploads/1?digest=" + digest
	method := http.MethodPut
	if strings.Contains(mediaType, "manifest") || strings.Contains(mediaType, "index") {
		target = "/v2/" + repo + "/manifests/" + digest
	}
	g.do(method, target, mediaType, body)
}

func (g *testRegistry) do(method, target, contentType string, body []byte) {
	g.t.Helper()
	req := httptest.NewRequest(method, target, bytes.NewReader(body))
	req.Header.Set("Content-Type", contentType)
	rec := httptest.NewRecorder()
	g.inner.ServeHTTP(rec, req)
	if rec.Code >= 300 {
		g.t.Fatalf("%s %s: status %d: %s", method, target, rec.Code, rec.Body)
	}
}

// add stores an image under repo:tag, with gzip layers, and returns its
// manifest's descriptor.
func (g *testRegistry) add(repo, tag string, img testImage) object {
	g.t.Helper()
	fs := newLayout()
	d := img.addTo(&fs)
	g.addFiles(repo, fs)
	for _, f := range fs {
		if f.name == blobPath(DigestBytes(f.body)) && DigestBytes(f.body) == d["digest"] {
			g.put(repo, d, f.body)
			g.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, fmt.Sprint(d["mediaType"]), f.body)
		}
	}
	return d
}

// addFiles stores a layout's blobs.
func (g *testRegistry) addFiles(repo string, fs fileSet) {
	for _, f := range fs {
		if strings.HasPrefix(f.name, "blobs/") {
			g.put(repo, descriptor("", f.body), f.body)
		}
	}
}

// impatient is a client that neither waits long nor knows any credentials.
func impatient() *Registries {
	r := NewRegistries(RegistryOptions{})
	r.keychain = authn.NewMultiKeychain()
	r.retry = transport.Backoff{Duration: time.Millisecond, Factor: 1, Steps: 4}
	r.tripper.idle, r.tripper.answer = 500*time.Millisecond, 500*time.Millisecond
	return r
}

func mustReference(t *testing.T, s string) Reference {
	t.Helper()
	ref, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pullAll pulls an image and reads all of its layers.
func pullAll(t *testing.T, r *Registries, name string, o PullOptions) (*Image, error) {
	t.Helper()
	img, err := r.Pull(context.Background(), mustReference(t, name), o)
	if err != nil {
		return nil, err
	}
	for _, l := range img.Layers {
		r, err := l.Open(context.Background())
		if err != nil {
			return nil, err
		}
		_, err = io.Copy(io.Discard, r)
		r.Close()
		if err != nil {
			return nil, err
		}
	}
	return img, nil
}

// noise does not compress.
func noise(n int) string {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// isBlob tells requests for blobs other than the config's.
func isBlob(r *http.Request, img testImage) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") &&
		!strings.HasSuffix(r.URL.Path, string(DigestBytes(img.config)))
}
