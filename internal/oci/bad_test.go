package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBadLayout damages a layout of one image, app:1 with two layers, and
// wants the error to say where and what, as a directory and as a tar.
func TestBadLayout(t *testing.T) {
	img := newTestImage("base", "top")
	config := object{"mediaType": ociConfig, "digest": DigestBytes(img.config), "size": len(img.config)}
	top := gzipOf(img.tars[1])
	topPath := blobPath(DigestBytes(top))

	// rewrite replaces the manifest by what change makes of it.
	rewrite := func(change func(manifest object) object) func(*fileSet) {
		return func(fs *fileSet) {
			fs.index(named(fs.blob(ociManifest, encode(change(img.manifest(fs)))), "app:1"))
		}
	}
	// refer replaces fields of the descriptor of the manifest.
	refer := func(fields object) func(*fileSet) {
		return func(fs *fileSet) { fs.index(with(named(img.addTo(fs), "app:1"), fields)) }
	}
	// reconfigure replaces the config.
	reconfigure := func(config any) func(*fileSet) {
		return func(fs *fileSet) {
			rewrite(func(m object) object { return with(m, object{"config": fs.blob(ociConfig, encode(config))}) })(fs)
		}
	}
	relayer := func(fields object) func(*fileSet) {
		return rewrite(func(m object) object {
			layers := m["layers"].(list)
			return with(m, object{"layers": list{layers[0], with(layers[1].(object), fields)}})
		})
	}
	set := func(name string, body string) func(*fileSet) {
		return func(fs *fileSet) { fs.set(name, []byte(body)) }
	}
	remove := func(name string) func(*fileSet) { return func(fs *fileSet) { fs.remove(name) } }
	diffIDs := func(ids ...any) object {
		return object{"rootfs": object{"type": "layers", "diff_ids": list(ids)}}
	}
	flipped := bytes.Clone(top)
	flipped[len(flipped)/2] ^= 1

	for _, tc := range []struct {
		name   string
		damage func(*fileSet)
		want   []string
	}{
		{"no oci-layout", remove("oci-layout"), []string{"not an OCI image layout"}},
		{"other version", set("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), []string{"oci-layout", `"2.0.0"`, `"1.0.0"`}},
		{"oci-layout no JSON", set("oci-layout", `1.0.0`), []string{"oci-layout", "invalid character"}},
		{"oci-layout too big", set("oci-layout", strings.Repeat(" ", 5000)), []string{"oci-layout", "more than 4096 bytes"}},
		{"no index", remove("index.json"), []string{"index.json", "no"}},
		{"empty index", set("index.json", ``), []string{"index.json", "unexpected end"}},
		{"index no JSON", set("index.json", `hello`), []string{"index.json", "invalid character"}},
		{"index with trailing junk", set("index.json", `{"schemaVersion":2,"manifests":[]} x`), []string{"index.json", "invalid character"}},
		{"index lists nothing", set("index.json", `{"schemaVersion":2,"manifests":[]}`), []string{"index.json lists no images"}},
		{"index of another version", set("index.json", `{"schemaVersion":1,"manifests":[]}`), []string{"schemaVersion is 1"}},
		{"index is a manifest", set("index.json", `{"schemaVersion":2,"mediaType":"`+ociManifest+`","layers":[]}`), []string{"index.json", "calls itself"}},
		{"index is both", set("index.json", `{"schemaVersion":2,"manifests":[],"layers":[]}`), []string{"index.json", "fields of an image manifest"}},
		{"index too big", set("index.json", strings.Repeat(" ", maxManifestBytes+1)), []string{"index.json", "more than 8388608 bytes"}},
		{"index of empty entries", set("index.json", `{"schemaVersion":2,"manifests":[`+strings.Repeat("{},", maxCommas)+`{}]}`), []string{"index.json", "commas"}},
		{"index nested endlessly", set("index.json", strings.Repeat("[", 1<<20)), []string{"index.json", "depth"}},

		{"digest leads out", refer(object{"digest": "sha256:../../../../../../../../../../../../../../../../../../etc/passwd"}), []string{"index.json", "entry 1 of 1", "digest"}},
		{"digest with a slash", refer(object{"digest": "sha256:" + strings.Repeat("a/", 32)}), []string{"index.json", "lower-case hex"}},
		{"digest sha512", refer(object{"digest": "sha512:" + hex64 + hex64}), []string{"index.json", "sha512"}},
		{"digest missing", refer(object{"digest": ""}), []string{"index.json", "empty"}},
		{"manifest missing", refer(object{"digest": "sha256:" + hex64}), []string{"app:1", "manifest sha256:" + hex64, "no"}},
		{"manifest size lies", refer(object{"size": 3}), []string{"app:1", "manifest", "its descriptor says 3"}},
		{"manifest size negative", refer(object{"size": -1}), []string{"app:1", "negative"}},
		{"manifest size enormous", refer(object{"size": int64(1) << 62}), []string{"app:1", "at most 8388608"}},
		{"no media type", refer(object{"mediaType": ""}), []string{"app:1", "no media type"}},
		{"unknown media type", refer(object{"mediaType": "application/x-thing"}), []string{"app:1", "application/x-thing"}},
		{"media type of a layer", refer(object{"mediaType": ociLayer}), []string{"app:1", ociLayer, "not an image manifest"}},
		{"schema 1", refer(object{"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}), []string{"app:1", "schema 1"}},
		{"manifest called an index", refer(object{"mediaType": ociIndex}), []string{"app:1", "calls itself", ociManifest}},
		{"manifest called Docker's", refer(object{"mediaType": "application/vnd.docker.distribution.manifest.v2+json"}), []string{"app:1", "calls itself"}},
		{"malformed name", refer(named(nil, "App:1")), []string{"image sha256:", "org.opencontainers.image.ref.name", "lowercase"}},
		{"name that leads out", refer(named(nil, "../../x:1")), []string{"org.opencontainers.image.ref.name", ".."}},
		{"malformed containerd name", refer(object{"annotations": object{"io.containerd.image.name": "a b"}}), []string{"io.containerd.image.name", "a b"}},
		{"one name, two images", func(fs *fileSet) {
			fs.index(named(img.addTo(fs), "app:1"), named(newTestImage("other").addTo(fs), "app:1"))
		}, []string{"app:1", "given to 2 different images"}},
		{"indexes too deep", func(fs *fileSet) {
			d := img.addTo(fs)
			for range maxIndexDepth {
				d = fs.blob(ociIndex, encode(object{"schemaVersion": 2, "manifests": list{d}}))
			}
			fs.index(named(d, "app:1"))
		}, []string{"app:1", "deeper than"}},

		{"manifest that is an index too", rewrite(func(m object) object { return with(m, object{"manifests": list{}}) }), []string{"app:1", "manifests"}},
		{"manifest that calls itself other", rewrite(func(m object) object { return with(m, object{"mediaType": ociIndex}) }), []string{"app:1", "calls itself", ociIndex}},
		{"manifest no JSON", func(fs *fileSet) { fs.index(named(fs.blob(ociManifest, []byte("{")), "app:1")) }, []string{"app:1", "manifest", "unexpected end"}},
		{"manifest changed", func(fs *fileSet) {
			m := encode(img.manifest(fs))
			fs.set(blobPath(DigestBytes(m)), bytes.Replace(m, []byte("2"), []byte("1"), 1))
		}, []string{"app:1", "manifest", "hash to"}},
		{"artifact", rewrite(func(m object) object {
			return with(m, object{"config": with(config, object{"mediaType": "application/vnd.oci.empty.v1+json"})})
		}), []string{"app:1", "application/vnd.oci.empty.v1+json", "not an image"}},

		{"config missing", remove(blobPath(DigestBytes(img.config))), []string{"app:1", "config", DigestBytes(img.config).String()}},
		{"config changed", set(blobPath(DigestBytes(img.config)), strings.Replace(string(img.config), "amd64", "arm64", 1)), []string{"app:1", "config", "hash to"}},
		{"config size enormous", rewrite(func(m object) object {
			return with(m, object{"config": with(config, object{"size": maxConfigBytes + 1})})
		}), []string{"app:1", "config", "at most"}},
		{"config digest leads out", rewrite(func(m object) object {
			return with(m, object{"config": with(config, object{"digest": "sha256:../../x"})})
		}), []string{"app:1", "config", "digest"}},
		{"config no JSON", reconfigure("text"), []string{"app:1", "config", "cannot unmarshal"}},
		{"config of layers elsewhere", reconfigure(object{"rootfs": object{"type": "layers+base"}}), []string{"app:1", "layers+base"}},
		{"config without rootfs", reconfigure(object{}), []string{"app:1", "rootfs.type"}},
		{"malformed diffID", reconfigure(diffIDs("sha256:"+hex64, "../x")), []string{"app:1", "diff_ids", "layer 2 of 2"}},
		{"fewer diffIDs than layers", reconfigure(diffIDs("sha256:" + hex64)), []string{"app:1", "2 layers", "1 diff_ids"}},
		{"more diffIDs than layers", reconfigure(diffIDs("sha256:"+hex64, "sha256:"+hex64, "sha256:"+hex64)), []string{"app:1", "2 layers", "3 diff_ids"}},

		{"layer of unknown media type", relayer(object{"mediaType": "application/vnd.dev.thing"}), []string{"app:1", "layer 2 of 2", "application/vnd.dev.thing"}},
		{"layer digest leads out", relayer(object{"digest": "sha256:../../../etc/passwd"}), []string{"app:1", "layer 2 of 2", "digest"}},
		{"layer size negative", relayer(object{"size": -5}), []string{"app:1", "layer 2 of 2", "negative"}},
		{"layer size lies", relayer(object{"size": 5}), []string{"app:1", "layer 2 of 2", "its descriptor says 5"}},
		{"layer missing", remove(topPath), []string{"app:1", "layer 2 of 2", DigestBytes(top).String(), topPath}},
		{"layer truncated", set(topPath, string(top[:len(top)-1])), []string{"app:1", "layer 2 of 2", "its descriptor says"}},
		{"layer too long", set(topPath, string(top)+"x"), []string{"app:1", "layer 2 of 2", "its descriptor says"}},
		{"layer changed", set(topPath, string(flipped)), []string{"app:1", "layer 2 of 2", DigestBytes(top).String(), "hash to " + DigestBytes(flipped).String()}},
		{"layer left out by its publisher", func(fs *fileSet) {
			relayer(object{
				"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
				"digest":    "sha256:" + hex64, "urls": list{"https://example.com/layer"},
			})(fs)
		}, []string{"app:1", "layer 2 of 2", "not distributed", "https://example.com/layer"}},
		{"links in a circle", func(fs *fileSet) { fs.link(topPath, DigestBytes(top).Hex()) }, []string{"app:1", "layer 2 of 2", "too many"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := layoutOf(img, "app:1")
			tc.damage(&fs)
			dir := writeDir(t, "x", fs)
			wantError(t, readAll(t, dir), append(tc.want, "archive "+dir)...)
			file := writeTar(t, "x.tar", tarOf(fs))
			wantError(t, readAll(t, file), append(tc.want, "archive "+file)...)
		})
	}
	if err := readAll(t, writeDir(t, "x", layoutOf(img, "app:1"))); err != nil {
		t.Errorf("the undamaged layout: %v", err)
	}
}

func TestBadDocker(t *testing.T) {
	img := newTestImage("base", "top")
	item := img.dockerItemOf(new(fileSet), "app:1")
	layers := item["Layers"].(list)
	config, top := item["Config"].(string), layers[1].(string)
	relist := func(items ...any) func(*fileSet) {
		return func(fs *fileSet) { fs.set("manifest.json", encode(list(items))) }
	}
	set := func(name string, body []byte) func(*fileSet) { return func(fs *fileSet) { fs.set(name, body) } }
	flipped := bytes.Clone(img.tars[1])
	flipped[600] ^= 1

	for _, tc := range []struct {
		name   string
		damage func(*fileSet)
		want   []string
	}{
		{"no manifest.json", func(fs *fileSet) { fs.remove("manifest.json") }, []string{"neither oci-layout nor manifest.json"}},
		{"manifest.json no JSON", set("manifest.json", []byte("{")), []string{"manifest.json", "unexpected end"}},
		{"manifest.json no list", set("manifest.json", []byte("{}")), []string{"manifest.json", "cannot unmarshal"}},
		{"manifest.json empty", relist(), []string{"manifest.json lists no images"}},
		{"manifest.json lists nothing", relist(nil), []string{"config file", "not a name"}},
		{"manifest.json too big", set("manifest.json", bytes.Repeat([]byte(" "), maxManifestBytes+1)), []string{"manifest.json", "more than"}},
		{"manifest.json leads nowhere", func(fs *fileSet) { fs.link("manifest.json", "x") }, []string{"neither oci-layout nor manifest.json"}},
		{"malformed tag", relist(with(item, object{"RepoTags": list{"App:1"}})), []string{"RepoTags", "lowercase"}},
		{"tag that leads out", relist(with(item, object{"RepoTags": list{"../x"}})), []string{"RepoTags", ".."}},
		{"one tag, two images", relist(item, with(item, object{"Layers": list{layers[1], layers[0]}})), []string{"app:1", "given to 2 different images"}},
		{"config leads out", relist(with(item, object{"Config": "../../etc/passwd"})), []string{"app:1", "../../etc/passwd", "not a name"}},
		{"config absolute", relist(with(item, object{"Config": "/etc/passwd"})), []string{"app:1", "/etc/passwd", "not a name"}},
		{"config missing", func(fs *fileSet) { fs.remove(config) }, []string{"app:1", config}},
		{"config changed", set(config, bytes.Replace(img.config, []byte("amd64"), []byte("arm64"), 1)), []string{"app:1", config, "hash to"}},
		{"config too big", set(config, make([]byte, maxConfigBytes+1)), []string{"app:1", config, "more than"}},
		{"layer leads out", relist(with(item, object{"Layers": list{layers[0], "a/../../../etc/passwd"}})), []string{"app:1", "layer 2 of 2", "not a name"}},
		{"layer unnamed", relist(with(item, object{"Layers": list{layers[0], ""}})), []string{"app:1", "layer 2 of 2", "not a name"}},
		{"layer missing", func(fs *fileSet) { fs.remove(top) }, []string{"app:1", "layer 2 of 2", top}},
		{"layer link to nothing", func(fs *fileSet) { fs.link(top, "../../../x") }, []string{"app:1", "layer 2 of 2", top}},
		{"layer links in a circle", func(fs *fileSet) { fs.link(top, "a"); fs.link("a", top) }, []string{"app:1", "layer 2 of 2", "too many symbolic links"}},
		{"layer truncated", set(top, img.tars[1][:700]), []string{"app:1", "layer 2 of 2", "hash to"}},
		{"layer empty", set(top, nil), []string{"app:1", "layer 2 of 2", "hash to"}},
		{"layer changed", set(top, flipped), []string{"app:1", "layer 2 of 2", "hash to"}},
		{"layer xz", set(top, []byte("\xfd7zXZ\x00......")), []string{"app:1", "layer 2 of 2", "xz is not supported"}},
		{"fewer layers", relist(with(item, object{"Layers": layers[:1]})), []string{"app:1", "lists 1 layers", "2 diff_ids"}},
		{"more layers", relist(with(item, object{"Layers": append(layers, layers[0])})), []string{"app:1", "lists 3 layers", "2 diff_ids"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := dockerOf(img, "app:1")
			tc.damage(&fs)
			path := writeTar(t, "x.tar", tarOf(fs))
			wantError(t, readAll(t, path), append(tc.want, "archive "+path)...)
		})
	}
}

func TestBadFile(t *testing.T) {
	good := tarOf(layoutOf(newTestImage("x"), "app:1"))
	gz, zst := gzipOf(good), zstdOf(good)
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 0x55
		return b
	}
	for _, tc := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "it is empty"},
		{"text", bytes.Repeat([]byte("hello "), 500), "not a tar"},
		{"short text", []byte("hello"), "cut short"},
		{"zeros", make([]byte, 4096), "without entries"},
		{"a tar of something else", tarOf(fileSet{{name: "etc/passwd", body: []byte("x")}}), "neither oci-layout nor manifest.json"},
		{"a layer", gzipOf(newTestImage("x").tars[0]), "neither oci-layout nor manifest.json"},
		{"xz", []byte("\xfd7zXZ\x00 and so on"), "xz: not supported"},
		{"bzip2", []byte("BZh91AY&SY"), "bzip2: not supported"},
		{"gzip magic alone", []byte(gzipMagic), "gzip"},
		{"gzip truncated", gz[:len(gz)/2], "gzip data is cut short"},
		{"gzip without its trailer", gz[:len(gz)-1], "gzip data is cut short"},
		{"gzip with a wrong checksum", flip(gz, len(gz)-6), "not what its checksum is of"},
		{"gzip with trailing junk", append(bytes.Clone(gz), "junk junk junk"...), "what follows the last gzip member is not another one"},
		{"gzip with a little trailing junk", append(bytes.Clone(gz), "j"...), "what follows the last gzip member is not another one"},
		{"gzip of text", gzipOf([]byte(strings.Repeat("hello ", 500))), "not a tar"},
		{"gzip of nothing", gzipOf(nil), "without entries"},
		{"zstd truncated", zst[:len(zst)/2], "zstd data is cut short"},
		{"zstd with a wrong checksum", flip(zst, len(zst)-2), "zstd"},
		{"zstd with trailing junk", append(bytes.Clone(zst), "junk junk junk"...), "zstd"},
		{"tar with a damaged header", flip(good, 2*512+10), "entry 2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := writeTar(t, "x.tar", tc.b)
			wantError(t, readAll(t, path), "archive "+path, tc.want)
		})
	}

	missing := filepath.Join(t.TempDir(), "missing")
	wantError(t, readAll(t, missing), "archive "+missing, "no such file")

	path := writeTar(t, "x.tar.gz", gz)
	_, err := OpenArchive(context.Background(), path, ArchiveOptions{TempDir: t.TempDir(), MaxSpool: 1000})
	wantError(t, err, "archive "+path, "more than 1000 bytes")
	_, err = OpenArchive(context.Background(), path, ArchiveOptions{TempDir: missing})
	wantError(t, err, "archive "+path, missing)
}

// TestTruncatedTar cuts a tar at every block and within blocks: as long as a
// byte of the archive's contents is missing, somebody says so.
func TestTruncatedTar(t *testing.T) {
	img := newTestImage("base", "top")
	for name, b := range map[string][]byte{
		"layout": tarOf(layoutOf(img, "app:1")),
		"docker": tarOf(dockerOf(img, "app:1")),
	} {
		end := len(bytes.TrimRight(b, "\x00")) // what follows is padding
		for n := 0; n < end; n += 256 {
			path := writeTar(t, "x.tar", b[:n])
			if err := readAll(t, path); err == nil {
				t.Errorf("%s: cut to %d of %d bytes, and nobody noticed", name, n, end)
			}
		}
	}
}

func TestBadBlobFiles(t *testing.T) {
	img := newTestImage("x")
	layer := blobPath(DigestBytes(gzipOf(img.tars[0])))
	for _, tc := range []struct {
		name string
		make func(path string) error
	}{
		{"FIFO", func(path string) error { return unix.Mkfifo(path, 0o600) }},
		{"directory", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"link to a FIFO", func(path string) error {
			if err := unix.Mkfifo(path+".fifo", 0o600); err != nil {
				return err
			}
			return os.Symlink(filepath.Base(path)+".fifo", path)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := writeDir(t, "x", layoutOf(img, "app:1"))
			path := filepath.Join(dir, layer)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := tc.make(path); err != nil {
				t.Fatal(err)
			}
			wantError(t, readAll(t, dir), "layer 1 of 1", "not a regular file")
		})
	}
}

// TestOddTarEntries: what a tar may hold beside plain files and must not
// confuse anybody.
func TestOddTarEntries(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	entry := func(h tar.Header, body string) {
		h.Size, h.Mode = int64(len(body)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
	}
	entry(tar.Header{Name: "dir/", Typeflag: tar.TypeDir}, "")
	entry(tar.Header{Name: "dir/file", Typeflag: tar.TypeReg}, "contents")
	entry(tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "dir/file"}, "")
	entry(tar.Header{Name: "dir/file", Typeflag: tar.TypeReg}, "newer")
	entry(tar.Header{Name: "hard to nothing", Typeflag: tar.TypeLink, Linkname: "nothing"}, "")
	entry(tar.Header{Name: "absolute", Typeflag: tar.TypeSymlink, Linkname: "/dir/file"}, "")
	entry(tar.Header{Name: "dir/climbs", Typeflag: tar.TypeSymlink, Linkname: "../../../dir/file"}, "")
	entry(tar.Header{Name: "dir/up", Typeflag: tar.TypeSymlink, Linkname: "../../../../etc/passwd"}, "")
	entry(tar.Header{Name: "../../rooted", Typeflag: tar.TypeReg}, "rooted")
	entry(tar.Header{Name: "gone", Typeflag: tar.TypeReg}, "gone")
	entry(tar.Header{Name: "gone", Typeflag: tar.TypeFifo}, "")
	entry(tar.Header{Name: "dot", Typeflag: tar.TypeSymlink, Linkname: "."}, "")
	entry(tar.Header{Name: strings.Repeat("n", 5000), Typeflag: tar.TypeReg}, "x")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	index, err := indexTarSection(context.Background(), io.NewSectionReader(bytes.NewReader(buf.Bytes()), 0, int64(buf.Len())))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"dir/file": "newer", "hard": "contents", "absolute": "newer", "dir/climbs": "newer", "rooted": "rooted",
		"hard to nothing": "", "dir/up": "", "gone": "", "dot": "", "dir": "", ".": "", "../rooted": "", "/rooted": "",
		strings.Repeat("n", 5000): "",
	} {
		b, err := readBounded(index, name, 100)
		if string(b) != want || (err != nil) != (want == "") {
			t.Errorf("%.40s: %q (error: %v), want %q", name, b, err, want)
		}
	}
}

// TestSparseEntry: what a sparse file's bytes in the tar are is not the file.
func TestSparseEntry(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: "index.json", Size: 512, Mode: 0o644, Typeflag: tar.TypeReg, Format: tar.FormatGNU}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// In the header of the old GNU format: one fragment at 4096, a file of
	// 8192 bytes.
	h := buf.Bytes()[:512]
	h[156] = tar.TypeGNUSparse
	copy(h[386:], "00000010000\x0000000001000\x00")
	copy(h[483:], "00000020000\x00")
	copy(h[148:156], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))

	fs := layoutOf(newTestImage("x"), "app:1")
	fs.remove("index.json")
	path := writeTar(t, "x.tar", append(bytes.Clone(buf.Bytes()[:1024]), tarOf(fs)...))
	wantError(t, readAll(t, path), "archive "+path, "index.json", "sparse")
}

// TestVerifiedReader reads with buffers of every size: the last byte never
// comes without the verdict.
func TestVerifiedReader(t *testing.T) {
	const good = "some bytes"
	for _, tc := range []struct {
		name, body string
		want       error
	}{
		{"good", good, nil},
		{"changed", "some bites", ErrCorrupt},
		{"short", good[:4], io.ErrUnexpectedEOF},
		{"long", good + "!", ErrCorrupt},
		{"empty", "", ErrCorrupt},
	} {
		for size := 1; size <= len(good)+2; size++ {
			r := newVerifiedReader(strings.NewReader(tc.body), Descriptor{Digest: DigestBytes([]byte(good)), Size: int64(len(good))})
			read, buf := 0, make([]byte, size)
			var err error
			for err == nil && read < len(good) {
				var n int
				n, err = r.Read(buf)
				read += n
			}
			if tc.want == nil {
				if n, end := r.Read(buf); err != nil || n != 0 || end != io.EOF {
					t.Errorf("%s, buffer of %d: %v, then %d, %v", tc.name, size, err, n, end)
				}
				continue
			}
			if !errors.Is(err, tc.want) || !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, buffer of %d: error %v, want %v with the last byte", tc.name, size, err, tc.want)
			}
			if n, again := r.Read(buf); n != 0 || again != err {
				t.Errorf("%s, buffer of %d: the error does not stay", tc.name, size)
			}
		}
	}
}
