package overlay

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const linkedLower = `
	mkdir -p a b/deep c
	echo data > a/one
	ln a/one a/two; ln a/one b/deep/three; ln a/one c/four
`

var linkedNames = []string{"a/one", "a/two", "b/deep/three", "c/four"}

// wantLinked wants these paths, and no others, to be names of one inode.
func wantLinked(x *fixture, when string, paths ...string) {
	x.t.Helper()
	first := x.hold(paths[0])
	defer x.forget(first)
	for _, p := range paths {
		n := x.hold(p)
		if n.ID != first.ID || n.Attr.Ino != first.Attr.Ino {
			x.t.Errorf("%s: %s is inode %d (ID %d), %s is %d (ID %d)", when, p, n.Attr.Ino, n.ID, paths[0], first.Attr.Ino, first.ID)
		}
		if int(n.Attr.Nlink) != len(paths) {
			x.t.Errorf("%s: %s has nlink %d, want %d", when, p, n.Attr.Nlink, len(paths))
		}
		if a, err := x.Getattr(n.ID); err != nil || int(a.Nlink) != len(paths) {
			x.t.Errorf("%s: Getattr of %s: nlink %d, %v", when, p, a.Nlink, err)
		}
		x.forget(n)
	}
}

// wantLinkedEverywhere also asks after remount and asks the kernel.
func wantLinkedEverywhere(x *fixture, when string, paths ...string) {
	x.t.Helper()
	wantLinked(x, when, paths...)
	want := x.dump()
	x.reopen()
	wantLinked(x, when+", after remount", paths...)
	compare(x.t, when+", after remount", want, x.dump(), true)
	if x.format != FormatKernel {
		return
	}
	x.close()
	compare(x.t, when+", the kernel's view", want, kernelView(x.t, x), true)
	x.open()
}

func TestHardLinksStayOneFile(t *testing.T) {
	needRoot(t)
	lower := shell(t, linkedLower)
	guardLowers(t, lower)
	for _, format := range []Format{FormatKernel, FormatUser} {
		for _, by := range linkedNames {
			t.Run(format.String()+"/"+filepath.Base(by), func(t *testing.T) {
				x := newFixture(t, format, lower)
				ino := x.stat(by).Ino
				x.must(x.write(by, "DATA\n", 0))
				for _, p := range linkedNames {
					if data, err := x.read(p); err != nil || data != "DATA\n" {
						t.Errorf("%s reads %q, %v", p, data, err)
					}
				}
				wantLinkedEverywhere(x, "after a write to "+by, linkedNames...)
				if got := x.stat(by).Ino; got != ino {
					t.Errorf("inode %d, was %d", got, ino)
				}
				if left := x.staged(); len(left) > 0 {
					t.Errorf("left in the work directory: %q", left)
				}
			})
		}
	}
}

func TestHardLinkRemoved(t *testing.T) {
	needRoot(t)
	lower := shell(t, linkedLower+"echo x > file")
	tests := []struct {
		name string
		do   func(x *fixture) error
		want []string
	}{
		{"unlink", func(x *fixture) error { return x.in("a/two", x.Unlink) }, []string{"a/one", "b/deep/three", "c/four"}},
		{"unlink of a copied-up one", func(x *fixture) error {
			x.must(x.chmod("a/one", 0o600))
			return x.in("c/four", x.Unlink)
		}, []string{"a/one", "a/two", "b/deep/three"}},
		{"replaced by rename", func(x *fixture) error { return x.rename("file", "c/four", 0) }, []string{"a/one", "a/two", "b/deep/three"}},
		{"moved", func(x *fixture) error { return x.rename("c/four", "b/five", 0) }, []string{"a/one", "a/two", "b/deep/three", "b/five"}},
		{"one more", func(x *fixture) error { return x.link("c/four", "b/five") }, append([]string{"b/five"}, linkedNames...)},
		{"renamed to itself", func(x *fixture) error { return x.rename("c/four", "a/one", 0) }, linkedNames},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newFixture(t, FormatKernel, lower)
			known := x.hold("b/deep/three") // somebody knows it all the while
			x.must(tt.do(x))
			a, err := x.Getattr(known.ID)
			if err != nil || int(a.Nlink) != len(tt.want) {
				t.Errorf("who knew it sees nlink %d, %v; want %d", a.Nlink, err, len(tt.want))
			}
			wantLinked(x, tt.name, tt.want...)
			x.forget(known)
			wantLinkedEverywhere(x, tt.name, tt.want...)
		})
	}
}

// TestHardLinksHidden: names that the upper hides are not brought back.
func TestHardLinksHidden(t *testing.T) {
	needRoot(t)
	lower := shell(t, linkedLower)
	// As another program may have left it: hidden, and nothing copied up.
	hide := func(x *fixture, script string) {
		x.close()
		run(t, x.upper, script)
		x.open()
	}
	t.Run("by a whiteout", func(t *testing.T) {
		x := newFixture(t, FormatKernel, lower)
		hide(x, `mkdir a; mknod a/two c 0 0`)
		x.must(x.chmod("a/one", 0o600))
		wantLinkedEverywhere(x, "after copy-up", "a/one", "b/deep/three", "c/four")
		wantNames(t, "a", x.names("a"), "one")
	})
	t.Run("by an opaque directory", func(t *testing.T) {
		x := newFixture(t, FormatKernel, lower)
		hide(x, `mkdir b; setfattr -n trusted.overlay.opaque -v y b`)
		x.must(x.chmod("a/one", 0o600))
		wantLinkedEverywhere(x, "after copy-up", "a/one", "a/two", "c/four")
		wantNames(t, "b", x.names("b"))
	})
	t.Run("by a file in the place of the directory", func(t *testing.T) {
		x := newFixture(t, FormatKernel, lower)
		hide(x, `echo x > b; mknod c c 0 0`)
		x.must(x.chmod("a/one", 0o600))
		wantLinkedEverywhere(x, "after copy-up", "a/one", "a/two")
	})
	t.Run("all but one", func(t *testing.T) {
		x := newFixture(t, FormatKernel, lower)
		hide(x, `mknod b c 0 0; mknod c c 0 0; mkdir a; mknod a/two c 0 0`)
		x.must(x.chmod("a/one", 0o600))
		wantLinkedEverywhere(x, "after copy-up", "a/one")
	})
}

// TestHardLinksAfterCrash starts from what a crash leaves after each number of
// links.
func TestHardLinksAfterCrash(t *testing.T) {
	needRoot(t)
	lower := shell(t, linkedLower)
	for made := range len(linkedNames) + 1 {
		t.Run(string(rune('0'+made))+" links made", func(t *testing.T) {
			x := newFixture(t, FormatKernel, lower)
			ino := x.stat("a/one").Ino
			x.must(x.write("a/one", "", 0))
			x.close()

			staged := filepath.Join(x.work, "work", "#crash")
			x.must(os.Link(filepath.Join(x.upper, "a/one"), staged))
			x.must(unix.Setxattr(staged, "trusted.overlay.strata.links", []byte("a/one"), 0))
			x.must(os.WriteFile(staged, []byte("DATA\n"), 0))
			for _, name := range linkedNames[made:] {
				x.must(os.Remove(filepath.Join(x.upper, name)))
			}

			x.open()
			if left := x.staged(); len(left) > 0 {
				t.Errorf("left in the work directory: %q", left)
			}
			wantLinkedEverywhere(x, "after the crash", linkedNames...)
			want := "DATA\n"
			if made == 0 {
				want = "data\n" // the copy had not begun to show
			}
			for _, p := range linkedNames {
				if data, err := x.read(p); err != nil || data != want {
					t.Errorf("%s reads %q, %v", p, data, err)
				}
			}
			if got := x.stat("c/four").Ino; got != ino {
				t.Errorf("inode %d, was %d", got, ino)
			}
			if made > 0 {
				var b [64]byte
				if _, err := unix.Getxattr(filepath.Join(x.upper, "a/one"), "trusted.overlay.strata.links", b[:]); err != unix.ENODATA {
					t.Errorf("the mark is still there: %v", err)
				}
			}
		})
	}
}
