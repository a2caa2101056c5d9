package layerstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/layerstore"
)

// neverWrong fails the test if what open gives ends well and is not want.
func neverWrong(t *testing.T, want []byte, open func() (io.ReadCloser, error)) {
	t.Helper()
	r, err := open()
	if err != nil {
		return
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err == nil && string(got) != string(want) {
		t.Errorf("%d wrong bytes without an error", len(got))
	}
}

// TestLoadingMendsObjects loses bytes of an object and loads a layer that has
// the contents.
func TestLoadingMendsObjects(t *testing.T) {
	s := openStore(t)
	addImage(t, s, imageOf(t, "app", base))
	var cut string
	err := filepath.WalkDir(filepath.Join(s.Root(), "objects"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			cut = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(cut, 1); err != nil {
		t.Fatal(err)
	}
	other := tarOf(file("a", "root"), file("b", strings.Repeat("0123456789", 1000)))
	if _, err := addBlob(t, s, other); err != nil {
		t.Fatal(err)
	}
	verifyStore(t, s)
}

// TestStraysAndDirectories puts things where they do not belong and takes whole
// directories away.
func TestStraysAndDirectories(t *testing.T) {
	root, img := damagedStore(t)
	glob := func(t *testing.T, root, pattern string) string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s, %v", pattern, err)
		}
		return found[0]
	}
	write := func(name string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			if err := os.WriteFile(filepath.Join(root, name), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(pattern string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			if err := os.RemoveAll(glob(t, root, pattern)); err != nil {
				t.Fatal(err)
			}
		}
	}
	fifo := func(pattern string) func(*testing.T, string) {
		return func(t *testing.T, root string) {
			path := glob(t, root, pattern)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(path, 0o444); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name  string
		do    func(*testing.T, string)
		kind  string // of damage that is told; empty: none
		says  string
		fixed bool
	}{
		{"a file in the root", write("notes"), "leftover", "takes up room", false},
		{"a file in tmp", write("tmp/x"), "", "", true},
		{"a file in objects", write("objects/x"), "leftover", "gc does not run", true},
		{"a file in the place of objects' directory", write("objects/zz"), "leftover", "gc does not run", true},
		{"a file among layers", write("layers/x"), "leftover", "gc does not run", true},
		{"a file among chains", write("chains/x"), "leftover", "takes up room", true},
		{"a file among images", write("images/x"), "leftover", "takes up room", true},
		{"a file among documents", write("images/blobs/sha256/x"), "leftover", "takes up room", true},
		{"a file in a layer", func(t *testing.T, root string) {
			write(strings.TrimPrefix(glob(t, root, "layers/*")+"/x", root))(t, root)
		}, "leftover", "takes up room", true},
		{"a layer is missing", remove("layers/*"), "layer", "cannot be read or stacked", true},
		{"a chain is missing", remove("chains/*"), "", "", true},
		{"a chain without its tree", remove("chains/*/tree"), "chain", "cannot be mounted", true},
		{"a directory of objects is missing", remove("objects/*"), "object", "cannot be read", true},
		{"all layers are missing", remove("layers"), "store", "nothing can be found", true},
		{"all chains are missing", remove("chains"), "store", "nothing can be found", true},
		{"an object is a FIFO", fifo("objects/*/*"), "fifo", "waits for ever", true},
		{"a tree is a FIFO", fifo("layers/*/tree"), "fifo", "waits for ever", true},
		{"a blob is a FIFO", fifo("layers/*/blob-*"), "fifo", "waits for ever", true},
		{"an object can be written", func(t *testing.T, root string) {
			if err := os.Chmod(glob(t, root, "objects/*/*"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "object", "cannot be read", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			copied := filepath.Join(t.TempDir(), "store")
			if out, err := exec.Command("cp", "-a", root, copied).CombinedOutput(); err != nil {
				t.Fatalf("cp: %v: %s", err, out)
			}
			test.do(t, copied)
			s := openStoreAt(t, copied)
			report, err := s.Fsck(t.Context(), layerstore.FsckOptions{Restart: true})
			stops := test.kind == "store" || test.kind == "fifo" // it cannot go on
			if (err != nil) != stops {
				t.Fatal(err)
			}
			damages := report.Damages
			if !stops {
				damages = fsckAll(t, s, layerstore.FsckOptions{Restart: true})
			}
			told := test.kind == "" && len(damages) == 0
			for _, d := range damages {
				told = told || (d.Kind == test.kind || test.kind == "fifo") && strings.Contains(d.Consequence, test.says)
			}
			if !told {
				t.Errorf("not told in %s", words(damages))
			}
			fsckAll(t, s, layerstore.FsckOptions{Repair: true, Images: []*oci.Image{img}})
			if left := fsckAll(t, s, layerstore.FsckOptions{}); (len(left) == 0) != test.fixed {
				t.Errorf("after the repair: %s", words(left))
			}
		})
	}
}

// TestFsckGoesOn interrupts a check again and again: each begins where the one
// before was, and damage that was found is still told in the end.
func TestFsckGoesOn(t *testing.T) {
	s := openStore(t)
	var layers []blob // each of which is looked at in one go
	for i := range 6 {
		var members []member
		for j := range 20 {
			members = append(members, file(fmt.Sprint("f", j), strings.Repeat(fmt.Sprint(i, j), 1000)))
		}
		layers = append(layers, tarOf(members...))
	}
	addImage(t, s, imageOf(t, "app", layers...))
	objects, err := filepath.Glob(filepath.Join(s.Root(), "objects", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	doDamage(t, objects[3], flipped, "")
	var read, total int64
	runs := 0
	for {
		if runs++; runs > 100 {
			t.Fatal("it does not come to an end")
		}
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		report, err := s.Fsck(ctx, layerstore.FsckOptions{Progress: func(_, all int64) {
			total = all
			if calls++; calls > 90 { // more than a layer needs, and far from all
				cancel()
			}
		}})
		cancel()
		read += report.Bytes
		if runs > 1 && report.Resumed.IsZero() {
			t.Errorf("run %d does not go on with another", runs)
		}
		if err == nil {
			if len(report.Damages) != 1 || report.Damages[0].Kind != "object" {
				t.Errorf("found %s", words(report.Damages))
			}
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if runs < 3 || read > total+total/2 {
		t.Errorf("%d runs read %d bytes of %d", runs, read, total)
	}
	if _, err := os.Lstat(filepath.Join(s.Root(), "fsck.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state is still there: %v", err)
	}
}

// TestFsckIsAlone has no two at a time.
func TestFsckIsAlone(t *testing.T) {
	s := openStore(t)
	addImage(t, s, imageOf(t, "app", base))
	var second error
	once := false
	_, err := s.Fsck(t.Context(), layerstore.FsckOptions{Progress: func(int64, int64) {
		if !once {
			once = true
			_, second = openStoreAt(t, s.Root()).Fsck(t.Context(), layerstore.FsckOptions{})
		}
	}})
	if err != nil || second == nil || !strings.Contains(second.Error(), "checks it already") {
		t.Errorf("%v, and the second: %v", err, second)
	}
}

// TestFsckIsThrottled: a bound that lets a second pass for each two bytes does not
// let a check end soon.
func TestFsckIsThrottled(t *testing.T) {
	s := openStore(t)
	addImage(t, s, imageOf(t, "app", base))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	report, err := s.Fsck(ctx, layerstore.FsckOptions{BytesPerSecond: 2})
	if !errors.Is(err, context.DeadlineExceeded) || report.Bytes > 512 {
		t.Errorf("read %d bytes, %v", report.Bytes, err)
	}
}

// TestRepairDropsWhatNothingNeeds.
func TestRepairDropsWhatNothingNeeds(t *testing.T) {
	s := openStore(t)
	addImage(t, s, imageOf(t, "app", base))
	if _, err := addBlob(t, s, top); err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"layers/" + top.diffID.Hex() + "/tree"} {
		doDamage(t, filepath.Join(s.Root(), pattern), flipped, "")
	}
	report, err := s.Fsck(t.Context(), layerstore.FsckOptions{Repair: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.Damages {
		if d.Consequence != "nothing that can be read needs it" || d.Repaired != "removed: nothing needed it" {
			t.Errorf("%v: %s; %s", d, d.Consequence, d.Repaired)
		}
	}
	if len(report.Damages) == 0 || s.HasLayer(top.diffID) || !s.HasLayer(base.diffID) {
		t.Errorf("found %s", words(report.Damages))
	}
	verifyStore(t, s)
}

// TestRepairPulls brings what is damaged from where the image was pulled, by its
// digest, and asks nobody for what was not.
func TestRepairPulls(t *testing.T) {
	for _, from := range []string{"", "registry.example/app:1"} {
		s := openStore(t)
		img := imageOf(t, "app", plain)
		o := layerstore.AddOptions{}
		if from != "" {
			o.PulledFrom = reference(t, from)
		}
		if _, _, err := s.AddImage(t.Context(), img, o); err != nil {
			t.Fatal(err)
		}
		if err := s.Tag(t.Context(), "app", reference(t, "other")); err != nil { // which must not forget it
			t.Fatal(err)
		}
		if _, err := s.RemoveImage(t.Context(), "app", false); err != nil {
			t.Fatal(err)
		}
		for _, pattern := range []string{"objects/*/*", "images/blobs/sha256/*"} {
			paths, err := filepath.Glob(filepath.Join(s.Root(), pattern))
			if err != nil || len(paths) < 2 {
				t.Fatalf("%q, %v", paths, err)
			}
			for _, path := range paths {
				doDamage(t, path, flipped, "")
			}
		}
		var asked []string
		report, err := s.Fsck(t.Context(), layerstore.FsckOptions{Repair: true, Pull: func(_ context.Context, ref oci.Reference) (*oci.Image, error) {
			asked = append(asked, ref.String())
			return img, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		left := 0
		for _, d := range report.Damages {
			if d.Repaired == "" {
				left++
			}
		}
		if from == "" {
			if left == 0 || len(asked) > 0 {
				t.Errorf("asked for %q; %d damages are left", asked, left)
			}
			continue
		}
		if left > 0 || len(asked) != 1 || asked[0] != "registry.example/app@"+string(img.Digest()) {
			t.Errorf("asked for %q; %d damages are left", asked, left)
		}
		verifyStore(t, s)
	}
}
