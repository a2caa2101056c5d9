package layerstore_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"strata/layerstore"
	"strata/overlay/tree"
)

func pack(tb testing.TB, t tree.Tree, o layerstore.PackOptions) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := layerstore.Pack(context.Background(), &b, t, o); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// checkPack wants a layer's tree to come back from its tar, whether that is read
// or only hashed, and the tar to be the same each time.
func checkPack(tb testing.TB, t tree.Tree, read, added *layerstore.Store) {
	tb.Helper()
	packed := pack(tb, t, layerstore.PackOptions{})
	b := blobOf(packed, packed)
	if _, err := addBlob(tb, read, b); err != nil {
		tb.Fatalf("the packed tree cannot be read: %v", err)
	}
	made, err := added.AddTree(context.Background(), t, layerstore.PackOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	if made.DiffID != b.diffID {
		tb.Errorf("packed to a hash it is %s, packed to a tar %s", made.DiffID, b.diffID)
	}
	if len(made.Writing) > 0 {
		tb.Errorf("nobody writes to %q", made.Writing)
	}
	want := listing(tb, t)
	for name, s := range map[string]*layerstore.Store{"read": read, "added": added} {
		layer, err := s.Layer(b.diffID)
		if err != nil {
			tb.Fatal(err)
		}
		defer layer.Close()
		if got := listing(tb, layer.Tree()); got != want {
			tb.Errorf("packed and %s, the layer holds\n%q, want\n%q", name, got, want)
		}
		if again := pack(tb, layer.Tree(), layerstore.PackOptions{}); !bytes.Equal(again, packed) {
			tb.Errorf("packed and %s, the layer packs to another tar", name)
		}
		checkBytes(tb, name+" tar", packed, func() (io.ReadCloser, error) { return s.Tar(b.diffID) })
	}
}

// contents are files' contents by digest.
type contents map[tree.ObjectDigest]string

func (c contents) OpenObject(d tree.ObjectDigest) (*os.File, error) {
	data, ok := c[d]
	if !ok {
		return nil, unix.ENOENT
	}
	fd, err := unix.MemfdCreate("content", 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "content")
	_, err = f.WriteAt([]byte(data), 0)
	return f, err
}

// layer is a tree.Builder for tests.
type layer struct {
	*tree.Builder
	contents contents
	tb       rapid.TB
}

func newLayer(tb rapid.TB) *layer {
	c := contents{}
	return &layer{tree.NewBuilder(c), c, tb}
}

func (l *layer) do(err error) {
	if err != nil {
		l.tb.Fatal(err)
	}
}

func (l *layer) file(path, data string, m tree.Meta) {
	d := tree.ObjectDigest(sha256.Sum256([]byte(data)))
	l.contents[d] = data
	l.do(l.AddFile(path, m, d, int64(len(data))))
}

func (l *layer) finish() tree.Tree {
	l.do(l.Finish())
	return l
}

// TestPackAnyTree packs trees that are drawn: every kind of name, every attribute.
func TestPackAnyTree(t *testing.T) {
	read, added := openStore(t), openStore(t)
	rapid.Check(t, func(rt *rapid.T) {
		l := newLayer(rt)
		names := rapid.SampledFrom([]string{"a", "b", "c-", "ä", "\xff\xfe", " x ", "n\nl", strings.Repeat("n", 255), "..."})
		path := func(depth int) string {
			p := names.Draw(rt, "name")
			for range rapid.IntRange(0, depth).Draw(rt, "depth") {
				p += "/" + names.Draw(rt, "name")
			}
			return p
		}
		meta := func() tree.Meta {
			m := tree.Meta{
				Mode:  rapid.SampledFrom([]uint32{0o644, 0o755, 0o7777, 0}).Draw(rt, "mode"),
				UID:   rapid.SampledFrom([]uint32{0, 1000, 1 << 21, 1<<32 - 2}).Draw(rt, "uid"),
				GID:   rapid.SampledFrom([]uint32{0, 1 << 31}).Draw(rt, "gid"),
				Mtime: tree.Time{Sec: rapid.SampledFrom([]int64{0, 1e9, -7, 1 << 40}).Draw(rt, "sec"), Nsec: rapid.SampledFrom([]uint32{0, 1, 500000000, 999999999}).Draw(rt, "nsec")},
			}
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"user.a", "user.=", "user.\xff%", "security.capability", "trusted.overlay.opaque"}), 0, 3, rapid.ID).Draw(rt, "xattrs") {
				m.Xattrs = append(m.Xattrs, tree.Xattr{Name: name, Value: rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(rt, "value")})
			}
			return m
		}
		for range rapid.IntRange(0, 12).Draw(rt, "entries") {
			p := path(3)
			// What is in the way is an error of the Builder, and leaves nothing.
			switch rapid.IntRange(0, 7).Draw(rt, "kind") {
			case 0, 1:
				data := rapid.SampledFrom([]string{"", "x", strings.Repeat("long", 128), strings.Repeat("y", 513)}).Draw(rt, "data")
				d := tree.ObjectDigest(sha256.Sum256([]byte(data)))
				l.contents[d] = data
				l.AddFile(p, meta(), d, int64(len(data)))
			case 2:
				l.AddDir(p, meta())
			case 3:
				l.AddSymlink(p, meta(), rapid.SampledFrom([]string{"x", "/..", "\xff", strings.Repeat("t", 4000)}).Draw(rt, "target"))
			case 4:
				l.AddSpecial(p, meta(), rapid.SampledFrom([]uint32{tree.ModeChar, tree.ModeBlock, tree.ModeFIFO}).Draw(rt, "type"), unix.Mkdev(1<<12-1, 1<<20-1))
			case 5:
				l.AddWhiteout(p)
			case 6:
				l.AddOpaque(p)
			case 7:
				l.AddLink(p, path(3))
			}
		}
		if rapid.Bool().Draw(rt, "root") {
			l.do(l.AddDir("", meta()))
		}
		checkPack(t, l.finish(), read, added)
		if t.Failed() {
			rt.Fatal("see above")
		}
	})
	verifyStore(t, read)
	verifyStore(t, added)
}

// TestPackedOrder: what a tar's reader may rely on.
func TestPackedOrder(t *testing.T) {
	l := newLayer(t)
	m := tree.Meta{Mode: 0o755}
	l.do(l.AddDir("d", m))
	l.do(l.AddOpaque("d"))
	l.file("d/-", "first", tree.Meta{Mode: 0o644})
	l.do(l.AddLink("d/b", "d/-"))
	l.do(l.AddWhiteout("d/z"))
	l.do(l.AddWhiteout("gone"))
	l.file("implicit/x", "x", tree.Meta{Mode: 0o600, Mtime: tree.Time{Sec: 7, Nsec: 1}})
	l.do(l.AddLink("a", "d/-"))
	want := `.wh.gone
a 0644 5 bytes
d/ 0755
d/.wh..wh..opq
d/.wh.z
d/- link to a 0644
d/b link to a 0644
implicit/x 0600 1 bytes 7.000000001`
	if got := members(t, pack(t, l.finish(), layerstore.PackOptions{})); got != want {
		t.Errorf("packed to\n%s\nwant\n%s", got, want)
	}
}

// members lists a tar.
func members(t *testing.T, packed []byte) string {
	var lines []string
	r := tar.NewReader(bytes.NewReader(packed))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return strings.Join(lines, "\n")
		}
		if err != nil {
			t.Fatal(err)
		}
		line := h.Name
		switch {
		case h.Typeflag == tar.TypeLink:
			line += fmt.Sprintf(" link to %s %#o", h.Linkname, h.Mode)
		case h.Mode != 0:
			line += fmt.Sprintf(" %#o", h.Mode)
		}
		if h.Size > 0 {
			line += fmt.Sprintf(" %d bytes", h.Size)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) {
			line += fmt.Sprintf(" %d.%09d", h.ModTime.Unix(), h.ModTime.Nanosecond())
		}
		lines = append(lines, line)
	}
}

func TestPackRefuses(t *testing.T) {
	for _, name := range []string{".wh.x", "d/.wh.", ".wh..wh..opq", ".wh.d/x"} {
		l := newLayer(t)
		l.file(name, "x", tree.Meta{})
		err := layerstore.Pack(context.Background(), io.Discard, l.finish(), layerstore.PackOptions{})
		if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "rename it or leave it out") {
			t.Errorf("%s: %v", name, err)
		}
		s := openStore(t)
		before := listFiles(t, s.Root())
		if _, err := s.AddTree(context.Background(), l, layerstore.PackOptions{}); err == nil {
			t.Errorf("%s: the layer was added", name)
		}
		if after := listFiles(t, s.Root()); !slices.Equal(before, after) {
			t.Errorf("%s: the store has changed: %q", name, after)
		}
	}
}

func TestPackLeavesOut(t *testing.T) {
	l := newLayer(t)
	m := tree.Meta{Mode: 0o700}
	l.do(l.AddSpecial("run/socket", m, tree.ModeSocket, 0))
	l.do(l.AddLink("run/other", "run/socket"))
	for _, dir := range []string{"etc", "etc/deep", "tmp"} {
		l.do(l.AddDir(dir, m))
		l.do(l.AddOpaque(dir))
	}
	l.file("etc/deep/a", "a", m)
	l.file("etc/b", "b", m)
	l.do(l.AddLink("tmp/a", "etc/deep/a"))
	l.do(l.AddLink("etc/z", "etc/deep/a"))
	l.do(l.AddWhiteout("etc/gone"))
	l.do(l.AddWhiteout("etc/deep/gone"))
	l.finish()
	tests := []struct {
		include, exclude string
		want             string
	}{
		{"", "", "etc/ 0700 | etc/.wh..wh..opq | etc/.wh.gone | etc/b 0700 1 bytes | etc/deep/ 0700 | etc/deep/.wh..wh..opq | etc/deep/.wh.gone | etc/deep/a 0700 1 bytes | etc/z link to etc/deep/a 0700 | tmp/ 0700 | tmp/.wh..wh..opq | tmp/a link to etc/deep/a 0700"},
		{"etc/deep", "", "etc/ 0700 | etc/deep/ 0700 | etc/deep/.wh..wh..opq | etc/deep/.wh.gone | etc/deep/a 0700 1 bytes"},
		{"etc/de", "", "etc/ 0700"},
		{"etc tmp", "etc/deep etc/gone", "etc/ 0700 | etc/.wh..wh..opq | etc/b 0700 1 bytes | etc/z 0700 1 bytes | tmp/ 0700 | tmp/.wh..wh..opq | tmp/a link to etc/z 0700"},
		{"etc/gone", "", "etc/ 0700"},
		{"", "etc tmp", ""},
	}
	for _, tt := range tests {
		var out []string
		o := layerstore.PackOptions{Include: strings.Fields(tt.include), Exclude: strings.Fields(tt.exclude),
			LeftOut: func(path, why string) { out = append(out, path) }}
		got := strings.ReplaceAll(members(t, pack(t, l, o)), "\n", " | ")
		if got != tt.want {
			t.Errorf("include %q, exclude %q: packed to\n%s\nwant\n%s", tt.include, tt.exclude, got, tt.want)
		}
		if tt.include == "" && strings.Join(out, " ") != "run/other run/socket" {
			t.Errorf("left out were %q", out)
		}
	}
}

// TestAddTreeBesideWriters adds a tree of files that somebody writes to: through a
// descriptor, through a mapping, and no longer. What is written afterwards changes
// no object.
func TestAddTreeBesideWriters(t *testing.T) {
	for _, size := range []int{100, 3 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			l := newLayer(t)
			open := map[string]*os.File{}
			for _, name := range []string{"closed", "open", "mapped", "read"} {
				at := filepath.Join(dir, name)
				if err := os.WriteFile(at, bytes.Repeat([]byte(name[:1]), size), 0o600); err != nil {
					t.Fatal(err)
				}
				l.do(l.AddContent(name, tree.Meta{}, int64(size), func() (*os.File, error) { return os.Open(at) }))
				flags := os.O_RDWR
				if name == "read" {
					flags = os.O_RDONLY
				}
				f, err := os.OpenFile(at, flags, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				open[name] = f
			}
			mapped, err := unix.Mmap(int(open["mapped"].Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(mapped)
			open["mapped"].Close()
			open["closed"].Close()
			s := openStore(t)
			made, err := s.AddTree(context.Background(), l.finish(), layerstore.PackOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(made.Writing, " "); got != "mapped open" {
				t.Errorf("being written are %q", got)
			}
			packed, err := s.Tar(made.DiffID)
			if err != nil {
				t.Fatal(err)
			}
			before, err := io.ReadAll(packed)
			if err != nil {
				t.Fatal(err)
			}
			packed.Close()
			mapped[0] = 'X'
			if _, err := open["open"].WriteAt([]byte("X"), 1); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "closed"), []byte("X"), 0); err != nil {
				t.Fatal(err)
			}
			verifyStore(t, s)
			checkBytes(t, "tar", before, func() (io.ReadCloser, error) { return s.Tar(made.DiffID) })
			checkObjects(t, s)
		})
	}
}

// checkObjects wants every object to be a plain file of ours.
func checkObjects(t *testing.T, s *layerstore.Store) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(s.Root(), "objects"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		n, err := unix.Llistxattr(path, nil)
		if st.Mode&0o7777 != 0o444 || int(st.Uid) != os.Geteuid() || st.Nlink != 1 || n > 0 {
			t.Errorf("object %s: mode %o, owner %d, %d names, %d bytes of xattr names (%v)", path, st.Mode, st.Uid, st.Nlink, n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
