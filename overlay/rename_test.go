package overlay

import (
	"context"
	"os"
	"path/filepath"
	"strata/internal/histories"
	"strings"
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
		{"lower directory", "full", "new", 0, nil},
		{"empty lower directory", "empty", "new", 0, nil},
		{"lower directory over upper one", "full", "upEmpty", 0, nil},
		{"lower directory over merged one that shows nothing", "full", "other", 0, nil},
		{"lower directory over empty lower one", "full", "empty", 0, nil},
		{"lower directory over whiteout", "full", "whiteDir", 0, nil},
		{"lower directory over whiteout of a file", "full", "whiteFile", 0, nil},
		{"lower directory over a full one", "other", "full", 0, unix.ENOTEMPTY},
		{"lower directory below another", "full/sub", "up/sub/deep/sub", 0, nil},
		{"lower directory into itself", "full", "full/sub/full", 0, unix.EINVAL},
		{"merged directory", "other", "new", 0, nil},
		{"lower directory in exchange", "up", "full", exchange, nil},
		{"two lower directories in exchange", "full", "empty", exchange, nil},
		{"lower directory in exchange with its own descendant", "full", "full/sub", exchange, unix.EINVAL},
		{"merged directory in exchange", "born", "other", exchange, nil},
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
				case before[tt.from].Ino == before[tt.to].Ino: // one file already
					compare(t, "after rename to itself", before, after, true)
				default:
					if got := after[tt.to]; got.Line != before[tt.from].Line || got.Ino != before[tt.from].Ino {
						t.Errorf("%s is %s inode %d, want %s inode %d", tt.to, got.Line, got.Ino, before[tt.from].Line, before[tt.from].Ino)
					}
					got, ok := after[tt.from]
					if tt.flags == exchange {
						if got.Line != before[tt.to].Line || got.Ino != before[tt.to].Ino {
							t.Errorf("%s is %s, want %s", tt.from, got.Line, before[tt.to].Line)
						}
					} else if ok {
						t.Errorf("%s is still there: %s", tt.from, got.Line)
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

// TestNoRedirect: EXDEV is answered before anything is copied up.
func TestNoRedirect(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, renameLower))
	x.must(x.rename("other", "moved", 0))
	x.openWith(func(o *Options) { o.NoRedirect = true })
	wantErrno(t, "rename of a lower directory", x.rename("full", "moved/full", 0), unix.EXDEV)
	wantErrno(t, "exchange with a lower directory", x.rename("file", "full", unix.RENAME_EXCHANGE), unix.EXDEV)
	wantErrno(t, "rename of one that was moved before", x.rename("moved", "again", 0), unix.EXDEV)
	if x.inUpper("full") {
		t.Error("full was copied up")
	}
	wantNames(t, "what was moved before", x.names("moved"), "in")
	// A file can be moved: it takes its data along.
	x.must(x.chmod("file", 0o600))
	x.must(x.rename("file", "moved/file", 0))
	if data, err := x.read("moved/file"); err != nil || data != "a\n" {
		t.Errorf("read %q, %v", data, err)
	}
	if x.hasXattr("moved/file", xMetacopy) || x.hasXattr("moved/file", xRedirect) {
		t.Error("the data did not come along")
	}
	wantSameAfterRemount(x)
}

// TestRenameCopiesNothing moves a lower directory again and again: whatever is below
// it is not copied up, and the kernel shows the same.
func TestRenameCopiesNothing(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, `
			mkdir -p a/b/c d/e
			for i in $(seq 50); do echo $i > a/b/f$i; echo $i > a/b/c/g$i; done
			echo x > d/e/x
		`)
		guardLowers(t, lower)
		x := newFixture(t, format, lower)
		want := x.dump()
		moves := []struct{ from, to string }{
			{"a", "n"},         // once
			{"n/b", "d/b"},     // out of what was moved
			{"d", "n/d"},       // with what was moved in it
			{"n/d/b/c", "c"},   // again one deeper
			{"c", "n/d/b/c"},   // and back
			{"n/d", "d"},       //
			{"d/b", "n/b"},     //
			{"n", "a"},         // all is where it was
			{"a/b/c", "d/e/a"}, // a name that means another one elsewhere
			{"d/e", "a/b/c"},   //
		}
		for _, m := range moves {
			before := x.dump()
			x.must(x.rename(m.from, m.to, 0))
			wantMoved(t, before, x.dump(), m.from, m.to)
			wantSameAfterRemount(x)
			if format == FormatKernel {
				now := x.dump()
				x.close()
				compare(t, "the kernel's view after "+m.from+" -> "+m.to, now, kernelView(t, x), true)
				x.open()
			}
			if m.to == "a" {
				now := x.dump()
				for path, d := range want {
					if now[path].Ino != d.Ino {
						t.Errorf("moved there and back %q is inode %d, was %d", path, now[path].Ino, d.Ino)
					}
				}
			}
		}
		files := 0
		eachFile(t, x.upper, func(string, unix.Stat_t) { files++ })
		if files > 0 {
			t.Errorf("%d files were copied up", files)
		}
	})
}

// wantMoved wants in after what was in before, with one path changed.
func wantMoved(t *testing.T, before, after histories.Tree, from, to string) {
	t.Helper()
	want := histories.Tree{}
	for path, d := range before {
		if rest, ok := strings.CutPrefix(path, from); ok && (rest == "" || rest[0] == '/') {
			path = to + rest
		}
		want[path] = d
	}
	compare(t, from+" -> "+to, want, after, false)
	for path, d := range want {
		if after[path].Ino != d.Ino {
			t.Errorf("%s -> %s: %q is inode %d, was %d", from, to, path, after[path].Ino, d.Ino)
		}
	}
}

// eachFile calls fn for every regular file below a directory of the host.
func eachFile(t testing.TB, top string, fn func(path string, st unix.Stat_t)) {
	t.Helper()
	err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			fn(path, st)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRedirectTooLong: the path of what moves does not fit into an xattr.
func TestRedirectTooLong(t *testing.T) {
	needRoot(t)
	lower := t.TempDir() // on a disk: in memory xattrs may be longer
	name := strings.Repeat("n", 250)
	var parts []string
	for range 17 {
		parts = append(parts, name)
	}
	deep := strings.Join(parts, "/")
	run(t, lower, `
		n=`+name+`
		for i in $(seq 17); do mkdir $n; cd -P $n; done
		mkdir dir; echo inside > dir/file; echo data > file; echo linked > one; ln one two
	`)
	x := newFixtureAt(t, t.TempDir(), FormatKernel, lower)
	before := len(x.names(deep))
	wantErrno(t, "rename of the directory", x.rename(deep+"/dir", deep+"/moved", 0), unix.EXDEV)
	wantErrno(t, "its exchange", x.rename(deep+"/dir", deep+"/file", unix.RENAME_EXCHANGE), unix.EXDEV)
	if got := x.names(deep); len(got) != before {
		t.Errorf("afterwards there are %q", got)
	}
	wantNames(t, "dir", x.names(deep+"/dir"), "file")
	// Files take their data along.
	x.must(x.rename(deep+"/file", "file", 0))
	x.must(x.chmod(deep+"/one", 0o600))
	x.must(x.chmod(deep+"/dir/file", 0o600))
	x.must(x.link(deep+"/dir/file", "link"))
	check := func() {
		for path, want := range map[string]string{"file": "data\n", deep + "/one": "linked\n", deep + "/two": "linked\n", "link": "inside\n"} {
			if data, err := x.read(path); err != nil || data != want {
				t.Errorf("%s reads %q, %v", filepath.Base(path), data, err)
			}
		}
	}
	check()
	x.reopen()
	check()
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
	n, _, err := x.Create(Caller{}, deep.ID, "late", 0o600)
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
