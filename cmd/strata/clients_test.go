package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"strata/internal/need"
	"strata/internal/oci"
)

// clients is a room in which strata, other people's programs and a registry of
// the Docker project's own make work on the same images.
type clients struct {
	t        *testing.T
	dir      string
	registry string // 127.0.0.1:port
}

func newClients(t *testing.T) *clients {
	t.Helper()
	need.Root(t)
	for _, program := range []string{"docker-registry", "skopeo", "umoci", "buildah", "podman", "runc", "gcc"} {
		need.Tool(t, program)
	}
	dir, err := os.MkdirTemp("", "strata-test-clients-*")
	if err != nil {
		t.Fatal(err)
	}
	c := &clients{t: t, dir: dir}
	t.Cleanup(func() {
		clearMounts(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// runc wants neither limits that it may not set nor a systemd; nothing is to be
	// told to anybody's journal.
	c.write("containers.conf", `[containers]
default_ulimits = []
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
`)
	c.write("config.json", "{}") // no credentials
	c.write("policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	c.write("registries.conf", "[[registry]]\nlocation = \"127.0.0.1\"\ninsecure = true\n")
	if err := os.Symlink(exe, c.path("strata")); err != nil {
		t.Fatal(err)
	}
	c.startRegistry()
	return c
}

func (c *clients) path(name string) string { return filepath.Join(c.dir, name) }

func (c *clients) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// startRegistry runs docker-registry on a port that was free a moment ago.
func (c *clients) startRegistry() {
	c.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	c.registry = l.Addr().String()
	l.Close()
	c.write("registry.yml", fmt.Sprintf(
		"version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n",
		c.path("registry"), c.registry))
	var out bytes.Buffer
	cmd := exec.Command("docker-registry", "serve", c.path("registry.yml"))
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	c.t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for {
		resp, err := http.Get("http://" + c.registry + "/v2/")
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			c.t.Fatalf("docker-registry: %v\n%s", err, out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// run runs shell commands, in which {R} is the registry, and returns what they
// print.
func (c *clients) run(commands string) string {
	c.t.Helper()
	// Podman and buildah work in one storage, without mounts that would stay.
	storage := fmt.Sprintf("--root %s --runroot %s --storage-driver vfs ", c.path("storage"), c.path("storage-run"))
	commands = strings.NewReplacer("{R}", c.registry,
		"podman ", "podman "+storage+"--tmpdir "+c.path("podman-tmp")+" ", "buildah ", "buildah "+storage,
		"skopeo ", "skopeo --policy "+c.path("policy.json")+" ").Replace(commands)
	cmd := exec.Command("/bin/sh", "-ec", commands)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), "PATH="+c.dir+":"+os.Getenv("PATH"), "HOME="+c.dir, "TMPDIR="+c.dir,
		"STRATA_ROOT="+c.path("store"), "STRATA_RUN="+c.path("run"), "DOCKER_CONFIG="+c.dir,
		"CONTAINERS_CONF="+c.path("containers.conf"), "CONTAINERS_REGISTRIES_CONF="+c.path("registries.conf"),
		"BUILDAH_ISOLATION=chroot")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%s: %v\n%s%s", commands, err, out, stderr.String())
	}
	return string(out)
}

// digestOf is the digest of the manifest that skopeo finds at a place.
func (c *clients) digestOf(at string) string {
	c.t.Helper()
	tls := ""
	if strings.HasPrefix(at, "docker://") {
		tls = "--tls-verify=false "
	}
	return string(oci.DigestBytes([]byte(c.run("skopeo inspect --raw " + tls + at))))
}

// manifest is the digest of the manifest, and the image's id, that strata has.
func (c *clients) manifest(name string) (digest, id string) {
	c.t.Helper()
	var images []inspectedImage
	if err := json.Unmarshal([]byte(c.run("strata inspect "+name)), &images); err != nil {
		c.t.Fatal(err)
	}
	return images[0].Digest, images[0].ID
}

// buildHello has buildah build an image with a program that greets, and push it.
// The layer is another for each name: buildah prefers to use blobs again that it
// has once compressed in whatever way.
func (c *clients) buildHello(name, at, flags string) {
	c.t.Helper()
	c.write("name", name)
	c.run(`c=$(buildah from scratch)
buildah copy -q $c hello /bin/hello
buildah copy -q $c name /etc/name
buildah config --cmd /bin/hello --label made=here $c
buildah commit -q --squash $c ` + name + `
buildah rm $c >rm.txt
buildah push -q --tls-verify=false ` + flags + ` ` + name + ` docker://` + at)
}

// TestClients sends an image around, in both compressions and both kinds of
// manifest: whoever has it, its digests are the same.
func TestClients(t *testing.T) {
	c := newClients(t)
	c.write("hello.c", "#include <stdio.h>\nint main(void) { puts(\"hello from a layer\"); return 0; }\n")
	c.run("gcc -static -s -o hello hello.c")
	for _, compression := range []string{"gzip", "zstd"} {
		for _, format := range []string{"oci", "v2s2"} {
			if compression == "zstd" && format == "v2s2" {
				continue // buildah has no media type for it
			}
			t.Run(compression+" "+format, func(t *testing.T) {
				c := *c
				c.t = t
				c.sendAround(compression, format)
			})
		}
	}
}

func (c *clients) sendAround(compression, format string) {
	t := c.t
	name := compression + format
	theirs, ours := "{R}/theirs/"+name+":1", "{R}/ours/"+name+":1"
	c.buildHello(name, theirs, "--compression-format "+compression+" --format "+format)
	want := c.digestOf("docker://" + theirs)

	// We pull buildah's.
	if raw := c.run("skopeo inspect --raw --tls-verify=false docker://" + theirs); !strings.Contains(raw, compression) {
		t.Fatalf("buildah has not compressed with %s: %s", compression, raw)
	}
	c.run("strata pull -q " + theirs)
	digest, id := c.manifest(theirs)
	if digest != want {
		t.Errorf("pulled as %s, want %s", digest, want)
	}
	c.run("strata create --name " + name + " " + theirs)

	// skopeo finds what we push, and takes it elsewhere and back.
	c.run("strata tag " + theirs + " " + ours + " && strata push -q " + ours)
	copied := "oci:" + name + "-layout:1"
	c.run("skopeo copy -q --preserve-digests --src-tls-verify=false docker://" + ours + " dir:" + name + "-dir")
	c.run("skopeo copy -q --preserve-digests --dest-tls-verify=false dir:" + name + "-dir docker://{R}/again/" + name + ":1")
	for _, at := range []string{"docker://" + ours, "dir:" + name + "-dir", "docker://{R}/again/" + name + ":1"} {
		if got := c.digestOf(at); got != want {
			t.Errorf("%s has %s, want %s", at, got, want)
		}
	}
	c.run("strata --root again pull -q {R}/again/" + name + ":1")

	// Both formats of archive.
	c.run("strata save " + ours + " -o " + name + ".docker.tar && strata save --format oci " + ours + " -o " + name + ".oci.tar")
	for _, form := range []string{"oci", "docker"} {
		if got := c.digestOf("oci-archive:" + name + "." + form + ".tar"); got != want {
			t.Errorf("saved for %s as %s, want %s", form, got, want)
		}
	}
	config := c.run("skopeo inspect --config --raw docker-archive:" + name + ".docker.tar:" + ours)
	if got := string(oci.DigestBytes([]byte(config))); got != id {
		t.Errorf("in the docker archive, the image is %s, want %s", got, id)
	}
	if format == "oci" {
		c.run("skopeo copy -q --preserve-digests oci-archive:" + name + ".oci.tar " + copied)
		c.run("skopeo copy -q --preserve-digests --dest-tls-verify=false " + copied + " docker://{R}/archived/" + name + ":1")
		if got := c.digestOf("docker://{R}/archived/" + name + ":1"); got != want {
			t.Errorf("copied from our archive as %s, want %s", got, want)
		}
	}

	// buildah pulls ours, podman loads and runs it, umoci unpacks it.
	c.run("buildah pull -q --tls-verify=false " + ours)
	if got := c.run("buildah inspect --type image --format '{{.FromImageDigest}}' " + ours); strings.TrimSpace(got) != want {
		t.Errorf("buildah has pulled %s, want %s", got, want)
	}
	c.run("podman rmi -f " + ours + " >removed.txt; podman load -q -i " + name + ".docker.tar")
	if got := c.run("podman run --rm --network none " + ours); got != "hello from a layer\n" {
		t.Errorf("podman runs it and says %q", got)
	}
	if compression == "gzip" && format == "oci" { // umoci knows no other
		c.run("mkdir " + name + "-tar && tar -xf " + name + ".oci.tar -C " + name + "-tar")
		c.run("umoci unpack --image " + name + "-tar:1 " + name + "-bundle")
		c.run("cmp hello " + name + "-bundle/rootfs/bin/hello")
	}
}
