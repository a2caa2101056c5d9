package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/need"
	"strata/testdata"
)

// loadDemo loads the images of the demo.
func (l *lab) loadDemo(t *testing.T) {
	t.Helper()
	images, err := testdata.Load("demo")
	if err != nil {
		t.Fatal(err)
	}
	if err := testdata.WriteLayout(filepath.Join(l.dir, "demo"), images); err != nil {
		t.Fatal(err)
	}
	l.command(t, "load", "-q", filepath.Join(l.dir, "demo"))
}

// sees is what root sees in a directory, but for blocks: holes are filled on the way
// through a tar.
func (l *lab) sees(t *testing.T, dir string) seenTree {
	t.Helper()
	seen := walkAs(t, l.strata, 0, dir)
	for name, n := range seen {
		n.Data = false
		seen[name] = n
	}
	return seen
}

// commit makes an image of a container.
func (l *lab) commit(t *testing.T, args ...string) commitJSON {
	t.Helper()
	var made commitJSON
	if err := json.Unmarshal([]byte(l.command(t, append([]string{"commit", "--json"}, args...)...)), &made); err != nil {
		t.Fatal(err)
	}
	return made
}

// oddNames is what random changes do not make.
const oddNames = `
mkdir -p odd/deep/er; cd odd
mknod char c 254 77777; mknod block b 7 3; mkfifo fifo
echo many > one; ln one two; ln one deep/three; ln one four
n=$(printf %0250d 7); echo long > $n; mkdir -p $n.d/$n; ln -s $n/$n/$n dangling
echo 'new line' > 'a
b'; touch -d '1969-12-31 23:59:58.25 UTC' deep; chmod 7755 one; setfattr -n user.key -v value one deep
`

// TestCommitted makes random changes in a mounted container and commits it: the same
// tree is seen in the mount, in that of a container of the image, and in what umoci
// and buildah unpack of the saved image. The layer is the same once it is unmounted.
func TestCommitted(t *testing.T) {
	need.Root(t)
	need.Fuse(t)
	umoci, buildah := need.Tool(t, "umoci"), need.Tool(t, "buildah")
	l := newProgram(t)
	l.loadDemo(t)
	for i := range 3 {
		first, second := fmt.Sprintf("c%d", i), fmt.Sprintf("again%d", i)
		ref := fmt.Sprintf("committed:%d", i)
		dir := l.mount(t, first, []string{"demo/web:1", "demo/db:1", "demo/base:1"}[i])
		scribbleSome(t, l.strata, dir)
		cmd := exec.Command("/bin/sh", "-ec", oddNames)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		want := l.sees(t, dir)
		made := l.commit(t, first, ref)
		if len(made.Writing)+len(made.LeftOut) > 0 {
			t.Errorf("being written %q, left out %q", made.Writing, made.LeftOut)
		}
		l.command(t, "umount", first)
		if again := l.commit(t, first); again.Layer != made.Layer {
			t.Errorf("unmounted, the layer is %s, it was %s", again.Layer, made.Layer)
		}
		l.command(t, "mount", first, dir)
		l.compare(t, "a remount", ref, l.sees(t, dir), want, nil)
		l.command(t, "umount", first)

		l.compare(t, "a container", ref, l.sees(t, l.mount(t, second, ref)), want, nil)
		l.command(t, "umount", second)
		layout := filepath.Join(l.dir, "layout-"+first)
		if err := os.Mkdir(layout, 0o755); err != nil {
			t.Fatal(err)
		}
		l.command(t, "save", "--format", "oci", "-o", layout+".tar", ref)
		l.exec(t, "tar", "-C", layout, "-xf", layout+".tar")
		image := layout + ":" + fmt.Sprint(i)
		bundle := filepath.Join(l.dir, "bundle-"+first)
		l.exec(t, umoci, "unpack", "--image", image, bundle)
		l.compare(t, "umoci", ref, l.sees(t, filepath.Join(bundle, "rootfs")), want, nil)
		l.compare(t, "buildah", ref, asBuildah(l.sees(t, l.buildahMount(t, buildah, "oci:"+image))), asBuildah(want), nil)
	}
	l.command(t, "squash", "--from", "1", "-t", "squashed", "committed:0")
	l.command(t, "gc")
	l.command(t, "fsck")
}

// asBuildah leaves out what containers/storage cannot keep: times before 1970,
// xattrs in trusted., the time of the root, and that what is no regular file has
// several names.
func asBuildah(seen seenTree) seenTree {
	for name, n := range seen {
		if !n.isDir() && n.Mode&unix.S_IFMT != unix.S_IFREG {
			n.Nlink, n.Same = 1, name
		}
		if name == "." || strings.HasPrefix(n.Mtime, "-") {
			n.Mtime = "0.000000000"
		}
		delete(n.Xattrs, "trusted.test")
		seen[name] = n
	}
	return seen
}

// buildahMount has buildah, and so containers/storage, unpack an image.
func (l *lab) buildahMount(t *testing.T, buildah, image string) string {
	t.Helper()
	storage := []string{"--root", filepath.Join(l.dir, "storage"), "--runroot", filepath.Join(l.dir, "storage-run"), "--storage-driver", "vfs"}
	policy := filepath.Join(l.dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"insecureAcceptAnything"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSpace(l.exec(t, buildah, append(storage, "from", "-q", "--signature-policy", policy, image)...))
	return strings.TrimSpace(l.exec(t, buildah, append(storage, "mount", name)...))
}

// TestCommitBesideWriters commits a container in which files are open for writing and
// mapped, while it is mounted and when the process that served it was killed. Whoever
// had them goes on writing, and no object changes.
func TestCommitBesideWriters(t *testing.T) {
	need.Root(t)
	need.Fuse(t)
	l := newProgram(t)
	l.loadDemo(t)
	dir := l.mount(t, "web", "demo/web:1")
	type open struct {
		f      *os.File
		mapped []byte
	}
	var files []open
	for name, size := range map[string]int{"small": 5000, "large": 3 << 20} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		mapped, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Munmap(mapped)
		files = append(files, open{f, mapped})
	}
	scribble := func(b byte) {
		for _, o := range files {
			o.f.WriteAt([]byte{b}, 4000) // refused once nobody serves it, unless the kernel does so itself
		}
	}
	made := l.commit(t, "web", "first")
	if got := fmt.Sprint(made.Writing); got != "[/large /small]" {
		t.Errorf("being written were %s", got)
	}
	scribble('x')
	for _, o := range files {
		o.mapped[0] = 'm'
	}
	l.checkObjects(t)
	var list []containerJSON
	if err := json.Unmarshal([]byte(l.command(t, "ps", "--json")), &list); err != nil || len(list) != 1 {
		t.Fatalf("ps: %v %v", list, err)
	}
	if err := unix.Kill(list[0].PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for l.status(t) == "mounted" {
		time.Sleep(5 * time.Millisecond)
	}
	l.commit(t, "web", "second")
	scribble('y')
	l.checkObjects(t)
	for _, o := range files {
		o.f.Close()
	}
	l.command(t, "umount", "web")
	l.command(t, "snapshot", "web")
	l.checkObjects(t)
	l.command(t, "fsck")
}

// status is what ps says of the one container.
func (l *lab) status(t *testing.T) string {
	t.Helper()
	var list []containerJSON
	if err := json.Unmarshal([]byte(l.command(t, "ps", "--json")), &list); err != nil || len(list) != 1 {
		t.Fatalf("ps: %v %v", list, err)
	}
	return list[0].Status
}
