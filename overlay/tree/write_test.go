package tree

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestWriteRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *fakeTree)
		want   string
	}{
		{"contents without a digest", func(t *fakeTree) { t.nodes[t.find("etc/motd")].content.Known = false },
			"/etc/motd: the digest of the contents is not known"},
		{"a host's numbers", func(t *fakeTree) { t.space.Key = 1 }, "inode numbers of a host filesystem"},
		{"numbers beyond 48 bits", func(t *fakeTree) { t.space.Size = 1 << 48 }, "below 2^48"},
		{"a number beyond the space", func(t *fakeTree) { t.nodes[t.find("sh")].attr.Ino = 77 }, "/sh: inode number 77 is not in 1 to 4"},
		{"number 0", func(t *fakeTree) { t.nodes[t.find("sh")].attr.Ino = 0 }, "/sh: inode number 0"},
		{"a root that is a file", func(t *fakeTree) { t.nodes[Root].attr.Mode = ModeRegular; t.nodes[Root].content.Known = true },
			"/: mode 100000 is no directory's"},
		{"a type that is none", func(t *fakeTree) { t.nodes[t.find("sh")].attr.Mode = 0o644 }, "/sh: mode 644 has no known file type"},
		{"a name with a slash", func(t *fakeTree) { t.nodes[Root].entries["a/b"] = t.find("sh") }, `/: "a/b" cannot be a name`},
		{"dot dot", func(t *fakeTree) { t.nodes[t.find("etc")].entries[".."] = Root }, `/etc: ".." cannot be a name`},
		{"a long name", func(t *fakeTree) { t.whiteout(strings.Repeat("x", 256)) }, "cannot be a name"},
		{"a time that is none", func(t *fakeTree) { t.nodes[t.find("sh")].attr.Mtime.Nsec = 1e9 }, "/sh: modification time has 1000000000"},
		{"an inode that is none", func(t *fakeTree) { t.nodes[t.find("etc")].attr.Mode = 0; t.nodes[Root].entries["x"] = 4 }, "/etc: mode 0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := exampleTree()
			test.change(source)
			var b bytes.Buffer
			err := Write(&b, source)
			if err == nil || !strings.HasPrefix(err.Error(), "write tree file: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if b.Len() > 0 {
				t.Errorf("%d bytes were written all the same", b.Len())
			}
		})
	}
}

// fullWriter takes n bytes.
type fullWriter struct{ n int }

var errFull = errors.New("full")

func (w *fullWriter) Write(p []byte) (int, error) {
	if len(p) > w.n {
		return w.n, errFull
	}
	w.n -= len(p)
	return len(p), nil
}

func TestWriteReportsAFullDisk(t *testing.T) {
	size := len(encodeTree(t, exampleTree()))
	for n := range size {
		if err := Write(&fullWriter{n}, exampleTree()); !errors.Is(err, errFull) {
			t.Fatalf("with room for %d of %d bytes: %v", n, size, err)
		}
	}
}

// Contents, xattr sets and hard links are stored once, and a name costs what
// doc.go says.
func TestFileIsSmall(t *testing.T) {
	source := newFakeTree()
	for i := range 1000 {
		name := fmt.Sprintf("%04d", i)
		source.file(name, "the same")
		source.xattr(name, "security.selinux", "system_u:object_r:bin_t:s0")
	}
	size := len(encodeTree(t, source))
	if want := headerSize + sectionUnit*6 + 1001*inodeSize + 1000*(entrySize+4) + 100; size > want {
		t.Errorf("%d bytes, want at most %d", size, want)
	}
}
