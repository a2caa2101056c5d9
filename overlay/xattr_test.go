package overlay

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// rawXattrs are the xattrs of a path in the upper as they are stored.
func (x *fixture) rawXattrs(path string) []string {
	x.t.Helper()
	buf := make([]byte, 4096)
	n, err := unix.Llistxattr(filepath.Join(x.upper, path), buf)
	x.must(err)
	var names []string
	for _, b := range bytes.Split(bytes.TrimSuffix(buf[:n], []byte{0}), []byte{0}) {
		if len(b) > 0 {
			names = append(names, string(b))
		}
	}
	slices.Sort(names)
	return names
}

// TestXattrsEscaped sets names that mean something to somebody and wants each to
// come back, to be kept where it means nothing, and none of ours to be seen.
func TestXattrsEscaped(t *testing.T) {
	tests := []struct {
		name         string
		kernel, user string // as stored
	}{
		{"user.plain", "user.plain", "user.plain"},
		{"trusted.plain", "trusted.plain", "user.overlay.strata.x.trusted.plain"},
		{"security.thing", "security.thing", "user.overlay.strata.x.security.thing"},
		{"trusted.overlay.opaque", "trusted.overlay.overlay.opaque", "user.overlay.strata.x.trusted.overlay.opaque"},
		{"trusted.overlay.overlay.opaque", "trusted.overlay.overlay.overlay.opaque", "user.overlay.strata.x.trusted.overlay.overlay.opaque"},
		{"trusted.overlay.strata.ino", "trusted.overlay.overlay.strata.ino", "user.overlay.strata.x.trusted.overlay.strata.ino"},
		{"user.overlay.opaque", "user.overlay.opaque", "user.overlay.overlay.opaque"},
		{"user.overlay.overlay.opaque", "user.overlay.overlay.opaque", "user.overlay.overlay.overlay.opaque"},
		{"user.overlay.strata.x.security.capability", "user.overlay.strata.x.security.capability", "user.overlay.overlay.strata.x.security.capability"},
		{"user.containers.override_stat", "user.containers.override_stat", "user.overlay.strata.x.user.containers.override_stat"},
	}
	ctx := context.Background()
	bothFormats(t, func(t *testing.T, format Format) {
		for _, path := range []string{"file", "dir", "born", "bornDir"} {
			for _, tt := range tests {
				t.Run(path+"/"+tt.name, func(t *testing.T) {
					x := newFixture(t, format, shell(t, `echo x > file; mkdir dir; echo y > dir/below`))
					x.must(x.create("born", ""))
					x.must(x.mkdir("bornDir"))
					want := tt.kernel
					if format == FormatUser {
						want = tt.user
					}
					before := x.stat(path)
					n := x.hold(path)
					x.must(x.Setxattr(ctx, n.ID, tt.name, []byte("value"), unix.XATTR_CREATE))
					wantErrno(t, "XATTR_CREATE twice", x.Setxattr(ctx, n.ID, tt.name, []byte("v"), unix.XATTR_CREATE), unix.EEXIST)
					if v, err := x.Getxattr(n.ID, tt.name); err != nil || string(v) != "value" {
						t.Errorf("it reads %q, %v", v, err)
					}
					names, err := x.Listxattr(n.ID)
					x.must(err)
					wantNames(t, "names", names, tt.name)
					if raw := x.rawXattrs(path); !slices.Contains(raw, want) {
						t.Errorf("stored are %q, want %q among them", raw, want)
					}
					x.forget(n)
					after := x.stat(path)
					if after.Mode != before.Mode || after.UID != before.UID || after.Ino != before.Ino {
						t.Errorf("it had a meaning: %+v, was %+v", after, before)
					}
					if path == "dir" {
						wantNames(t, "dir", x.names("dir"), "below")
					}
					wantSameAfterRemount(x)
					n = x.hold(path)
					x.must(x.Removexattr(ctx, n.ID, tt.name))
					wantErrno(t, "removing twice", x.Removexattr(ctx, n.ID, tt.name), unix.ENODATA)
					names, err = x.Listxattr(n.ID)
					x.must(err)
					wantNames(t, "names at the end", names)
					x.forget(n)
				})
			}
		}
	})
}

// TestXattrsOfOursAreHidden puts every mark there is on inodes of the upper.
func TestXattrsOfOursAreHidden(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		x := newFixture(t, format, shell(t, `mkdir -p d; echo f > d/f; echo g > g; ln g h`))
		x.must(x.chmod("d/f", 0o600))
		x.must(x.chmod("g", 0o600))
		x.must(x.in("d/f", x.Unlink))
		x.must(x.in("d", x.Rmdir))
		x.must(x.mkdir("d"))
		x.must(x.link("g", "d/g"))
		for _, path := range []string{"d", "d/g", "g"} {
			if raw := x.rawXattrs(path); len(raw) == 0 {
				t.Errorf("%q has no mark to hide", path)
			}
			n := x.hold(path)
			names, err := x.Listxattr(n.ID)
			x.must(err)
			wantNames(t, path, names)
			for _, mark := range []string{xOpaque, xImpure, xIno, xLower, xLinks} {
				_, err := x.Getxattr(n.ID, format.namespace()+mark)
				wantErrno(t, path+": Getxattr of "+mark, err, unix.ENODATA)
			}
			_, err = x.Getxattr(n.ID, tree.OverrideStatXattr)
			wantErrno(t, path+": Getxattr of "+tree.OverrideStatXattr, err, unix.ENODATA)
			x.forget(n)
		}
	})
}

func TestXattrSizes(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		x := newFixture(t, format, shell(t, `echo f > f; setfattr -n user.long -v $(head -c 1500 /dev/zero | tr '\0' l) f`))
		ctx := context.Background()
		for _, size := range []int{0, 1, 127, 128, 129, 255, 256, 257, 1000, 2000} {
			value := bytes.Repeat([]byte{'v'}, size)
			n := x.hold("f")
			x.must(x.Setxattr(ctx, n.ID, "user.v", value, 0))
			got, err := x.Getxattr(n.ID, "user.v")
			if err != nil || !bytes.Equal(got, value) {
				t.Errorf("%d bytes: %d come back, %v", size, len(got), err)
			}
			if got, err := x.Getxattr(n.ID, "user.long"); err != nil || len(got) != 1500 {
				t.Errorf("the lower's: %d bytes, %v", len(got), err)
			}
			x.forget(n)
		}
		n := x.hold("f")
		defer x.forget(n)
		x.must(x.Removexattr(ctx, n.ID, "user.v"))
		for i := range 24 { // the list of names grows beyond the first buffer
			x.must(x.Setxattr(ctx, n.ID, "user."+strings.Repeat("n", 50)+itoa(i), nil, 0))
		}
		names, err := x.Listxattr(n.ID)
		if err != nil || len(names) != 25 || !slices.IsSorted(names) {
			t.Errorf("%d names, %v", len(names), err)
		}
	})
}

func TestRemovexattrCopiesNothingUp(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `echo f > f`))
	err := x.on("f", func(id ID) error { return x.Removexattr(context.Background(), id, "user.none") })
	if !errors.Is(err, unix.ENODATA) || x.inUpper("f") {
		t.Errorf("%v; copied up: %v", err, x.inUpper("f"))
	}
}
