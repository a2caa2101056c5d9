package tree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// reseal makes the checksums of tree file b fit its bytes, as far as its
// header tells where they are.
func reseal(b []byte) {
	if len(b) < headerSize {
		return
	}
	h, _ := decodeHeader(b[:headerSize], uint64(len(b)))
	if body := h.body(); body <= uint64(len(b)) && uint64(h.blocks) == (uint64(len(b))+blockSize-1)>>blockShift {
		summer := blockSummer{offset: body, sums: make([]byte, body-headerSize)}
		_, _ = summer.Write(b[body:])
		copy(b[headerSize:], summer.sums)
		binary.LittleEndian.PutUint32(b[36:], crc32.Checksum(summer.sums, castagnoli))
	}
	binary.LittleEndian.PutUint32(b[12:], headerCRC(b))
}

// askEverything calls every method with every ID and with some that are none,
// and returns the errors that are no answers about a sound tree.
func askEverything(f *File) (errs []error) {
	note := func(err error) {
		var errno syscall.Errno
		if errors.As(err, &errno) && errno != syscall.EIO || errors.Is(err, ErrNewer) || err == nil {
			return
		}
		errs = append(errs, err)
	}
	entries := make([]Entry, 7)
	for id := ID(0); id <= ID(f.count(secInodes))+1; id++ {
		_, err := f.Attr(id)
		note(err)
		_, err = f.Lookup(id, "etc")
		note(err)
		for from := 0; ; {
			n, err := f.ReadDir(id, from, entries)
			note(err)
			for _, e := range entries[:n] {
				_, err := f.Lookup(id, e.Name)
				note(err)
			}
			if from += n; n < len(entries) || from > 1000 {
				break
			}
		}
		_, err = f.Parent(id)
		note(err)
		_, err = f.Names(id)
		note(err)
		_, err = f.Readlink(id)
		note(err)
		_, err = f.Opaque(id)
		note(err)
		_, err = f.Content(id)
		note(err)
		xattrs, err := f.Xattrs(id)
		note(err)
		for _, name := range xattrs {
			_, err := f.Xattr(id, name)
			note(err)
		}
	}
	note(Walk(f, func(string, Entry, *Attr) error { return nil }))
	return errs
}

func TestOpenFileRefuses(t *testing.T) {
	good := encodeTree(t, exampleTree())
	header := func(change func(b []byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		binary.LittleEndian.PutUint32(b[12:], headerCRC(b))
		return b
	}
	put32 := func(at int, v uint32) []byte {
		return header(func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) })
	}
	put64 := func(at int, v uint64) []byte {
		return header(func(b []byte) { binary.LittleEndian.PutUint64(b[at:], v) })
	}
	for _, test := range []struct {
		name string
		data []byte
		want string
	}{
		{"an empty file", nil, "0 bytes"},
		{"half a header", good[:100], "100 bytes"},
		{"another kind of file", bytes.Repeat([]byte("#!/bin/sh\n"), 50), `starts with "#!/bin/s"`},
		{"a flipped bit in the header", func() []byte { b := bytes.Clone(good); b[150] ^= 4; return b }(), "header: checksum is"},
		{"version 0", put32(8, 0), "version 0"},
		{"a file that was cut", good[:len(good)-1], "not " + fmt.Sprint(len(good))},
		{"a file with something behind it", append(bytes.Clone(good), 0), "not " + fmt.Sprint(len(good))},
		{"a flipped block checksum", func() []byte { b := bytes.Clone(good); b[headerSize] ^= 1; return b }(), "checksum of the block checksums"},
		{"too many block checksums", put32(32, 1<<31), "2147483648 block checksums"},
		{"numbers beyond 48 bits", put64(24, 1<<48), "not below 2^48"},
		{"a section before the body", put64(40, 0), "section inodes of"},
		{"a section past the end", put64(40, 1<<63), "section inodes of"},
		{"a section that is too long", put64(48, 1<<63), "section inodes of"},
		{"half a record", put64(48, 63), "no multiple of 64"},
		{"sections over each other", put64(40+16*3, binary.LittleEndian.Uint64(good[40+16*2:])), "section links of"},
		{"no root", header(func(b []byte) {
			clear(b[48:56])
			binary.LittleEndian.PutUint64(b[56:], binary.LittleEndian.Uint64(b[40:]))
		}), "damaged"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := openBytes(t, test.data)
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || !errors.Is(err, syscall.EIO) || corrupt.Section != "header" {
				t.Fatalf("got %v, want a CorruptError about the header", err)
			}
			if !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "/tree ") {
				t.Errorf("got %q, want the file's path and %q", err, test.want)
			}
		})
	}

	t.Run("a later version", func(t *testing.T) {
		b := bytes.Clone(good)
		b[8] = 2
		if _, err := openBytes(t, b); !errors.Is(err, ErrNewer) || errors.Is(err, syscall.EIO) {
			t.Errorf("got %v, want ErrNewer", err)
		}
	})
	t.Run("a directory", func(t *testing.T) {
		if _, err := OpenFile(t.TempDir(), nil); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a missing file", func(t *testing.T) {
		if _, err := OpenFile(t.TempDir()+"/tree", nil); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("got %v", err)
		}
	})
}

// Each byte of the file is flipped in turn: the file does not open, or says
// that it is damaged. None goes unnoticed.
func TestEveryFlippedByteIsFound(t *testing.T) {
	good := encodeTree(t, richTree())
	for at := range good {
		b := bytes.Clone(good)
		b[at] ^= 0x10
		f, err := newFile("tree", b, nil)
		if err != nil {
			continue
		}
		if err := f.Check(); !errors.Is(err, syscall.EIO) {
			t.Errorf("byte %d flipped: Check says %v", at, err)
		}
		if _, err := f.Attr(Root); !errors.Is(err, syscall.EIO) {
			t.Errorf("byte %d flipped: Attr says %v", at, err)
		}
	}
}

// Damage in one block leaves the rest readable, and is found on first touch.
func TestDamageIsFoundWhereItIsRead(t *testing.T) {
	source := bigTree(3000)
	good := encodeTree(t, source)
	f := mustOpenBytes(t, good)
	text := f.header.sections[secText]
	at := (text.offset + text.size) &^ (blockSize - 1) // the block of the last names
	b := bytes.Clone(good)
	b[at+1] ^= 1
	f = mustOpenBytes(t, b)
	if _, err := f.Attr(Root); err != nil {
		t.Errorf("attributes of the root: %v", err)
	}
	if _, err := f.Lookup(Root, "package-0000"); err != nil {
		t.Errorf("lookup of the first package: %v", err)
	}
	err := Walk(f, func(string, Entry, *Attr) error { return nil })
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Section != "text" || !strings.Contains(err.Error(), "package-00") {
		t.Errorf("walk: %v, want a CorruptError about text, and the directory", err)
	}
	if err := f.Check(); err == nil || !strings.Contains(err.Error(), "text: checksum of bytes") {
		t.Errorf("Check: %v", err)
	}
}

func TestFileCutShortAfterOpeningIsAnError(t *testing.T) {
	data := encodeTree(t, bigTree(1000))
	for _, size := range []int64{0, headerSize, 5000, int64(len(data)) * 2 / 3} {
		for _, touched := range []bool{false, true} {
			t.Run(fmt.Sprintf("to %d, touched before %t", size, touched), func(t *testing.T) {
				f := mustOpenBytes(t, data)
				if touched {
					if errs := askEverything(f); len(errs) > 0 {
						t.Fatal(errs[0])
					}
				}
				if err := os.Truncate(f.path, size); err != nil {
					t.Fatal(err)
				}
				errs := askEverything(f)
				if len(errs) == 0 {
					t.Fatal("nothing was noticed")
				}
				faults := 0
				for _, err := range errs {
					var corrupt *CorruptError
					if !errors.As(err, &corrupt) || corrupt.Path != f.path || !errors.Is(err, syscall.EIO) {
						t.Fatalf("got %v", err)
					}
					if strings.Contains(corrupt.Problem, "cannot be read") {
						faults++
					}
				}
				if faults == 0 {
					t.Errorf("no fault among %d errors, the first %v", len(errs), errs[0])
				}
				if err := f.Check(); !errors.Is(err, syscall.EIO) {
					t.Errorf("Check: %v", err)
				}
			})
		}
	}
}

// Each line damages one thing in a file whose checksums fit again: Check names
// it, and nothing that asks the file panics or does not return.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	// The tree: / (1) has etc (2), hard (3, also etc/too), sh (4); etc has motd (5).
	source := exampleTree()
	source.file("hard", "hard")
	source.link("etc/too", "hard")
	source.xattr("etc/motd", "user.a", "1", "user.b", "2")
	source.file("etc/zoo", "zoo")
	good := encodeTree(t, source)
	layout, err := newFile("tree", good, nil)
	if err != nil {
		t.Fatal(err)
	}
	place := func(s section, record, offset int) int {
		return int(layout.header.sections[s].offset) + record*int(sectionWidths[s]) + offset
	}
	inode := func(id ID, offset int) int { return place(secInodes, int(id)-1, offset) }
	find := func(dir ID, name string) ID {
		e, err := layout.Lookup(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		return e.ID
	}
	etc := find(Root, "etc")
	hard, sh, motd := find(Root, "hard"), find(Root, "sh"), find(etc, "motd")

	for _, test := range []struct {
		name  string
		at    int
		value []byte
		want  string
	}{
		{"reserved header bytes", headerUsed, []byte{1}, "header: the reserved bytes"},
		{"padding", place(secEntries, 0, -1), []byte{1}, "padding"},
		{"inode number 0", inode(motd, 0), make([]byte, 8), "has number 0"},
		{"inode number beyond the space", inode(motd, 0), []byte{99}, "has number 99"},
		{"inode number of another", inode(motd, 0), []byte{1}, "two inodes have number 1"},
		{"file type that is none", inode(motd, 9), []byte{0x70}, "mode 70"},
		{"file type of another", inode(motd, 9), []byte{0xa1}, "has type 100000"},
		{"unknown flag", inode(etc, 10), []byte{0x80}, "has flags 80"},
		{"opaque file", inode(motd, 10), []byte{flagOpaque}, "has flags 2"},
		{"no contents", inode(motd, 11), []byte{kindNone}, "has no contents"},
		{"packed contents", inode(motd, 11), []byte{kindPacked}, "written by a newer strata"},
		{"link count of a file", inode(motd, 24), []byte{2}, "link count 2 and 1 names"},
		{"link count of a directory", inode(etc, 24), []byte{3}, "link count 3 and 0 subdirectories"},
		{"link count of a hard link", inode(hard, 24), []byte{1}, "link count 1 and 2 names"},
		{"too many nanoseconds", inode(motd, 28), []byte{0xff, 0xff, 0xff, 0xff}, "4294967295 nanoseconds"},
		{"negative size", inode(motd, 47), []byte{0x80}, "size 9223372036854775814"},
		{"more entries than there are", inode(etc, 40), []byte{0xff}, "has 255 entries"},
		{"entries without end", inode(etc, 40), bytes.Repeat([]byte{0xff}, 8), "has 18446744073709551615 entries"},
		{"fewer entries", inode(etc, 40), []byte{1}, "no directory has entry"},
		{"entries of another directory", inode(etc, 48), []byte{0}, "belongs to directory"},
		{"object that is none", inode(motd, 48), []byte{200}, "objects: 32 bytes wanted"},
		{"target past the end", inode(sh, 48), []byte{200}, "text: 8 bytes wanted"},
		{"xattrs from the middle of a set", inode(motd, 52), []byte{2}, "where none begins"},
		{"parent that is none", inode(motd, 56), []byte{200}, "parent 200"},
		{"directory without a parent", inode(etc, 56), []byte{0}, "parent 0"},
		{"directory in itself", inode(etc, 56), []byte{byte(etc)}, fmt.Sprintf("parent %d", etc)},
		{"entry of another", inode(motd, 60), []byte{0}, "entry 0"},
		{"root elsewhere", inode(Root, 56), []byte{byte(etc)}, "the root has mode"},
		{"name past the end", place(secEntries, 0, 0), []byte{0xff, 0xff}, "names of directory 1 are at 65535"},
		{"entry of the root", place(secEntries, 0, 4), []byte{1}, "entry 0 of directory 1"},
		{"entry of no inode", place(secEntries, 0, 4), []byte{200}, "inode 200"},
		{"empty name", place(secEntries, 0, 8), []byte{0}, `has name "" after ""`},
		{"whiteout of an inode", place(secEntries, 0, 9), []byte{0}, "whiteout 0 of directory 1 names inode"},
		{"unused bits of an entry", place(secEntries, 0, 11), []byte{1}, "bits that mean nothing"},
		{"slash in a name", place(secText, 0, 1), []byte("/"), "slash"},
		{"zero byte in a name", place(secText, 0, 1), []byte{0}, "zero byte"},
		{"names out of order", place(secText, 0, 0), []byte("z"), `has name "hard" after "ztc"`},
		{"links out of order", place(secLinks, 0, 0), []byte{byte(etc)}, "is said to have entry"},
		{"one link twice", place(secLinks, 1, 0), good[place(secLinks, 0, 0):place(secLinks, 1, 0)], "after entry"},
		{"no xattrs in a set", place(secXattrs, 0, 0), []byte{0}, "is empty"},
		{"too many xattrs in a set", place(secXattrs, 0, 0), []byte{9}, "xattrs: 6 bytes wanted"},
		{"xattrs out of order", place(secXattrs, 0, xattrSetHead+xattrHead+len("user.")), []byte("c"), `"user.b" after "user.c"`},
		{"long xattr value", place(secXattrs, 0, xattrSetHead+2), []byte{0xff, 0xff, 0xff, 0xff}, "xattrs: 4294967301 bytes wanted"},
		{"an object twice", place(secObjects, 1, 0), good[place(secObjects, 0, 0):place(secObjects, 1, 0)], "is listed twice"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := bytes.Clone(good)
			copy(b[test.at:], test.value)
			if bytes.Equal(b, good) {
				t.Fatal("nothing was changed")
			}
			reseal(b)
			f := mustOpenBytes(t, b)
			err := f.Check()
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Check: %v\nwant %q", err, test.want)
			}
			askEverything(f)
		})
	}
}

func TestCheckStopsListing(t *testing.T) {
	b := encodeTree(t, bigTree(3000))
	layout := mustOpenBytes(t, b)
	for id := Root + 1; uint64(id) <= layout.count(secInodes); id++ {
		b[layout.header.sections[secInodes].offset+(uint64(id)-1)*inodeSize+24]++ // link counts
	}
	reseal(b)
	err := mustOpenBytes(t, b).Check()
	if err == nil {
		t.Fatal("Check found nothing")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxProblems+1 || !strings.Contains(lines[maxProblems], "more than 100 problems") {
		t.Errorf("%d problems, the last %q", len(lines), lines[len(lines)-1])
	}
}

// checkDamaged asks tree file b, whatever became of it, everything: no call may
// panic or not return. If it passes Check, it must be readable without an
// error, and written again be the same tree.
func checkDamaged(t *testing.T, b []byte) {
	t.Helper()
	f, err := newFile("tree", b, nil)
	if err != nil {
		return
	}
	errs := askEverything(f)
	if f.Check() != nil {
		return
	}
	if len(errs) > 0 {
		t.Fatalf("Check finds nothing, but %v", errs[0])
	}
	again, err := newFile("again", encodeTree(t, f), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := listTree(t, again), listTree(t, f); got != want {
		t.Errorf("written again it is\n%s\ninstead of\n%s", got, want)
	}
}

// smallTree has a bit of everything, in a file of which random damage finds
// every part.
func smallTree() *fakeTree {
	t := exampleTree()
	t.file("hard", "hard")
	t.link("etc/too", "hard")
	t.dir("etc/deep")
	t.dir("etc/deep/er")
	t.xattr("etc/motd", "user.a", "1", "user.b", "2")
	return t
}

func TestRandomDamage(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	good := encodeTree(t, smallTree())
	for range 2000 {
		b := bytes.Clone(good)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(b)/4) * 4
			switch random.IntN(3) {
			case 0: // a number that may mean something
				binary.LittleEndian.PutUint32(b[at:], random.Uint32N(12))
			case 1: // what another record has there
				copy(b[at:], b[random.IntN(len(b)/4)*4:][:4])
			default:
				b[at+random.IntN(4)] ^= 1 << random.IntN(8)
			}
		}
		reseal(b)
		checkDamaged(t, b)
	}
}

// FuzzFile damages a tree file, makes the checksums fit if the first byte of
// patches is even, and asks it everything. The other patches are four bytes
// each: two for the place, two to put there. Run it with -fuzzminimizetime 10x,
// for what is interesting about a binary file is seldom a smaller one.
func FuzzFile(f *testing.F) {
	good := encodeTree(f, smallTree())
	f.Add([]byte{}, []byte{0}, uint16(0))
	f.Add([]byte{}, []byte{0, 1, 0, 3, 0}, uint16(10))
	f.Add(good, []byte{0}, uint16(0))
	f.Add(encodeTree(f, richTree()), []byte{0}, uint16(0))
	f.Fuzz(func(t *testing.T, base, patches []byte, cut uint16) {
		if len(base) < headerSize {
			base = good
		}
		b := bytes.Clone(base[:max(headerSize, len(base)-int(cut))])
		seal := len(patches) > 0 && patches[0]%2 == 0
		for p := range slices.Chunk(patches[min(1, len(patches)):], 4) {
			if len(p) == 4 {
				copy(b[int(binary.LittleEndian.Uint16(p))%len(b):], p[2:])
			}
		}
		if seal {
			reseal(b)
		}
		checkDamaged(t, b)
	})
}
