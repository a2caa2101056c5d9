package main

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"strata/layerstore"
	"strata/testdata"
)

// slowed gives a registry's blobs in pieces and counts them; at is called before
// each.
type slowed struct {
	http.ResponseWriter
	at func()
}

func (s slowed) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		s.at()
		m, err := s.ResponseWriter.Write(p[n:min(n+16<<10, len(p))])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// TestPullKilled kills pulls in the midst of a layer, at moments that the
// registry knows: the store is as it was, and the next pull makes it complete.
func TestPullKilled(t *testing.T) {
	images, err := testdata.Load("demo")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	layout, root := filepath.Join(dir, "layout"), filepath.Join(dir, "store")
	if err := testdata.WriteLayout(layout, images); err != nil {
		t.Fatal(err)
	}
	const rounds = 6
	var pieces atomic.Int64 // that have been sent since the last pull began
	var killAt atomic.Int64
	kill := make(chan struct{}, 1)
	inner := newMemoryRegistry()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			w = slowed{w, func() {
				if pieces.Add(1) == killAt.Load() {
					kill <- struct{}{}
					<-r.Context().Done() // which is the connection's end
				}
			}}
		}
		inner.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	strata := func(root string, args ...string) *exec.Cmd {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(dir, "strata"), append([]string{"--root", root}, args...)...)
		if err := os.Symlink(exe, cmd.Path); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		return cmd
	}
	source := filepath.Join(dir, "source")
	for _, args := range [][]string{
		{"load", "-q", layout}, {"tag", "demo/web:1", host + "/web:1"}, {"tag", "demo/base:1", host + "/base:1"},
		{"push", "-q", host + "/web:1"}, {"push", "-q", host + "/base:1"},
	} {
		if out, err := strata(source, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	pull := func(name string) {
		t.Helper()
		pieces.Store(0)
		killAt.Store(0)
		if out, err := strata(root, "pull", "-q", host+"/"+name).CombinedOutput(); err != nil {
			t.Fatalf("pull %s: %v\n%s", name, err, out)
		}
	}
	pull("base:1") // what the store holds before
	whole := func(wantImages int) {
		t.Helper()
		s, err := layerstore.Open(root, layerstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if report, err := s.Fsck(t.Context(), layerstore.FsckOptions{}); err != nil || len(report.Damages) > 0 {
			t.Errorf("the store is damaged: %v (error: %v)", report.Damages, err)
		}
		list, err := s.Images()
		if err != nil || len(list) != wantImages {
			t.Errorf("%d images (error: %v), want %d", len(list), err, wantImages)
		}
		if left, err := os.ReadDir(filepath.Join(root, "tmp")); err != nil || len(left) > 0 {
			t.Errorf("left in tmp: %v (error: %v)", left, err)
		}
	}
	for round := range rounds {
		pieces.Store(0)
		killAt.Store(1 + rand.Int64N(15)) // of some twenty
		cmd := strata(root, "pull", "-q", host+"/web:1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case <-kill:
			cmd.Process.Kill()
			<-ended
		case err := <-ended:
			t.Fatalf("round %d: the pull ended before piece %d of its layers: %v", round, killAt.Load(), err)
		}
		whole(1)
	}
	pull("web:1")
	whole(2)
	s, err := layerstore.Open(root, layerstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img, err := s.Image(host + "/web:1")
	if err != nil {
		t.Fatal(err)
	}
	out, remade, err := s.Export(t.Context(), img, layerstore.ExportOptions{})
	if err != nil || len(remade) > 0 || out.Digest() != img.Digest {
		t.Errorf("remade %v (error: %v)", remade, err)
	}
}
