package tree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestRedirectsEqualKernel: uppers that overlayfs wrote with redirect_dir and
// metacopy, used as lowers. The kernel makes each layer by random calls in a
// mount over those before.
func TestRedirectsEqualKernel(t *testing.T) {
	needRoot(t)
	top := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		tmp, err := os.MkdirTemp(top, "")
		must(rt, err)
		defer os.RemoveAll(tmp)
		base := filepath.Join(tmp, "base")
		for _, d := range []string{"a/a/a", "a/b", "b/a", "b/b/b"} {
			must(rt, os.MkdirAll(filepath.Join(base, d), 0o755))
			for ; d != "."; d = filepath.Dir(d) {
				f := filepath.Join(d, "f")
				must(rt, os.WriteFile(filepath.Join(base, f), []byte("base "+f), 0o644))
			}
		}
		dirs := []string{base}
		for i := range rapid.IntRange(1, 3).Draw(rt, "layers") {
			upper := filepath.Join(tmp, fmt.Sprint("upper", i))
			work := filepath.Join(tmp, fmt.Sprint("work", i))
			must(rt, os.Mkdir(upper, 0o755))
			must(rt, os.Mkdir(work, 0o755))
			at, unmount := mountOverlay(rt, tmp, dirs, ",redirect_dir=on,metacopy=on,upperdir="+upper+",workdir="+work)
			func() {
				defer unmount() // also when rapid breaks off
				changeRandomly(rt, at)
			}()
			dirs = append(dirs, upper)
		}
		at, unmount := mountOverlay(rt, tmp, dirs, ",redirect_dir=follow,metacopy=on")
		defer unmount()
		var layers []Tree
		for _, d := range dirs {
			h := openHostDir(rt, d, HostDirOptions{})
			defer h.Close()
			layers = append(layers, h)
		}
		s := Stack(layers...)
		if d := diffLines(seenByStack(rt, s, true), seenByKernel(rt, at, true)); d != "" {
			rt.Fatalf("a stack differs from overlayfs:%s", d)
		}
		checkStackLinks(rt, s)
	})
}

// changeRandomly makes calls below at, of which some may fail.
func changeRandomly(t *rapid.T, at string) {
	dir := rapid.SampledFrom([]string{"a", "b", "a/a", "a/b", "b/a", "b/b", "a/a/a", "b/b/b", "c", "a/c", "c/a", "c/c", "c/b", "a/c/a"})
	for i := range rapid.IntRange(3, 15).Draw(t, "calls") {
		p := filepath.Join(at, dir.Draw(t, "path"))
		switch rapid.SampledFrom([]string{"rename", "rename", "rename", "rename file", "chmod", "chmod file", "remove", "write", "mkdir"}).Draw(t, "call") {
		case "rename":
			_ = os.Rename(p, filepath.Join(at, dir.Draw(t, "to")))
		case "rename file":
			_ = os.Rename(p+"/f", filepath.Join(at, dir.Draw(t, "to"), "f"))
		case "chmod":
			_ = os.Chmod(p, 0o700)
		case "chmod file":
			_ = os.Chmod(p+"/f", 0o600)
		case "remove":
			_ = os.RemoveAll(p)
		case "write":
			_ = os.WriteFile(p+"/f", fmt.Append(nil, "new ", i), 0o644)
		case "mkdir":
			_ = os.Mkdir(p, 0o711)
		}
	}
}

// TestRedirectPathsEqualKernel: redirects that lead through directories which
// are opaque, redirected or absent in the layers between.
func TestRedirectPathsEqualKernel(t *testing.T) {
	needRoot(t)
	base := []layerOp{
		{do: "file", path: "b/f", target: "base b"}, {do: "file", path: "b/a/f", target: "base b/a"},
		{do: "file", path: "a/c/f", target: "base a/c"}, {do: "file", path: "a/x/f", target: "base a/x"},
	}
	tests := []struct {
		name   string
		layers [][]layerOp         // above the base
		xattrs []map[string]string // of each, "path xattr" to value
		shows  string              // a file that must be there, or must not
		absent bool
	}{
		{
			"on from an opaque directory by an absolute redirect",
			[][]layerOp{{{do: "dir", path: "a/c/a"}, {do: "opaque", path: "a"}}, {{do: "dir", path: "d"}}},
			[]map[string]string{{"a/c/a redirect": "/b"}, {"d redirect": "/a/c/a"}},
			"d/a/f", false,
		},
		{
			"by two absolute redirects on one way",
			[][]layerOp{{{do: "dir", path: "a/c/a"}, {do: "opaque", path: "a"}}, {{do: "dir", path: "d"}}},
			[]map[string]string{{"a/c redirect": "/none", "a/c/a redirect": "/b"}, {"d redirect": "/a/c/a"}},
			"d/a/f", false,
		},
		{
			"by an absolute redirect of a directory on the way to nothing in the same layer",
			[][]layerOp{{{do: "dir", path: "a/c"}, {do: "opaque", path: "a"}}, {{do: "dir", path: "d"}}},
			[]map[string]string{{"a/c redirect": "/b"}, {"d redirect": "/a/c/a"}},
			"d/f", false,
		},
		{
			"to the same place again after an opaque directory",
			[][]layerOp{{{do: "dir", path: "n/m"}, {do: "opaque", path: "n"}}, {{do: "dir", path: "n/m"}}, {{do: "dir", path: "d"}}},
			[]map[string]string{{"n/m redirect": "/b/a"}, {"n/m redirect": "/n/m"}, {"d redirect": "/n/m"}},
			"d/f", false,
		},
		{
			"not on from an opaque directory by a relative redirect",
			[][]layerOp{{{do: "dir", path: "a/c"}, {do: "opaque", path: "a"}}, {{do: "dir", path: "d"}}},
			[]map[string]string{{"a/c redirect": "x"}, {"d redirect": "/a/c"}},
			"d/f", true,
		},
		{
			"not by the redirect of an opaque directory",
			[][]layerOp{{{do: "dir", path: "a/c"}, {do: "opaque", path: "a/c"}}, {{do: "dir", path: "d"}}},
			[]map[string]string{{"a/c redirect": "/b"}, {"d redirect": "/a/c"}},
			"d/f", true,
		},
		{
			"not by the redirect of an opaque directory on the way",
			[][]layerOp{{{do: "dir", path: "a/c"}, {do: "opaque", path: "a"}}, {{do: "dir", path: "d"}}},
			[]map[string]string{{"a redirect": "/b"}, {"d redirect": "/a/a"}},
			"d/f", true,
		},
		{
			"not below an opaque directory in which there is nothing",
			[][]layerOp{{{do: "opaque", path: "a"}}, {{do: "dir", path: "d"}}},
			[]map[string]string{nil, {"d redirect": "/a/c"}},
			"d/f", true,
		},
		{
			"to the data of a file that was moved to an opaque directory",
			[][]layerOp{{{do: "file", path: "a/c/g", target: "______"}, {do: "opaque", path: "a"}}, {{do: "file", path: "g", target: "______"}}},
			[]map[string]string{{"a/c/g redirect": "/b/f", "a/c/g metacopy": ""}, {"g redirect": "/a/c/g", "g metacopy": ""}},
			"g", false,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tmp := t.TempDir()
			var dirs []string
			var layers []Tree
			for i, ops := range append([][]layerOp{base}, tt.layers...) {
				dir := filepath.Join(tmp, fmt.Sprint(i))
				must(t, os.Mkdir(dir, 0o700))
				materialise(t, dir, ops)
				if i > 0 {
					for at, value := range tt.xattrs[i-1] {
						p, x, _ := strings.Cut(at, " ")
						must(t, unix.Setxattr(filepath.Join(dir, p), "trusted.overlay."+x, []byte(value), 0))
					}
				}
				h := openHostDir(t, dir, HostDirOptions{})
				defer h.Close()
				dirs, layers = append(dirs, dir), append(layers, h)
			}
			at, unmount := mountOverlay(t, tmp, dirs, ",redirect_dir=follow,metacopy=on")
			defer unmount()
			s := Stack(layers...)
			if d := diffLines(seenByStack(t, s, true), seenByKernel(t, at, true)); d != "" {
				t.Errorf("differs from overlayfs:%s", d)
			}
			if _, err := findPath(s, tt.shows); errors.Is(err, syscall.ENOENT) != tt.absent {
				t.Errorf("%s: %v, want it absent: %v", tt.shows, err, tt.absent)
			}
		})
	}
}

// TestLinksInMovedDirectories: the names of an inode are found where redirects have
// taken them, whichever is asked for first.
func TestLinksInMovedDirectories(t *testing.T) {
	needRoot(t)
	for _, first := range []string{"f", "moved/g", "z/inner/g"} {
		t.Run(first, func(t *testing.T) {
			lower, upper := t.TempDir(), t.TempDir()
			must(t, os.MkdirAll(filepath.Join(lower, "d/inner"), 0o755))
			must(t, os.MkdirAll(filepath.Join(lower, "gone"), 0o755))
			must(t, os.WriteFile(filepath.Join(lower, "f"), nil, 0o644))
			for _, name := range []string{"d/g", "d/inner/g", "gone/g"} {
				must(t, os.Link(filepath.Join(lower, "f"), filepath.Join(lower, name)))
			}
			for dir, from := range map[string]string{"moved": "/d", "z": "", "z/inner": "/d/inner"} {
				must(t, os.MkdirAll(filepath.Join(upper, dir), 0o755))
				if from != "" {
					must(t, unix.Setxattr(filepath.Join(upper, dir), "trusted.overlay.redirect", []byte(from), 0))
				}
			}
			must(t, unix.Mknod(filepath.Join(upper, "d"), unix.S_IFCHR, 0))
			must(t, unix.Mknod(filepath.Join(upper, "gone"), unix.S_IFCHR, 0))
			must(t, unix.Mknod(filepath.Join(upper, "moved/inner"), unix.S_IFCHR, 0))
			l, u := openHostDir(t, lower, HostDirOptions{}), openHostDir(t, upper, HostDirOptions{})
			defer l.Close()
			defer u.Close()
			s := Stack(l, u)
			e, err := findPath(s, first)
			must(t, err)
			names, err := s.Names(e.ID)
			must(t, err)
			a, err := s.Attr(e.ID)
			must(t, err)
			if len(names) != 3 || a.Nlink != 3 {
				t.Errorf("%d links by the names %v, want 3: f, moved/g, z/inner/g", a.Nlink, names)
			}
		})
	}
}

func TestRedirectErrors(t *testing.T) {
	needRoot(t)
	tests := []struct {
		name, path, xattr, value string
		want                     error
		says                     string
	}{
		{"metacopy without data below", "f", "metacopy", "", syscall.EIO, "no layer below"},
		{"metacopy of the lowest", "low", "metacopy", "", syscall.EIO, "metacopy"},
		{"redirect out of the tree", "d", "redirect", "/../x", syscall.EIO, "redirect"},
		{"redirect to a path that is not absolute", "d", "redirect", "a/b", syscall.EIO, "redirect"},
		{"empty redirect", "d", "redirect", "", syscall.EIO, "redirect"},
		{"redirect to nothing", "d", "redirect", "/none/there", nil, ""},
		{"redirect to itself", "d", "redirect", "/d", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lower, upper := t.TempDir(), t.TempDir()
			must(t, os.WriteFile(filepath.Join(lower, "low"), nil, 0o644))
			must(t, os.Mkdir(filepath.Join(upper, "d"), 0o755))
			must(t, os.WriteFile(filepath.Join(upper, "f"), nil, 0o644))
			at := filepath.Join(upper, tt.path)
			if tt.path == "low" {
				at = filepath.Join(lower, tt.path)
			}
			must(t, unix.Setxattr(at, "trusted.overlay."+tt.xattr, []byte(tt.value), 0))
			l, u := openHostDir(t, lower, HostDirOptions{}), openHostDir(t, upper, HostDirOptions{})
			defer l.Close()
			defer u.Close()
			s := Stack(l, u)
			e, err := s.Lookup(Root, tt.path)
			must(t, err)
			if e.Type == ModeDir {
				_, err = s.ReadDir(e.ID, 0, make([]Entry, 1))
			} else {
				_, err = s.Open(e.ID)
			}
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %v with %q", err, tt.want, tt.says)
			}
		})
	}
}

// TestMetacopyAlone: without the layers below a hole must not pass for data.
func TestMetacopyAlone(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "f"), []byte("\x00\x00"), 0o644))
	must(t, unix.Setxattr(filepath.Join(dir, "f"), "trusted.overlay.metacopy", nil, 0))
	h := openHostDir(t, dir, HostDirOptions{})
	defer h.Close()
	e, err := h.Lookup(Root, "f")
	must(t, err)
	if f, err := h.Open(e.ID); !errors.Is(err, syscall.EIO) {
		data, _ := io.ReadAll(f)
		t.Errorf("Open gives %q, %v, want EIO", data, err)
	}
}
