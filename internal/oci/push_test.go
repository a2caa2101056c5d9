package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
)

// pushed remembers what Push tells.
type pushed struct {
	mu   sync.Mutex
	sent map[Digest]int64
	had  map[Digest]bool
}

func (p *pushed) options() PushOptions {
	p.sent, p.had = map[Digest]int64{}, map[Digest]bool{}
	return PushOptions{
		Progress: func(d Digest, n int64) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.sent[d] += n
		},
		Done: func(d Digest, had bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.had[d] = had
		},
	}
}

// loadOne reads an image from a layout.
func loadOne(t *testing.T, fs fileSet) *Image {
	t.Helper()
	images, err := openArchive(t, writeDir(t, "x", fs)).Images()
	if err != nil || len(images) != 1 {
		t.Fatalf("%d images (error: %v), want 1", len(images), err)
	}
	return images[0]
}

// dockerLayoutOf is a layout of an image that has Docker's media types.
func dockerLayoutOf(img testImage, ref string) fileSet {
	const prefix = "application/vnd.docker."
	fs := newLayout()
	layers := list{}
	for _, layer := range img.tars {
		layers = append(layers, fs.blob(prefix+"image.rootfs.diff.tar.gzip", gzipOf(layer)))
	}
	d := fs.blob(prefix+"distribution.manifest.v2+json", encode(object{
		"schemaVersion": 2, "mediaType": prefix + "distribution.manifest.v2+json",
		"config": fs.blob(prefix+"container.image.v1+json", img.config), "layers": layers,
	}))
	fs.index(named(d, ref))
	return fs
}

// TestPush pushes and pulls back: every digest and media type is the same.
func TestPush(t *testing.T) {
	ctx := context.Background()
	img := newTestImage("base", noise(300<<10), "base")
	img.tars[2] = img.tars[0] // one layer twice
	for name, layout := range map[string]fileSet{"OCI": layoutOf(img, "app:1"), "Docker": dockerLayoutOf(img, "app:1")} {
		t.Run(name, func(t *testing.T) {
			want := loadOne(t, layout)
			g, r := newTestRegistry(t), impatient()
			g.from(bearer(g, "", ""))
			var told pushed
			to := mustReference(t, g.host+"/me/app:1")
			if err := r.Push(ctx, to, want, told.options()); err != nil {
				t.Fatal(err)
			}
			for _, l := range want.Layers {
				if told.sent[l.Digest] != l.Size || told.had[l.Digest] {
					t.Errorf("layer %s: %d of %d bytes sent, had: %v", l.Digest, told.sent[l.Digest], l.Size, told.had[l.Digest])
				}
			}
			g.mu.Lock()
			last := g.requests[len(g.requests)-1]
			g.mu.Unlock()
			if last != "PUT /v2/me/app/manifests/1" {
				t.Errorf("the last request was %s, want the manifest's", last)
			}
			got, err := pullAll(t, r, to.String(), PullOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest() != want.Digest() || got.ManifestType != want.ManifestType || got.ID() != want.ID() {
				t.Errorf("manifest %s (%s), want %s (%s)", got.Digest(), got.ManifestType, want.Digest(), want.ManifestType)
			}

			// Again: nothing is sent. To another repository: all is mounted.
			for _, again := range []string{"/me/app:1", "/me/app:2", "/you/other:1"} {
				g.from(bearer(g, "", ""))
				o := told.options()
				o.From = func(Digest) []Reference { return []Reference{mustReference(t, "elsewhere/x"), to} }
				if err := r.Push(ctx, mustReference(t, g.host+again), want, o); err != nil {
					t.Fatal(err)
				}
				if n := g.count("PATCH", ""); n != 0 || len(told.sent) > 0 || !told.had[want.Layers[1].Digest] {
					t.Errorf("%s: %d uploads, sent %v, had %v", again, n, told.sent, told.had)
				}
				if _, err := pullAll(t, r, g.host+again, PullOptions{}); err != nil {
					t.Error(err)
				}
			}
			// Looking for a blob also mounts it, and sends nothing.
			lost := Descriptor{MediaType: ociLayer, Digest: DigestBytes([]byte("no")), Size: 2}
			for _, repo := range []string{"/me/app:1", "/them/third:1"} {
				g.from(bearer(g, "", ""))
				find := r.FindBlobs(mustReference(t, g.host+repo), func(Digest) []Reference { return []Reference{to} })
				for d, want := range map[Descriptor]bool{want.Layers[0].Descriptor: true, lost: false} {
					if has, err := find(ctx, d); err != nil || has != want {
						t.Errorf("%s: blob %v: %v (error: %v), want %v", repo, d, has, err, want)
					}
				}
				if n := g.count("PATCH", "") + g.count("PUT", ""); n != 0 {
					t.Errorf("%s: %d uploads", repo, n)
				}
			}
		})
	}
}

// TestPushOverBadLine: uploads that fail for a while.
func TestPushOverBadLine(t *testing.T) {
	want := loadOne(t, layoutOf(newTestImage("base", noise(500<<10)), "app:1"))
	for name, fails := range map[string]func(w http.ResponseWriter, r *http.Request){
		"busy": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"cut": func(_ http.ResponseWriter, r *http.Request) {
			io.CopyN(io.Discard, r.Body, 100<<10)
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, r := newTestRegistry(t), impatient()
			seen := newSeen(1)
			g.from(func(w http.ResponseWriter, r *http.Request) bool {
				path := *r.URL
				path.RawQuery = ""
				if strings.Contains(path.Path, "/uploads/") { // which is another one each time
					path.Path = "/"
				}
				if r.URL.Path == "/v2/" || !seen(&http.Request{Method: r.Method, URL: &path}) {
					return false
				}
				fails(w, r)
				return true
			})
			var told pushed
			if err := r.Push(context.Background(), mustReference(t, g.host+"/me/app:1"), want, told.options()); err != nil {
				t.Fatal(err)
			}
			for _, l := range want.Layers {
				if told.sent[l.Digest] != l.Size {
					t.Errorf("layer %s: %d of %d bytes sent", l.Digest, told.sent[l.Digest], l.Size)
				}
			}
			if _, err := pullAll(t, r, g.host+"/me/app:1", PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPushFails: the tag names what it named before.
func TestPushFails(t *testing.T) {
	old, fresh := newTestImage("old"), loadOne(t, layoutOf(newTestImage("base", noise(500<<10)), "app:1"))
	damaged := *fresh
	damaged.Layers = slices.Clone(fresh.Layers)
	damaged.Layers[1].open = func(context.Context, Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(strings.Repeat("x", int(fresh.Layers[1].Size)))), nil
	}
	for _, tc := range []struct {
		name string
		img  *Image
		part string
		code int
		says []string
		kind error
	}{
		{"no right", fresh, "/uploads/", http.StatusForbidden, []string{"access is denied", "blob sha256:"}, ErrUnauthorized},
		{"no right to the manifest", fresh, "/manifests/", http.StatusUnauthorized, []string{"access is denied"}, ErrUnauthorized},
		{"broken", fresh, "/uploads/", http.StatusInternalServerError, []string{"500"}, nil},
		{"the layer is damaged", &damaged, "nothing", 0, []string{"layer 2 of 2", "hash to"}, ErrCorrupt},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g, r := newTestRegistry(t), impatient()
			before := g.add("me/app", "1", old)
			g.from(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodGet || r.Method == http.MethodHead || !strings.Contains(r.URL.Path, tc.part) {
					return false
				}
				w.WriteHeader(tc.code)
				return true
			})
			err := r.Push(context.Background(), mustReference(t, g.host+"/me/app:1"), tc.img, PushOptions{})
			wantError(t, err, append(tc.says, "push "+g.host+"/me/app:1")...)
			if tc.kind != nil && !errors.Is(err, tc.kind) {
				t.Errorf("error %q is no %q", err, tc.kind)
			}
			g.from(nil)
			if got, err := pullAll(t, r, g.host+"/me/app:1", PullOptions{}); err != nil || got.Digest() != before["digest"] {
				t.Errorf("the tag names %v (error: %v), want what it named before", got, err)
			}
		})
	}
}

// TestSaveArchive writes images and reads them back.
func TestSaveArchive(t *testing.T) {
	one, two := newTestImage("base", "one"), newTestImage("base", "two")
	imgOne, imgTwo := loadOne(t, layoutOf(one, "app:1")), loadOne(t, dockerLayoutOf(two, "registry.example/app:1"))
	other := *imgOne
	other.Refs = []Reference{mustReference(t, "other/name:7"), mustReference(t, "app@"+string(imgOne.Digest()))}
	nameless := loadOne(t, layoutOf(newTestImage("nameless"), "x:1"))
	nameless.Refs = nil
	for _, form := range []ArchiveForm{FormOCI, FormDocker} {
		t.Run(string(form), func(t *testing.T) {
			var first, second bytes.Buffer
			for _, buf := range []*bytes.Buffer{&first, &second} {
				if err := SaveArchive(context.Background(), buf, []*Image{imgOne, imgTwo, &other, nameless}, form); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(first.Bytes(), second.Bytes()) {
				t.Error("the same images give other bytes")
			}
			if n := bytes.Count(first.Bytes(), []byte(blobPath(imgOne.Layers[0].Digest))); n > 3 {
				t.Errorf("the common layer is named %d times", n)
			}
			a := openArchive(t, writeTar(t, "x.tar", first.Bytes()))
			got, err := a.Images()
			if err != nil || len(got) != 3 {
				t.Fatalf("%d images (error: %v), want 3", len(got), err)
			}
			if err := readImages(a); err != nil {
				t.Error(err)
			}
			for i, want := range []*Image{imgOne, imgTwo, nameless} {
				if got[i].Digest() != want.Digest() || got[i].ManifestType != want.ManifestType {
					t.Errorf("image %d: manifest %s, want %s", i, got[i].Digest(), want.Digest())
				}
			}
			for i, want := range []string{fmt.Sprint(familiar(append(imgOne.Refs, other.Refs...))), "[registry.example/app:1]", "[]"} {
				if names := fmt.Sprint(familiar(got[i].Refs)); names != want {
					t.Errorf("image %d: names %s, want %s", i, names, want)
				}
			}

			// What reads docker archives finds the same, but for the manifests.
			if form == FormDocker {
				checkDockerHalf(t, first.Bytes(), imgOne, imgTwo, nameless)
			}
		})
	}
}

// checkDockerHalf reads an archive as if it were no layout.
func checkDockerHalf(t *testing.T, archive []byte, want ...*Image) {
	t.Helper()
	var fs fileSet
	for tr := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "oci-layout" && h.Name != "index.json" {
			fs.set(h.Name, body)
		}
	}
	a := openArchive(t, writeTar(t, "x.tar", tarOf(fs)))
	got, err := a.Images()
	if err != nil || len(got) != len(want) {
		t.Fatalf("%d images (error: %v), want %d", len(got), err, len(want))
	}
	if err := readImages(a); err != nil {
		t.Error(err)
	}
	for i := range want {
		if got[i].ID() != want[i].ID() || !slices.Equal(got[i].DiffIDs(), want[i].DiffIDs()) {
			t.Errorf("image %d has the id %s, want %s", i, got[i].ID(), want[i].ID())
		}
	}
}

// TestSaveFails: a damaged layer ends the writing.
func TestSaveFails(t *testing.T) {
	img := loadOne(t, layoutOf(newTestImage("x"), "app:1"))
	img.Layers[0].open = func(context.Context, Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("short")), nil
	}
	wantError(t, SaveArchive(context.Background(), io.Discard, []*Image{img}, FormOCI), "save: image app:1", "layer 1 of 1", "ends after 5")
}
