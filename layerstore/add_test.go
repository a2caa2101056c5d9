package layerstore_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/layerstore"
	"strata/overlay/tree"
)

const long = 255 // NAME_MAX

var someTar = tarOf(dir("d"), file("d/a", "some contents"), file("b", strings.Repeat("more ", 500)))

// Every case is added to a store that has a layer already. It gives the tree,
// the exact tar and the exact blob; or the error, and then the store is as it
// was before.
func TestAddLayer(t *testing.T) {
	tests := []struct {
		name string
		blob blob
		tree string // as listing has it
		err  string // part of it
	}{
		// Streams.
		{"uncompressed", someTar, "b file(2500) | d/ | d/a file(13)", ""},
		{"gzip", gz(someTar), "b file(2500) | d/ | d/a file(13)", ""},
		{"gzip of several members", gzMembers(someTar), "b file(2500) | d/ | d/a file(13)", ""},
		{"zstd", zst(someTar), "b file(2500) | d/ | d/a file(13)", ""},
		{"zstd of several frames, one to skip", zstFrames(someTar), "b file(2500) | d/ | d/a file(13)", ""},
		{"empty tar", tarOf(), "", ""},
		{"no bytes at all", blobOf(nil, nil), "", ""},
		{"gzip of no bytes", gz(blobOf(nil, nil)), "", ""},
		{"no end of archive", otherTar(tarOf(file("a", "x")), cut(1024)), "a file(1)", ""},
		{"many zeros at the end", otherTar(tarOf(file("a", "x")), followed(strings.Repeat("\x00", 3<<20))), "a file(1)", ""},
		{"zeros at the end, no whole block", otherTar(tarOf(file("a", "x")), followed("\x00\x00\x00")), "a file(1)", ""},
		{"junk after the end", otherTar(tarOf(file("a", "x")), followed("junk")), "", "trailing junk: bytes other than zero after the end of the archive"},
		{"junk after many zeros", otherTar(tarOf(file("a", "x")), followed(strings.Repeat("\x00", 1<<20)+"x")), "", "trailing junk"},
		{"tar cut in a content", otherTar(tarOf(file("a", strings.Repeat("x", 5000))), cut(3000)), "", "the tar is truncated"},
		{"tar cut in a large content", otherTar(tarOf(file("a", strings.Repeat("x", 3<<20))), cut(1<<20)), "", "the tar is truncated"},
		{"tar cut in a header", otherTar(tarOf(file("a", "x")), cut(1024+512+200)), "", "the tar is truncated"},
		{"not a tar", blobOf([]byte(strings.Repeat("no tar ", 200)), []byte(strings.Repeat("no tar ", 200))), "", "no valid tar header"},
		{"gzip truncated", stored(gz(someTar), cut(20)), "", "the gzip stream is truncated"},
		{"gzip truncated in its trailer", stored(gz(someTar), cut(3)), "", "the gzip stream is truncated"},
		{"gzip truncated in its header", stored(gz(someTar), func(b []byte) []byte { return b[:5] }), "", "the gzip stream is truncated"},
		{"gzip corrupted", stored(gz(someTar), flip(40)), "", "gzip stream"},
		{"gzip with a bad checksum", stored(gz(someTar), flip(-6)), "", "the gzip stream is corrupted"},
		{"gzip and junk", stored(gz(someTar), followed("junk and more junk")), "", "the gzip stream is followed by trailing junk"},
		{"gzip and a little junk", stored(gz(someTar), followed("junk")), "", "the gzip stream is followed by trailing junk"},
		{"gzip of no bytes and junk", stored(gz(blobOf(nil, nil)), followed("junk")), "", "the gzip stream is followed by trailing junk"},
		{"gzip and zeros", stored(gz(someTar), followed(strings.Repeat("\x00", 512))), "", "the gzip stream is followed by trailing junk"},
		{"zstd truncated", stored(zst(someTar), cut(20)), "", "the zstd stream is truncated"},
		{"zstd corrupted", stored(zst(someTar), flip(-3)), "", "the zstd stream is corrupted"},
		{"zstd and junk", stored(zst(someTar), followed("junk and more junk")), "", "the zstd stream is followed by trailing junk"},
		{"bzip2", stored(someTar, func([]byte) []byte { return []byte("BZh91AY&SY") }), "", "compressed with bzip2"},
		{"xz", stored(someTar, func([]byte) []byte { return []byte("\xfd7zXZ\x00\x00\x04") }), "", "compressed with xz"},

		// What is said of a blob.
		{"another diffID", said(gz(someTar), func(b *blob) { b.diffID = tarOf().diffID }), "", "the tar's diffID is " + string(someTar.diffID)},
		{"another digest", said(gz(someTar), func(b *blob) { b.src.Digest = tarOf().src.Digest }), "", "read blob: its digest is"},
		{"another digest, uncompressed", said(someTar, func(b *blob) { b.src.Digest = tarOf().src.Digest }), "", "read blob: its digest is"},
		{"shorter than declared", said(gz(someTar), func(b *blob) { b.src.Size++ }), "", "bytes and is declared to have"},
		{"longer than declared", said(gz(someTar), func(b *blob) { b.src.Size-- }), "", "more than the"},
		{"malformed diffID", said(someTar, func(b *blob) { b.diffID = "sha256:../../etc" }), "", "diffID"},
		{"malformed digest", said(someTar, func(b *blob) { b.src.Digest = "md5:1234" }), "", "digest"},
		{"no source", said(gz(someTar), func(b *blob) { b.src = layerstore.Source{} }), "b file(2500) | d/ | d/a file(13)", ""},

		// Limits.
		{"more bytes than allowed", limited(gz(tarOf(file("a", strings.Repeat("x", 1<<20)))), layerstore.Limits{Bytes: 1 << 19}), "", "the limit of 524288"},
		{"zeros without end", limited(gz(otherTar(tarOf(), followed(strings.Repeat("\x00", 4<<20)))), layerstore.Limits{Bytes: 1 << 20}), "", "the tar exceeds the limit of 1048576 bytes"},
		{"sparse file larger than allowed", limited(tarOf(gnuSparse("a", 4096, "x")), layerstore.Limits{Bytes: 4095}), "", "limit of 4095"},
		{"more entries than allowed", limited(tarOf(file("a", ""), file("b", ""), file("c", "")), layerstore.Limits{Entries: 2}), "", "more than 2 entries"},

		// Names.
		{"absolute name", tarOf(file("/etc/passwd", "x")), "etc/ implicit | etc/passwd file(1)", ""},
		{"names that go up", tarOf(file("../../a", "x"), file("b/../../../c", "y")), "a file(1) | c file(1)", ""},
		{"dots and slashes", tarOf(file("./a//b/./c", "x")), "a/ implicit | a/b/ implicit | a/b/c file(1)", ""},
		{"NUL in a name", tarOf(paxHeader("path", "a\x00b"), rawHeader('0', "x", "", 0, "")), "", "no valid tar header"},
		{"name of 255 bytes", tarOf(file(strings.Repeat("n", long), "x")), strings.Repeat("n", long) + " file(1)", ""},
		{"name of 256 bytes", tarOf(file(strings.Repeat("n", long+1), "x")), "", "a name of 256 bytes: Linux has at most 255"},
		{"whiteout of a name of 255 bytes", tarOf(file(".wh."+strings.Repeat("n", long-4), "")), strings.Repeat("n", long-4) + " whiteout", ""},
		{"path of 4096 bytes", tarOf(file(strings.Repeat("d/", 2047)+"ab", "x")), "", "a path of 4096 bytes"},
		{"name that is not UTF-8", tarOf(file("caf\xe9", "x")), "caf\xe9 file(1)", ""},
		{"GNU long name", tarOf(gnu(file(strings.Repeat("d/", 60)+"f", "x"))), implicitDirs(60) + " | " + strings.Repeat("d/", 60) + "f file(1)", ""},
		{"PAX long name", tarOf(pax(file(strings.Repeat("d/", 60)+"f", "x"), "comment", "x")), implicitDirs(60) + " | " + strings.Repeat("d/", 60) + "f file(1)", ""},
		{"root entry", tarOf(mode(dir("./"), 0o700), file("./a", "")), "/ 0700 | a file(0)", ""},
		{"root that is a file", tarOf(file(".", "x")), "", "the root of a layer must be a directory"},
		{"root that is a link", tarOf(file("a", ""), link(".", "a")), "", "cannot be a name"},

		// Parents.
		{"parent is a symlink", tarOf(symlink("a", "/etc"), file("a/passwd", "x")), "", `"a" is a symlink, not a directory`},
		{"parent is a symlink out of the layer", tarOf(symlink("a", "../../.."), file("a/b/c", "x")), "", `"a" is a symlink, not a directory`},
		{"parent is a file", tarOf(file("a", ""), file("a/b", "x")), "", `"a" is a regular file, not a directory`},
		{"parent comes later", tarOf(file("a/b", "x"), mode(dir("a"), 0o700)), "a/ 0700 | a/b file(1)", ""},

		// Links.
		{"hard link", tarOf(file("a", "x"), link("b", "a")), "a file(1)=2 | b file(1)=2", ""},
		{"hard link with an absolute target", tarOf(file("a", "x"), link("d/b", "/a")), "a file(1)=2 | d/ implicit | d/b file(1)=2", ""},
		{"hard link to nothing", tarOf(link("b", "a")), "", "neither into a lower layer nor to a later entry"},
		{"hard link to outside", tarOf(link("b", "../../../etc/passwd")), "", `its target "etc/passwd" is not in this layer before it`},
		{"hard link to a later entry", tarOf(link("b", "a"), file("a", "x")), "", "neither into a lower layer nor to a later entry"},
		{"hard link to a name of a lower layer", tarOf(link("b", "lower")), "", "neither into a lower layer nor to a later entry"},
		{"hard link to a directory", tarOf(dir("a"), link("b", "a")), "", `its target "a" is a directory`},
		{"hard link to a symlink", tarOf(symlink("a", "/etc/passwd"), link("b", "a")), "a ->/etc/passwd=2 | b ->/etc/passwd=2", ""},
		{"hard link to a whiteout", tarOf(file(".wh.a", ""), link("b", "a")), "", "not in this layer before it"},
		{"hard link to itself", tarOf(file("a", "x"), link("a", "./a")), "a file(1)", ""},
		{"hard link keeps what its target's name gives up", tarOf(file("a", "x"), link("b", "a"), file("a", "new")), "a file(3) | b file(1)", ""},
		{"symlink anywhere", tarOf(symlink("a", "../../../etc")), "a ->../../../etc", ""},
		{"symlink without a target", tarOf(rawHeader('2', "a", "", 0, "")), "", "a symlink's target of 0 bytes"},

		// Whiteouts.
		{"whiteout", tarOf(dir("d"), file("d/.wh.a", "")), "d/ | d/a whiteout", ""},
		{"whiteout with contents", tarOf(file(".wh.a", "what for?")), "a whiteout", ""},
		{"whiteout of nothing", tarOf(file(".wh.nowhere", "")), "nowhere whiteout", ""},
		{"whiteout and its name", tarOf(file(".wh.a", ""), file("a", "x")), "a file(1)", ""},
		{"name and its whiteout", tarOf(file("a", "x"), file(".wh.a", "")), "a file(1)", ""},
		{"whiteout and a directory of its name", tarOf(file(".wh.a", ""), file("a/b", "x")), "a/ opaque | a/b file(1)", ""},
		{"whiteout that names nothing", tarOf(file("d/.wh.", "")), "", `entry "d/.wh.": a whiteout of "", which is no name`},
		{"whiteout of .", tarOf(file(".wh..", "")), "", `a whiteout of ".", which is no name`},
		{"whiteout of ..", tarOf(file(".wh...", "")), "", `a whiteout of "..", which is no name`},
		{"whiteout as a directory part", tarOf(file(".wh.d/a", "")), "", `it lies in ".wh.d", but a whiteout is no directory`},
		{"opaque", tarOf(dir("d"), file("d/.wh..wh..opq", ""), file("d/a", "x")), "d/ opaque | d/a file(1)", ""},
		{"opaque after siblings", tarOf(dir("d"), file("d/a", "x"), file("d/.wh..wh..opq", "")), "d/ opaque | d/a file(1)", ""},
		{"opaque root", tarOf(file(".wh..wh..opq", "")), "/ implicit opaque", ""},
		{"metadata of aufs", tarOf(dir(".wh..wh.plnk"), file(".wh..wh.plnk/12.34", "x"), file(".wh..wh.aufs", ""), file("a", "x")), "a file(1)", ""},

		// Kinds.
		{"devices", tarOf(device(tar.TypeChar, "null", 1, 3), device(tar.TypeBlock, "disk", 254, 1<<20-1), fifo("pipe")), "disk block(254:1048575) | null char(1:3) | pipe fifo", ""},
		{"character device 0:0", tarOf(device(tar.TypeChar, "a", 0, 0)), "a char(0:0)", ""},
		{"device out of range", tarOf(gnu(device(tar.TypeChar, "a", 4096, 0))), "", "device 4096:0: Linux has numbers up to 4095:1048575"},
		{"unknown kind", tarOf(rawHeader('Z', "a", "", 0, "")), "", "entry type 'Z' is unknown"},
		{"contiguous file", tarOf(rawHeader('7', "a", "", 3, "abc")), "a file(3)", ""},
		{"old tar without a type", tarOf(rawHeader(0, "a", "", 3, "abc"), rawHeader(0, "d/", "", 0, "")), "a file(3) | d/ 0644", ""},
		{"global header", tarOf(global(map[string]string{"comment": "a commit"}), file("a", "x")), "a file(1)", ""},

		// The same name again.
		{"file twice", tarOf(file("a", "x"), file("a", "yy")), "a file(2)", ""},
		{"directory twice", tarOf(dir("d"), file("d/a", "x"), mode(dir("d"), 0o700)), "d/ 0700 | d/a file(1)", ""},
		{"file over a directory", tarOf(dir("d"), file("d/a", "x"), file("d", "yy")), "d file(2)", ""},
		{"directory over a file", tarOf(file("d", "yy"), dir("d"), file("d/a", "x")), "d/ | d/a file(1)", ""},
		{"directory over a symlink", tarOf(symlink("d", "/etc"), dir("d"), file("d/a", "x")), "d/ | d/a file(1)", ""},

		// Attributes.
		{"nanoseconds", tarOf(mtime(file("a", ""), time.Unix(1e9, 123456789))), "a file(0) @1000000000.123456789", ""},
		{"before 1970", tarOf(mtime(file("a", ""), time.Unix(-5, 500000000))), "a file(0) @-5.500000000", ""},
		{"far in the future", tarOf(mtime(file("a", ""), time.Unix(1<<40, 0))), "a file(0) @1099511627776.000000000", ""},
		{"set-id bits", tarOf(mode(file("a", ""), 0o6755), mode(dir("t"), 0o1777)), "a file(0) 06755 | t/ 01777", ""},
		{"large owner", tarOf(owner(file("a", ""), 4294967294, 65534)), "a file(0) 4294967294:65534", ""},
		{"owner out of range", tarOf(owner(file("a", ""), 4294967295, 0)), "", "owner 4294967295:0"},
		{"xattrs", tarOf(pax(file("a", ""), "SCHILY.xattr.user.b", "2", "SCHILY.xattr.user.a", "\x00\x01")), "a file(0) user.a=0001 user.b=32", ""},
		{"xattr of 300 bytes", tarOf(pax(file("a", ""), "SCHILY.xattr.user.a", strings.Repeat("v", 300))), "a file(0) user.a=" + strings.Repeat("76", 300), ""},
		{"xattr of more than 64 KiB", tarOf(pax(file("a", ""), "SCHILY.xattr.user.a", strings.Repeat("v", 64<<10+1))), "", "Linux has at most 65536"},
		{"xattr with a long name", tarOf(pax(file("a", ""), "SCHILY.xattr.user."+strings.Repeat("n", 255), "v")), "", "Linux has names of 1 to 255 bytes"},
		{"xattr in libarchive's form", tarOf(pax(file("a", ""), "LIBARCHIVE.xattr.user.%61", "AAE")), "a file(0) user.a=0001", ""},
		{"overlay xattrs are only xattrs", tarOf(pax(dir("d"), "SCHILY.xattr.trusted.overlay.opaque", "y"), pax(file("w", ""), "SCHILY.xattr.user.overlay.whiteout", "y")), "d/ trusted.overlay.opaque=79 | w file(0) user.overlay.whiteout=79", ""},

		// Sparse files.
		{"sparse, GNU", tarOf(gnuSparse("a", 4096, "tail"), file("b", "x")), "a file(4096) | b file(1)", ""},
		{"sparse, PAX 0.0", tarOf(paxHeader("GNU.sparse.size", "4096", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "4092", "GNU.sparse.numbytes", "4"), rawHeader('0', "a", "", 4, "tail"), file("b", "x")), "a file(4096) | b file(1)", ""},
		{"sparse, PAX 0.1", tarOf(paxHeader("GNU.sparse.size", "4096", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "4092,4", "GNU.sparse.name", "a"), rawHeader('0', "GNUSparseFile.0/a", "", 4, "tail"), file("b", "x")), "a file(4096) | b file(1)", ""},
		{"sparse, PAX 1.0", tarOf(paxHeader("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "a", "GNU.sparse.realsize", "4096"), rawHeader('0', "GNUSparseFile.0/a", "", 516, "1\n4092\n4\n"+strings.Repeat("\x00", 503)+"tail"), file("b", "x")), "a file(4096) | b file(1)", ""},
		{"sparse, map that lies", tarOf(paxHeader("GNU.sparse.size", "100", "GNU.sparse.numblocks", "1", "GNU.sparse.map", "4092,4", "GNU.sparse.name", "a"), rawHeader('0', "x", "", 4, "tail")), "", "no valid tar header"},
	}
	before := gz(tarOf(file("lower", "a lower layer"), file("b", strings.Repeat("more ", 500))))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := openStore(t)
			if _, err := addBlob(t, s, before); err != nil {
				t.Fatal(err)
			}
			wasThere := listFiles(t, s.Root())

			_, err := addBlob(t, s, tt.blob)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error is %v, want one with %q", err, tt.err)
				}
				if isThere := listFiles(t, s.Root()); !slices.Equal(isThere, wasThere) {
					t.Errorf("the store has changed:\n%q\nwas\n%q", isThere, wasThere)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			layer, err := s.Layer(tt.blob.diffID)
			if err != nil {
				t.Fatal(err)
			}
			defer layer.Close()
			if got := listing(t, layer.Tree()); got != tt.tree {
				t.Errorf("the layer holds\n%q, want\n%q", got, tt.tree)
			}
			checkBytes(t, "tar", tt.blob.tar, func() (io.ReadCloser, error) { return s.Tar(tt.blob.diffID) })
			if tt.blob.src.Digest != "" {
				checkBytes(t, "blob", tt.blob.bytes, func() (io.ReadCloser, error) { return s.Blob(tt.blob.src.Digest) })
			}
			verifyStore(t, s)
			checkPack(t, layer.Tree(), openStore(t), openStore(t))
		})
	}
}

// TestSparseFileStaysSparse adds a file of 1 GiB that takes next to nothing,
// in the tar and on disk.
func TestSparseFileStaysSparse(t *testing.T) {
	s := openStore(t)
	b := tarOf(gnuSparse("a", 1<<30, "tail"), file("b", "x"))
	if _, err := addBlob(t, s, b); err != nil {
		t.Fatal(err)
	}
	checkBytes(t, "tar", b.tar, func() (io.ReadCloser, error) { return s.Tar(b.diffID) })
	if size := du(t, s.Root()); size > 1<<20 {
		t.Errorf("the store takes %d bytes", size)
	}
	layer, err := s.Layer(b.diffID)
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	entry, err := layer.Tree().Lookup(tree.Root, "a")
	if err != nil {
		t.Fatal(err)
	}
	f, err := layer.Tree().Open(entry.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tail := make([]byte, 8)
	if n, err := f.ReadAt(tail, 1<<30-8); n != 8 || string(tail) != "\x00\x00\x00\x00tail" {
		t.Errorf("the file ends with %q, %v", tail[:n], err)
	}
}

// TestCancel ends an addition in the midst of a blob that never ends.
func TestCancel(t *testing.T) {
	s := openStore(t)
	before := listFiles(t, s.Root())
	ctx, cancel := context.WithCancel(t.Context())
	head := tarOf(file("a", strings.Repeat("x", 5000)), file("b", "x")).tar
	endless := readerFunc(func(p []byte) (int, error) {
		cancel()
		return copy(p, make([]byte, len(p))), nil
	})
	_, err := s.AddLayer(ctx, base.diffID, layerstore.Source{}, io.MultiReader(bytes.NewReader(head), endless), layerstore.AddOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want the context's", err)
	}
	if after := listFiles(t, s.Root()); !slices.Equal(before, after) {
		t.Errorf("the store has changed to %q", after)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func addBlob(tb testing.TB, s *layerstore.Store, b blob) (layerstore.Added, error) {
	return s.AddLayer(tb.Context(), b.diffID, b.src, bytes.NewReader(b.bytes), layerstore.AddOptions{Limits: b.limits})
}

func implicitDirs(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, strings.Repeat("d/", i+1)+" implicit")
	}
	return strings.Join(parts, " | ")
}

// listing tells what a tree holds, in the order of its paths, with what is
// not usual of each.
func listing(tb testing.TB, t tree.Tree) string {
	tb.Helper()
	var lines []string
	var walk func(dir tree.ID, path string)
	walk = func(dir tree.ID, path string) {
		entries := make([]tree.Entry, 1000)
		n, err := t.ReadDir(dir, 0, entries)
		if err != nil {
			tb.Fatal(err)
		}
		for _, e := range entries[:n] {
			if e.Whiteout {
				lines = append(lines, path+e.Name+" whiteout")
				continue
			}
			lines = append(lines, path+e.Name+describe(tb, t, e.ID))
			if e.Type == tree.ModeDir {
				walk(e.ID, path+e.Name+"/")
			}
		}
	}
	if root := describe(tb, t, tree.Root); root != "/ implicit" {
		lines = append(lines, root)
	}
	walk(tree.Root, "")
	return strings.Join(lines, " | ")
}

func describe(tb testing.TB, t tree.Tree, id tree.ID) string {
	tb.Helper()
	a, err := t.Attr(id)
	if err != nil {
		tb.Fatal(err)
	}
	s, usual := "", uint32(0o600)
	switch a.Mode & tree.ModeType {
	case tree.ModeDir:
		s, usual = "/", 0o755
		if a.Implicit {
			s += " implicit"
		}
		if opaque, err := t.Opaque(id); err != nil {
			tb.Fatal(err)
		} else if opaque {
			s += " opaque"
		}
	case tree.ModeRegular:
		s, usual = fmt.Sprintf(" file(%d)", a.Size), 0o644
		checkContents(tb, t, id, a.Size)
	case tree.ModeSymlink:
		target, err := t.Readlink(id)
		if err != nil {
			tb.Fatal(err)
		}
		s, usual = " ->"+target, 0o777
	case tree.ModeChar:
		s = fmt.Sprintf(" char(%d:%d)", unix.Major(a.Rdev), unix.Minor(a.Rdev))
	case tree.ModeBlock:
		s = fmt.Sprintf(" block(%d:%d)", unix.Major(a.Rdev), unix.Minor(a.Rdev))
	case tree.ModeFIFO:
		s = " fifo"
	}
	if a.Nlink > 1 && !a.IsDir() {
		s += fmt.Sprintf("=%d", a.Nlink)
	}
	if m := a.Mode & tree.ModePerm; m != usual {
		s += fmt.Sprintf(" 0%o", m)
	}
	if a.UID != 0 || a.GID != 0 {
		s += fmt.Sprintf(" %d:%d", a.UID, a.GID)
	}
	if a.Mtime != (tree.Time{}) {
		s += fmt.Sprintf(" @%d.%09d", a.Mtime.Sec, a.Mtime.Nsec)
	}
	names, err := t.Xattrs(id)
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range names {
		value, err := t.Xattr(id, name)
		if err != nil {
			tb.Fatal(err)
		}
		s += fmt.Sprintf(" %s=%x", name, value)
	}
	return s
}

// checkContents reads a file through the tree: its object has its size, and in
// the tests of sparse files, the tail at its end.
func checkContents(tb testing.TB, t tree.Tree, id tree.ID, size int64) {
	tb.Helper()
	f, err := t.Open(id)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil || int64(len(b)) != size {
		tb.Errorf("%d bytes (%v), want %d", len(b), err, size)
	}
	if size == 4096 && string(b) != strings.Repeat("\x00", 4092)+"tail" {
		tb.Errorf("the sparse file holds %q", b)
	}
}

// checkBytes reads what open gives to its verified end.
func checkBytes(tb testing.TB, what string, want []byte, open func() (io.ReadCloser, error)) {
	tb.Helper()
	r, err := open()
	if err != nil {
		tb.Error(err)
		return
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		tb.Errorf("%s: %d bytes (%v), want the %d that were added", what, len(got), err, len(want))
	}
}

// listFiles lists everything in a store, with sizes.
func listFiles(tb testing.TB, root string) []string {
	tb.Helper()
	var names []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		size := int64(0)
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		names = append(names, fmt.Sprintf("%s %d", strings.TrimPrefix(path, root), size))
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return names
}

func checkNothingStaged(tb testing.TB, s *layerstore.Store) {
	tb.Helper()
	names, err := os.ReadDir(filepath.Join(s.Root(), "tmp"))
	if err != nil || len(names) > 0 {
		tb.Errorf("tmp/ holds %v (%v), want nothing", names, err)
	}
}
