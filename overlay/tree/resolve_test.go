package tree

import (
	"errors"
	"syscall"
	"testing"
)

// TestFollow: paths lead where they would in a directory that is a program's root.
func TestFollow(t *testing.T) {
	b := newFakeTree()
	b.dir("d")
	b.dir("d/e")
	b.file("d/f", "x")
	b.symlink("up", "..")
	b.symlink("d/e/top", "/")
	b.symlink("d/e/far", "../../../../d/f")
	b.symlink("d/here", "e")
	b.symlink("loop", "loop")
	b.symlink("a", "b")
	b.symlink("b", "a")
	b.symlink("dangling", "d/none")
	b.symlink("nowhere", "none/none")
	b.whiteout("d/gone")
	tests := []struct {
		name string
		last bool
		at   string
		want error
	}{
		{"", false, "/", nil},
		{"/", true, "/", nil},
		{"d//./f", false, "/d/f", nil},
		{"../../d/e/..", false, "/d", nil},
		{"up", false, "/up", nil},
		{"up", true, "/", nil},
		{"up/", false, "/", nil},
		{"up/.", false, "/", nil},
		{"up/d", false, "/d", nil},
		{"d/e/top/d/here", false, "/d/here", nil},
		{"d/e/top/d/here", true, "/d/e", nil},
		{"d/here/../f", false, "/d/f", nil},
		{"d/e/far", true, "/d/f", nil},
		{"loop", false, "/loop", nil},
		{"loop", true, "", syscall.ELOOP},
		{"a/x", false, "", syscall.ELOOP},
		{"none", false, "/none", syscall.ENOENT},
		{"d/none/", false, "/d/none", syscall.ENOENT},
		{"d/none/x", false, "", syscall.ENOENT},
		{"d/gone", false, "/d/gone", syscall.ENOENT},
		{"dangling", true, "/d/none", syscall.ENOENT},
		{"nowhere", true, "", syscall.ENOENT},
	}
	for _, tt := range tests {
		id, at, err := Follow(b, tt.name, tt.last)
		if at != tt.at || !errors.Is(err, tt.want) || (err == nil) != (id != None) {
			t.Errorf("Follow(%q, %v) = %d, %q, %v, want %q, %v", tt.name, tt.last, id, at, err, tt.at, tt.want)
		}
		if err == nil {
			if want, err := Resolve(b, tt.at); err != nil || want != id {
				t.Errorf("Follow(%q, %v) is inode %d, and %s is %d (%v)", tt.name, tt.last, id, tt.at, want, err)
			}
		}
	}
	if _, _, err := Follow(b, "d/f/x", false); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}
