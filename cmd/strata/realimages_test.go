package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"strata/internal/need"
)

// realImages are the images of STRATA_IMAGES, whose README describes them, and
// how another implementation unpacks them: by umoci, after skopeo has made a
// layout with gzip of what umoci does not read.
var realImages = []struct {
	ref, source string
	convert     [][]string // arguments of skopeo; SRC is the source, TMP a directory of its own
	umoci       string
}{
	{ref: "debian:12", source: "family", umoci: "SRC:debian:12"},
	{ref: "debian:12-rebuilt", source: "debian-rebuilt.docker.tar.zst", umoci: "TMP/oci:x",
		convert: [][]string{{"copy", "-q", "docker-archive:SRC", "oci:TMP/oci:x"}}},
	{ref: "nginx:1", source: "family", umoci: "SRC:nginx:1"},
	{ref: "redis:1", source: "family", umoci: "SRC:redis:1"},
	{ref: "deep:1", source: "family", umoci: "SRC:deep:1"},
	{ref: "python:1", source: "python-zstd", umoci: "TMP/oci:x",
		convert: [][]string{
			{"copy", "-q", "--dest-decompress", "oci:SRC:python:1", "dir:TMP/dir"},
			{"copy", "-q", "dir:TMP/dir", "oci:TMP/oci:x"},
		}},
}

// lab is a store with the real images, and the programs to work on it.
type lab struct {
	dir, images string
	strata      string // the program
}

func newLab(t *testing.T) *lab {
	t.Helper()
	images := need.Images(t)
	need.Root(t)
	need.Fuse(t)
	l := newProgram(t)
	l.images = images
	return l
}

// newProgram is a lab without images, and with any user.
func newProgram(t *testing.T) *lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "strata-test-images-*") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		clearMounts(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	l := &lab{dir: dir, strata: filepath.Join(dir, "strata")}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(l.strata, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	return l
}

// command runs strata and returns what it prints.
func (l *lab) command(t *testing.T, args ...string) string {
	t.Helper()
	return l.exec(t, l.strata, append([]string{"--root", l.store(), "--run", filepath.Join(l.dir, "run")}, args...)...)
}

func (l *lab) store() string { return filepath.Join(l.dir, "store") }

func (l *lab) exec(t *testing.T, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir = l.dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(program), strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// load loads one image and returns how many contents and bytes were new.
func (l *lab) load(t *testing.T, source, ref string) (contents int, size int64) {
	t.Helper()
	var loaded []loadedJSON
	if err := json.Unmarshal([]byte(l.command(t, "load", "-q", "--json", filepath.Join(l.images, source), ref)), &loaded); err != nil {
		t.Fatal(err)
	}
	if len(loaded) != 1 || !slices.Contains(loaded[0].References, ref) {
		t.Fatalf("load %s %s: loaded %+v", source, ref, loaded)
	}
	return loaded[0].NewContents, loaded[0].NewBytes
}

// mount makes a container of an image and mounts it where everybody gets to.
func (l *lab) mount(t *testing.T, name, ref string) (dir string) {
	t.Helper()
	dir = filepath.Join(l.dir, "mnt")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l.command(t, "create", "--name", name, ref)
	l.command(t, "mount", name, dir)
	return dir
}

// unpack has umoci make the root filesystem of an image.
func (l *lab) unpack(t *testing.T, i int) (dir string) {
	t.Helper()
	img := realImages[i]
	umoci, skopeo := need.Tool(t, "umoci"), ""
	if len(img.convert) > 0 {
		skopeo = need.Tool(t, "skopeo")
	}
	tmp := filepath.Join(l.dir, fmt.Sprintf("other-%d", i))
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	replace := strings.NewReplacer("SRC", filepath.Join(l.images, img.source), "TMP", tmp).Replace
	for _, args := range img.convert {
		args = slices.Clone(args)
		for i := range args {
			args[i] = replace(args[i])
		}
		l.exec(t, skopeo, args...)
	}
	bundle := filepath.Join(tmp, "bundle")
	l.exec(t, umoci, "unpack", "--image", replace(img.umoci), bundle)
	if err := os.Chmod(bundle, 0o755); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(bundle, "rootfs")
}

// Whatever another program sees in a mounted image, as root or as somebody
// else, is what another implementation makes of the same layers.
func TestRealImages(t *testing.T) {
	l := newLab(t)
	var rebuilt int
	var rebuiltBytes int64
	for _, img := range realImages { // rebuilt comes when debian:12 is all that is known
		n, size := l.load(t, img.source, img.ref)
		t.Logf("%s: %d contents with %d bytes are new", img.ref, n, size)
		if img.ref == "debian:12-rebuilt" {
			rebuilt, rebuiltBytes = n, size
		}
	}
	if rebuilt != 1797 || rebuiltBytes/1e6 != 57 {
		t.Errorf("debian:12-rebuilt adds %d contents with %d bytes to those of debian:12, want 1797 with 57 MB", rebuilt, rebuiltBytes)
	}
	l.checkObjects(t)

	for i, img := range realImages {
		t.Run(img.ref, func(t *testing.T) {
			name := fmt.Sprintf("c%d", i)
			dir, other := l.mount(t, name, img.ref), l.unpack(t, i)
			all := l.compare(t, "root", img.ref, walkAs(t, l.strata, 0, dir), walkAs(t, l.strata, 0, other), nil)
			l.compare(t, "another user", img.ref, walkAs(t, l.strata, 65534, dir), walkAs(t, l.strata, 65534, other), all)
			l.command(t, "umount", name)
		})
	}

	t.Run("writes change no layer", func(t *testing.T) {
		dir := l.mount(t, "scratch", "nginx:1")
		before := hashTree(t, l.store(), "objects", "layers", "chains")
		scribbleIn(t, l.strata, dir)
		l.command(t, "umount", "scratch")
		after := hashTree(t, l.store(), "objects", "layers", "chains")
		for name, digest := range before {
			if after[name] != digest {
				t.Errorf("%s has changed: %s, was %s", name, after[name], digest)
			}
		}
		if len(after) != len(before) {
			t.Errorf("%d files in objects/, layers/ and chains/, were %d", len(after), len(before))
		}
	})
	l.checkDf(t)
}

// compare reports how what is seen differs from what another implementation
// has made. It returns the latter with the numbers of links that directories
// should have, which are taken from all if the walker could not count.
func (l *lab) compare(t *testing.T, who, ref string, got, want, all seenTree) seenTree {
	t.Helper()
	if all == nil {
		countSubdirs(want)
	} else {
		for name, n := range want {
			n.Nlink = all[name].Nlink
			want[name] = n
		}
	}
	lines := differences(got, want)
	const most = 20
	for i, line := range lines {
		if i == most {
			t.Errorf("%s: %s: and %d more", ref, who, len(lines)-most)
			break
		}
		t.Errorf("%s: %s: %s", ref, who, line)
	}
	t.Logf("%s sees %d names in %s", who, len(got), ref)
	return want
}

// checkObjects rehashes all objects and checks how much there is of them.
func (l *lab) checkObjects(t *testing.T) {
	t.Helper()
	var sum int64
	for name, digest := range hashTree(t, l.store(), "objects") {
		if rest := strings.TrimPrefix(name, "objects/"); strings.ReplaceAll(rest, "/", "") != digest {
			t.Errorf("object %s has digest %s", rest, digest)
		}
		info, err := os.Stat(filepath.Join(l.store(), name))
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	t.Logf("%d bytes of objects", sum)
	if sum > 250e6 {
		t.Errorf("%d bytes of objects, want at most 250 MB", sum)
	}
}

// checkDf compares df with du.
func (l *lab) checkDf(t *testing.T) {
	t.Helper()
	var df dfJSON
	if err := json.Unmarshal([]byte(l.command(t, "df", "--json")), &df); err != nil {
		t.Fatal(err)
	}
	var sum int64
	kinds := map[string]int64{}
	for _, k := range df.Kinds {
		sum += k.Bytes
		kinds[k.Kind] = k.Bytes
	}
	if said := du(t, l.store()); df.Total.Bytes != said || sum != said {
		t.Errorf("df: total %d, kinds add up to %d; du says %d", df.Total.Bytes, sum, said)
	}
	if said := du(t, filepath.Join(l.store(), "objects")); kinds["contents"] != said {
		t.Errorf("df: contents take %d; du says %d", kinds["contents"], said)
	}
	if said := du(t, filepath.Join(l.store(), "containers")); kinds["containers"] != said {
		t.Errorf("df: containers take %d; du says %d", kinds["containers"], said)
	}
	// The contents that debian:12-rebuilt alone needs.
	for _, img := range df.Images {
		if slices.Contains(img.References, "debian:12-rebuilt") && (img.OwnBytes < 57e6 || img.OwnBytes > 66e6) {
			t.Errorf("df: debian:12-rebuilt has %d bytes of its own, want 57 MB and what blocks add", img.OwnBytes)
		}
	}
}
