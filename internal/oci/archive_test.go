package oci

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestFormsOfOneImage reads one image through every form that it can be
// stored in.
func TestFormsOfOneImage(t *testing.T) {
	img := newTestImage("base", "top")
	layout, docker := layoutOf(img, "app:1"), dockerOf(img, "app:1")
	dotted := fileSet{}
	for _, f := range layout {
		dotted = append(dotted, file{name: "./" + f.name, body: f.body})
	}
	for _, tc := range []struct {
		name, path string
		compressed bool // layers
	}{
		{"layout directory", writeDir(t, "x", layout), true},
		{"layout tar", writeTar(t, "x.tar", tarOf(layout)), true},
		{"layout tar with dotted names", writeTar(t, "x.tar", tarOf(dotted)), true},
		{"layout tar gzip", writeTar(t, "x", gzipOf(tarOf(layout))), true},
		{"layout tar zstd", writeTar(t, "x", zstdOf(tarOf(layout))), true},
		{"docker tar", writeTar(t, "x.tar", tarOf(docker)), false},
		{"docker tar gzip", writeTar(t, "x.misleading.zst", gzipOf(tarOf(docker))), false},
		{"docker tar zstd", writeTar(t, "x.tar.zst", zstdOf(tarOf(docker))), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := openArchive(t, tc.path)
			images, err := a.Images()
			if err != nil || len(images) != 1 {
				t.Fatalf("%d images (error: %v), want 1", len(images), err)
			}
			got := images[0]
			ref, err := ParseReference("app:1")
			if err != nil {
				t.Fatal(err)
			}
			if byRef, err := a.Image(ref); err != nil || byRef != got {
				t.Errorf("Image(app:1) is another image (error: %v)", err)
			}
			if !bytes.Equal(got.Config, img.config) || got.ID() != DigestBytes(img.config) {
				t.Errorf("config %q, want %q", got.Config, img.config)
			}
			if len(got.Layers) != len(img.tars) {
				t.Fatalf("%d layers, want %d", len(got.Layers), len(img.tars))
			}
			for i, l := range got.Layers {
				want, mediaType := img.tars[i], ociLayer
				if tc.compressed {
					want, mediaType = gzipOf(want), ociLayerGzip
				}
				if l.MediaType != mediaType {
					t.Errorf("layer %d: media type %s, want %s", i, l.MediaType, mediaType)
				}
				if b := readLayer(t, l); !bytes.Equal(b, want) {
					t.Errorf("layer %d is not what was put in", i)
				}
				if l.DiffID != DiffID(DigestBytes(img.tars[i])) {
					t.Errorf("layer %d: diffID %s", i, l.DiffID)
				}
			}
		})
	}
}

func TestStandardInput(t *testing.T) {
	img := newTestImage("x")
	fs := newLayout()
	fs.index(named(img.addTo(&fs), "latest"))
	stdin := os.Stdin
	t.Cleanup(func() { os.Stdin = stdin })
	for name, b := range map[string][]byte{"plain": tarOf(fs), "gzip": gzipOf(tarOf(fs))} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		os.Stdin = r
		go func() {
			w.Write(b)
			w.Close()
		}()
		images, err := openArchive(t, "-").Images()
		if err != nil || len(images) != 1 {
			t.Fatalf("%s: %d images (error: %v), want 1", name, len(images), err)
		}
		// A bare tag has no file's name to be a tag of.
		if len(images[0].Refs) != 0 {
			t.Errorf("%s: named %v", name, images[0].Refs)
		}
		readLayer(t, images[0].Layers[0])
		r.Close()
	}

	// A file on standard input is read from where it stands.
	path := writeTar(t, "x", append([]byte("read by another"), tarOf(fs)...))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(int64(len("read by another")), io.SeekStart); err != nil {
		t.Fatal(err)
	}
	os.Stdin = f
	if err := readAll(t, "-"); err != nil {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	annotate := func(key, value string) object { return object{key: value} }
	for _, tc := range []struct {
		name, file  string
		annotations object
		want        []string
	}{
		{"whole reference", "x", annotate("org.opencontainers.image.ref.name", "debian:12"), []string{"debian:12"}},
		{"repository with a slash", "x", annotate("org.opencontainers.image.ref.name", "me/app"), []string{"me/app:latest"}},
		{"bare tag takes the base name", "redis", annotate("org.opencontainers.image.ref.name", "7"), []string{"redis:7"}},
		{"suffixes are not part of it", "redis.oci.tar", annotate("org.opencontainers.image.ref.name", "7"), []string{"redis:7"}},
		{"bare tag in a badly named file", "Not A Name.tar", annotate("org.opencontainers.image.ref.name", "7"), []string{}},
		{"containerd's name wins", "x", object{
			"io.containerd.image.name":          "docker.io/library/alpine:3",
			"org.opencontainers.image.ref.name": "3",
		}, []string{"alpine:3"}},
		{"no name", "x", nil, []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := newLayout()
			fs.index(with(newTestImage("x").addTo(&fs), object{"annotations": tc.annotations}))
			images, err := openArchive(t, writeTar(t, tc.file, tarOf(fs))).Images()
			if err != nil {
				t.Fatal(err)
			}
			if got := familiar(images[0].Refs); !slices.Equal(got, tc.want) {
				t.Errorf("names %v, want %v", got, tc.want)
			}
		})
	}
	if got := archiveBaseName("/a/b/redis.tar.zst"); got != "redis" {
		t.Errorf("archiveBaseName gives %q", got)
	}
}

func TestSeveralImages(t *testing.T) {
	one, two := newTestImage("1"), newTestImage("1", "2")
	layout := newLayout()
	first := one.addTo(&layout)
	layout.index(named(first, "one:a"), named(two.addTo(&layout), "two:1"), named(first, "one:b"), named(first, "one:a"))

	var docker fileSet
	docker.set("manifest.json", encode(list{
		one.dockerItemOf(&docker, "one:a"), two.dockerItemOf(&docker, "two:1"), one.dockerItemOf(&docker, "one:b", "one:a"),
	}))
	for name, fs := range map[string]fileSet{"layout": layout, "docker": docker} {
		t.Run(name, func(t *testing.T) {
			a := openArchive(t, writeTar(t, "x.tar", tarOf(fs)))
			images, err := a.Images()
			if err != nil || len(images) != 2 {
				t.Fatalf("%d images (error: %v), want 2", len(images), err)
			}
			if got := familiar(images[0].Refs); !slices.Equal(got, []string{"one:a", "one:b"}) {
				t.Errorf("names %v", got)
			}
			for _, tc := range []struct {
				ref  string
				want *Image
			}{
				{"one:a", images[0]}, {"one:b", images[0]}, {"two:1", images[1]},
				{"one@" + images[0].Digest().String(), images[0]},
				{"one", nil}, {"one:c", nil}, {"two@" + images[0].Digest().String(), nil},
			} {
				ref, err := ParseReference(tc.ref)
				if err != nil {
					t.Fatal(err)
				}
				got, err := a.Image(ref)
				if got != tc.want {
					t.Errorf("Image(%s) is another image (error: %v)", tc.ref, err)
				}
				if tc.want == nil {
					wantError(t, err, "no image "+tc.ref, "one:a, one:b, two:1")
				}
			}
		})
	}
}

// TestDockerMediaTypes: a layout may hold what a registry gave out, schema 2
// and a manifest list.
func TestDockerMediaTypes(t *testing.T) {
	const docker = "application/vnd.docker.distribution."
	img := newTestImage("base", "middle", "top")
	fs := newLayout()
	manifest := fs.blob(docker+"manifest.v2+json", encode(object{
		"schemaVersion": 2, "mediaType": docker + "manifest.v2+json",
		"config": fs.blob("application/vnd.docker.container.image.v1+json", img.config),
		"layers": list{
			fs.blob("application/vnd.docker.image.rootfs.diff.tar.gzip", gzipOf(img.tars[0])),
			fs.blob("application/vnd.docker.image.rootfs.diff.tar", img.tars[1]),
			fs.blob("application/vnd.docker.image.rootfs.diff.tar.zstd", zstdOf(img.tars[2])),
		},
	}))
	index := fs.blob(docker+"manifest.list.v2+json", encode(object{
		"schemaVersion": 2, "mediaType": docker + "manifest.list.v2+json",
		"manifests": list{with(manifest, object{"platform": object{"os": "linux", "architecture": runtime.GOARCH}})},
	}))
	fs.index(named(manifest, "direct:1"), named(index, "listed:1"))
	images, err := openArchive(t, writeDir(t, "x", fs)).Images()
	if err != nil || len(images) != 2 {
		t.Fatalf("%d images (error: %v), want 2", len(images), err)
	}
	for _, img := range images {
		if img.Digest() != manifest["digest"] || img.ManifestType != docker+"manifest.v2+json" {
			t.Errorf("manifest %s, %s", img.Digest(), img.ManifestType)
		}
		for _, l := range img.Layers {
			readLayer(t, l)
		}
	}
}

// TestOneBadImage: the others of its archive can still be had.
func TestOneBadImage(t *testing.T) {
	fs := newLayout()
	bad := object{"mediaType": "application/x-thing", "digest": "sha256:" + hex64, "size": 2}
	fs.index(named(bad, "bad:1"), named(newTestImage("x").addTo(&fs), "good:1"))
	a := openArchive(t, writeDir(t, "x", fs))
	images, err := a.Images()
	wantError(t, err, "bad:1", "application/x-thing")
	if len(images) != 1 || images[0].Refs[0].Familiar() != "good:1" {
		t.Errorf("images: %v", images)
	}
	good, _ := ParseReference("good:1")
	if _, err := a.Image(good); err != nil {
		t.Error(err)
	}
}

func TestPlatforms(t *testing.T) {
	platform := func(os, arch, variant string) object {
		p := object{"os": os, "architecture": arch}
		if variant != "" {
			p["variant"] = variant
		}
		return object{"platform": p}
	}
	ours, attestation := platform("linux", runtime.GOARCH, ""), platform("unknown", "unknown", "")
	foreign := platform("linux", "not-"+runtime.GOARCH, "")
	windows := platform("windows", runtime.GOARCH, "")
	variant := platform("linux", runtime.GOARCH, "v9")
	for _, tc := range []struct {
		name      string
		platforms []object
		want      int // which is chosen
		refusal   []string
	}{
		{"ours", []object{foreign, windows, ours, attestation}, 2, nil},
		{"attestation first", []object{attestation, ours}, 1, nil},
		{"plain before variant", []object{variant, ours}, 1, nil},
		{"variant when there is no plain one", []object{foreign, variant}, 1, nil},
		{"platform not said", []object{foreign, {}}, 1, nil},
		{"first of equals", []object{ours, ours}, 0, nil},
		{"none", []object{foreign, windows, attestation}, -1, []string{
			"no image for linux/" + runtime.GOARCH, "linux/not-" + runtime.GOARCH + ", windows/" + runtime.GOARCH}},
		{"only attestations", []object{attestation}, -1, []string{"without images"}},
		{"empty", nil, -1, []string{"without images"}},
	} {
		// Through an index of the image, and through several entries of
		// index.json under one name; the others' blobs are not there.
		nested, flat := newLayout(), newLayout()
		manifests := func(fs *fileSet) list {
			l := list{}
			for i, p := range tc.platforms {
				scratch := newLayout()
				into := &scratch
				if i == tc.want {
					into = fs
				}
				l = append(l, named(with(newTestImage(strings.Repeat("x", i+1)).addTo(into), p), "app:1"))
			}
			return l
		}
		index := nested.blob(ociIndex, encode(object{"schemaVersion": 2, "manifests": manifests(&nested)}))
		nested.index(named(index, "app:1"))
		flat.index(manifests(&flat)...)
		for name, fs := range map[string]fileSet{"nested": nested, "flat": flat} {
			if name == "flat" && (tc.refusal != nil || tc.name == "first of equals") {
				continue // an entry of index.json may be for any platform
			}
			t.Run(tc.name+"/"+name, func(t *testing.T) {
				a := openArchive(t, writeDir(t, "x", fs))
				images, err := a.Images()
				if tc.refusal != nil {
					wantError(t, err, append(tc.refusal, "app:1")...)
					return
				}
				if err != nil || len(images) != 1 {
					t.Fatalf("%d images (error: %v), want 1", len(images), err)
				}
				want := newTestImage(strings.Repeat("x", tc.want+1))
				if images[0].ID() != DigestBytes(want.config) {
					t.Errorf("another platform's image was chosen")
				}
				if got := familiar(images[0].Refs); !slices.Equal(got, []string{"app:1"}) {
					t.Errorf("names %v", got)
				}
				if name == "nested" {
					ref, _ := ParseReference("app@" + index["digest"].(Digest).String())
					if got, err := a.Image(ref); got != images[0] {
						t.Errorf("not found by the index's digest: %v", err)
					}
				}
			})
		}
	}
}

// TestPlatformsLoseNames: of several names an image keeps those that no image
// for this machine has.
func TestPlatformsLoseNames(t *testing.T) {
	fs := newLayout()
	ours := with(newTestImage("ours").addTo(&fs), object{"platform": object{"os": "linux", "architecture": runtime.GOARCH}})
	other := with(newTestImage("other").addTo(&fs), object{"platform": object{"os": "linux", "architecture": "other"}})
	fs.index(named(other, "app:1"), named(other, "app:other"), named(ours, "app:1"))
	images, err := openArchive(t, writeDir(t, "x", fs)).Images()
	if err != nil || len(images) != 2 {
		t.Fatalf("%d images (error: %v), want 2", len(images), err)
	}
	for i, want := range []string{"app:other", "app:1"} {
		if got := familiar(images[i].Refs); !slices.Equal(got, []string{want}) {
			t.Errorf("names %v, want %s", got, want)
		}
	}
}

// TestBothForms: a tar of docker save, which is a layout and a docker archive.
func TestBothForms(t *testing.T) {
	img := newTestImage("base", "top")
	both := layoutOf(img, "app:1")
	manifestDigest := func(fs fileSet) Digest {
		images, err := openArchive(t, writeTar(t, "x.tar", tarOf(fs))).Images()
		if err != nil {
			t.Fatal(err)
		}
		if err := readImages(&Archive{entries: []entry{{image: images[0]}}}); err != nil {
			t.Error(err)
		}
		return images[0].Digest()
	}
	layoutDigest := manifestDigest(both)
	both.set("manifest.json", encode(list{img.dockerItemOf(&both, "app:1")}))
	if got := manifestDigest(both); got != layoutDigest {
		t.Errorf("a complete layout is not preferred")
	}
	dockerDigest := manifestDigest(dockerOf(img, "app:1"))
	both.remove(blobPath(DigestBytes(gzipOf(img.tars[1]))))
	if got := manifestDigest(both); got != dockerDigest {
		t.Errorf("with a blob missing from the layout, the docker archive is not read")
	}
	both.remove("index.json")
	if got := manifestDigest(both); got != dockerDigest {
		t.Errorf("without index.json, the docker archive is not read")
	}
}

// TestDockerLayerFiles: what may stand for a layer in a docker archive.
func TestDockerLayerFiles(t *testing.T) {
	img := newTestImage("base", "middle", "top")
	var fs fileSet
	fs.set("shared/layer.tar", img.tars[0])
	fs.link("old/layer.tar", "../shared/layer.tar")
	fs.set("gz.tar", gzipOf(img.tars[1]))
	fs.set("zst.tar", zstdOf(img.tars[2]))
	fs.set("any name.json", img.config)
	fs.set("manifest.json", encode(list{object{
		"Config": "any name.json", "RepoTags": nil, "Layers": list{"old/layer.tar", "gz.tar", "zst.tar"},
	}}))
	images, err := openArchive(t, writeTar(t, "x.tar", tarOf(fs))).Images()
	if err != nil {
		t.Fatal(err)
	}
	if len(images[0].Refs) != 0 {
		t.Errorf("names %v", images[0].Refs)
	}
	for i, want := range []struct {
		mediaType string
		blob      []byte
	}{{ociLayer, img.tars[0]}, {ociLayerGzip, gzipOf(img.tars[1])}, {ociLayerZstd, zstdOf(img.tars[2])}} {
		l := images[0].Layers[i]
		if l.MediaType != want.mediaType || l.Digest != DigestBytes(want.blob) {
			t.Errorf("layer %d: %s %s, want %s", i, l.MediaType, l.Digest, want.mediaType)
		}
		if !bytes.Equal(readLayer(t, l), want.blob) {
			t.Errorf("layer %d is not what was put in", i)
		}
	}
	m, err := ParseManifest(images[0].Manifest, images[0].ManifestType)
	if err != nil || len(m.Layers) != 3 {
		t.Errorf("manifest that was made: %v, %v", m, err)
	}
}

// TestLastEntryWins: a tar with several entries of one name means the last.
func TestLastEntryWins(t *testing.T) {
	fs := layoutOf(newTestImage("x"), "app:1")
	stale := fileSet{{name: "index.json", body: []byte("stale")}, {name: "./oci-layout", link: "nowhere"}}
	if err := readAll(t, writeTar(t, "x.tar", tarOf(append(stale, fs...)))); err != nil {
		t.Error(err)
	}
	wantError(t, readAll(t, writeTar(t, "x.tar", tarOf(append(fs, stale[0])))), "index.json", "invalid character")
}

func TestLayoutOfLinks(t *testing.T) {
	img := newTestImage("x")
	fs := layoutOf(img, "app:1")
	layer := blobPath(DigestBytes(gzipOf(img.tars[0])))
	body := fs[fs.find(layer)].body

	fs.link(layer, "../../pool/file")
	fs.set("pool/file", body)
	if err := readAll(t, writeDir(t, "x", fs)); err != nil {
		t.Errorf("a link within the layout: %v", err)
	}

	outside := writeTar(t, "outside", body)
	fs.link(layer, outside)
	wantError(t, readAll(t, writeDir(t, "x", fs)), "layer 1 of 1", "escapes")
	fs.link(layer, "../../../"+filepath.Base(outside))
	wantError(t, readAll(t, writeDir(t, "x", fs)), "layer 1 of 1", "escapes")
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b := tarOf(layoutOf(newTestImage("x"), "app:1"))
	for name, b := range map[string][]byte{"plain": b, "gzip": gzipOf(b)} {
		_, err := OpenArchive(ctx, writeTar(t, "x.tar", b), ArchiveOptions{TempDir: t.TempDir()})
		if err == nil {
			t.Fatalf("%s: opened, though cancelled", name)
		}
		wantError(t, err, "context canceled")
	}
}
