package container

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/layerstore"
)

// packed is the upper as a layer's tar.
func packed(t *testing.T, ct *Container) []byte {
	t.Helper()
	layer, err := ct.OpenLayer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	var b bytes.Buffer
	if err := layerstore.Pack(t.Context(), &b, layer, layerstore.PackOptions{}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestServedLayer: the process that serves a mount gives the same layer as the upper
// does once it is unmounted, whatever names, attributes and contents there are.
func TestServedLayer(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir, _ := w.detach(t, ct)
	cmd := exec.Command("/bin/sh", "-ec", `
rm etc/gone; mv srv moved; chmod 0700 etc/motd; mkdir srv; echo new > srv/new
ln bin/prog bin/second; ln -s "$(printf '\\377')" "$(printf 'link\\376')"; mkfifo fifo
printf %070000d 1 > "$(printf 'not UTF-8 \\377\\n')"; truncate -s 1M sparse; mkdir -p a/b/c
touch -d '1999-12-31 23:59:59.123456789 UTC' a; chmod 7711 a/b`)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := unix.Setxattr(filepath.Join(dir, "sparse"), "user.\xff=\n", []byte{0, 0xff}, 0); err != nil {
		t.Fatal(err)
	}
	served := packed(t, ct)
	if again := packed(t, ct); !bytes.Equal(served, again) {
		t.Error("asked again, the mount gives another layer")
	}
	if err := ct.Unmount(t.Context(), UnmountOptions{}); err != nil {
		t.Fatal(err)
	}
	if own := packed(t, ct); !bytes.Equal(served, own) {
		t.Errorf("served, the layer is a tar of %d bytes, unmounted another, of %d", len(served), len(own))
	}
	if len(served) < 1<<20+70000 {
		t.Errorf("a tar of %d bytes only", len(served))
	}
}

// TestServedLayerEnds: who has a layer of a mount loses it with the mount, and does
// not keep it from ending.
func TestServedLayerEnds(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir, _ := w.detach(t, ct)
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	layer, err := ct.OpenLayer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	if err := ct.Unmount(t.Context(), UnmountOptions{}); err != nil {
		t.Fatal(err)
	}
	err = layerstore.Pack(t.Context(), new(bytes.Buffer), layer, layerstore.PackOptions{})
	if err == nil || !strings.Contains(err.Error(), "/f: ") {
		t.Errorf("packed after the mount's end: %v", err)
	}
	if before, err := ct.State(); err != nil || before.Status != Created {
		t.Errorf("state %v (%v)", before.Status, err)
	}
}
