package overlay

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

const renameLower = `
	mkdir -p full/sub empty other/in; echo f > full/f; echo g > full/sub/g
	echo a > file; echo b > file2; ln file2 link2; ln -s nowhere sym; mkdir whiteDir; echo w > whiteFile
`

// upperPart is what every case of TestRename starts from above that lower.
func upperPart(x *fixture) {
	x.must(x.mkdir("up"))
	x.must(x.mkdir("up/sub"))
	x.must(x.mkdir("up/sub/deep"))
	x.must(x.create("up/x", "oldx"))
	x.must(x.mkdir("upEmpty"))
	x.must(x.create("born", "born"))
	x.must(x.in("whiteFile", x.Unlink))
	x.must(x.in("whiteDir", x.Rmdir))
	x.must(x.in("other/in", x.Rmdir)) // "other" is merged and shows nothing
}

func TestRename(t *testing.T) {
	const (
		noreplace = unix.RENAME_NOREPLACE
		exchange  = unix.RENAME_EXCHANGE
	)
	tests := []struct {
		name     string
		from, to string
		flags    uint32
		want     error // nil: from is gone (or exchanged) and to is what from was
	}{
		{"lower directory", "full", "new", 0, unix.EXDEV},
		{"empty lower directory", "empty", "new", 0, unix.EXDEV},
		{"lower directory over upper one", "full", "upEmpty", 0, unix.EXDEV},
		{"merged directory", "other", "new", 0, unix.EXDEV},
		{"lower directory in exchange", "up", "full", exchange, unix.EXDEV},
		{"merged directory in exchange", "born", "other", exchange, unix.EXDEV},
		{"lower file", "file", "new", 0, nil},
		{"lower file to lower directory", "file", "full/new", 0, nil},
		{"lower file over lower file", "file", "full/f", 0, nil},
		{"lower symlink", "sym", "full/sym", 0, nil},
		{"hard link", "link2", "full/link2", 0, nil},
		{"over a hard link", "file", "link2", 0, nil},
		{"lower file over whiteout", "file", "whiteFile", 0, nil},
		{"upper file over lower file", "born", "file", 0, nil},
		{"upper file over upper file", "born", "up/x", 0, nil},
		{"upper directory", "up", "full/up", 0, nil},
		{"upper directory over empty upper one", "up", "upEmpty", 0, nil},
		{"upper directory over empty lower one", "up", "empty", 0, nil},
		{"upper directory over merged one that shows nothing", "up", "other", 0, nil},
		{"upper directory over whiteout of a directory", "up", "whiteDir", 0, nil},
		{"upper directory over whiteout of a file", "up", "whiteFile", 0, nil},
		{"upper directory over full lower one", "up", "full", 0, unix.ENOTEMPTY},
		{"upper directory over full upper one", "upEmpty", "up", 0, unix.ENOTEMPTY},
		{"upper directory over the one it is in", "up/sub", "up", 0, unix.ENOTEMPTY},
		{"directory over file", "up", "file", 0, unix.ENOTDIR},
		{"file over directory", "file", "upEmpty", 0, unix.EISDIR},
		{"file over lower directory", "born", "empty", 0, unix.EISDIR},
		{"into itself", "up", "up/new", 0, unix.EINVAL},
		{"into its own descendant", "up", "up/sub/deep/new", 0, unix.EINVAL},
		{"exchange with its own descendant", "up", "up/sub/deep", exchange, unix.EINVAL},
		{"exchange with its own ancestor", "up/sub/deep", "up", exchange, unix.EINVAL},
		{"what is not there", "nothing", "new", 0, unix.ENOENT},
		{"what is whited out", "whiteFile", "new", 0, unix.ENOENT},
		{"to no directory", "file", "nothing/new", 0, unix.ENOENT},
		{"to a file's inside", "file", "file2/new", 0, unix.ENOTDIR},
		{"noreplace over lower file", "born", "file", noreplace, unix.EEXIST},
		{"noreplace over upper file", "file", "born", noreplace, unix.EEXIST},
		{"noreplace over whiteout", "file", "whiteFile", noreplace, nil},
		{"noreplace to a free name", "file", "new", noreplace, nil},
		{"noreplace to itself", "file", "file", noreplace, unix.EEXIST},
		{"to itself", "file", "file", 0, nil},
		{"other name of the same lower file", "file2", "link2", 0, nil},
		{"exchange lower files", "file", "full/f", exchange, nil},
		{"exchange lower and upper file", "file", "born", exchange, nil},
		{"exchange upper directory and lower file", "up", "file", exchange, nil},
		{"exchange upper file and upper directory", "born", "up/sub", exchange, nil},
		{"exchange with what is not there", "file", "new", exchange, unix.ENOENT},
		{"exchange with a whiteout", "file", "whiteFile", exchange, unix.ENOENT},
		{"unknown flag", "file", "new", unix.RENAME_WHITEOUT, unix.EINVAL},
		{"both flags", "file", "born", noreplace | exchange, unix.EINVAL},
	}
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, renameLower)
		guardLowers(t, lower)
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				x := newFixture(t, format, lower)
				upperPart(x)
				before := x.dump()
				err := x.rename(tt.from, tt.to, tt.flags)
				wantErrno(t, "rename", err, errnoOf(tt.want))
				after := x.dump()
				switch {
				case tt.want != nil:
					compare(t, "after a refused rename", before, after, true)
				case before[tt.from].inode == before[tt.to].inode: // one file already
					compare(t, "after rename to itself", before, after, true)
				default:
					if got := after[tt.to]; got.line != before[tt.from].line || got.inode != before[tt.from].inode {
						t.Errorf("%s is %s inode %s, want %s inode %s", tt.to, got.line, got.inode, before[tt.from].line, before[tt.from].inode)
					}
					got, ok := after[tt.from]
					if tt.flags == exchange {
						if got.line != before[tt.to].line || got.inode != before[tt.to].inode {
							t.Errorf("%s is %s, want %s", tt.from, got.line, before[tt.to].line)
						}
					} else if ok {
						t.Errorf("%s is still there: %s", tt.from, got.line)
					}
				}
				if left := x.staged(); len(left) > 0 {
					t.Errorf("left in the work directory: %q", left)
				}
				wantSameAfterRemount(x)
			})
		}
	})
}

// TestRenameRefusedCopiesNothing: EXDEV is answered before anything is copied up.
func TestRenameRefusedCopiesNothing(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, renameLower))
	wantErrno(t, "rename of a lower directory", x.rename("full", "other/full", 0), unix.EXDEV)
	for _, p := range []string{"full", "other"} {
		if x.inUpper(p) {
			t.Errorf("%s was copied up", p)
		}
	}
}

// TestRenameKeepsWhoIsInside: open files and known IDs below a moved directory go
// on, at the new place.
func TestRenameKeepsWhoIsInside(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, renameLower))
	upperPart(x)
	ctx := context.Background()
	deep, file := x.hold("up/sub/deep"), x.hold("up/x")
	h, err := x.Open(ctx, file.ID, unix.O_RDWR)
	x.must(err)
	d, err := x.OpenDir(deep.ID)
	x.must(err)
	x.must(x.rename("up", "full/moved", 0))
	if _, err := h.WriteAt([]byte("new"), 0); err != nil {
		t.Error(err)
	}
	if data, err := x.read("full/moved/x"); err != nil || data != "newx" {
		t.Errorf("read %q, %v", data, err)
	}
	n, _, err := x.Create(Caller{}, deep.ID, "late", 0o600, unix.O_RDWR)
	x.must(err)
	x.forget(n)
	wantNames(t, "by path", x.names("full/moved/sub/deep"), "late")
	names, err := listDir(d)
	x.must(err)
	wantNames(t, "in the open directory", names, "late")
	if p, err := d.Parent(); err != nil || p.Ino != x.stat("full/moved/sub").Ino {
		t.Errorf("parent is %d, %v", p.Ino, err)
	}
	x.must(h.Close())
	x.must(d.Close())
	x.forget(deep)
	x.forget(file)
}

// TestRenameOpaque: what was moved to where the lower has a directory of that name
// must not show the lower's names, and the directory that was there before does.
func TestRenameOpaque(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, renameLower))
	upperPart(x)
	x.must(x.rename("up", "empty", 0))
	if !x.isOpaque("empty") {
		t.Error("it is not opaque")
	}
	x.must(x.rename("empty", "free", 0)) // from where a whiteout must stay
	if !x.isWhiteout("empty") {
		t.Error("no whiteout where the lower has a directory")
	}
	wantSameAfterRemount(x)
}
