package fusefs

import (
	"testing"

	"golang.org/x/sys/unix"

	"strata/overlay"
)

// TestTrustedXattrsAreListedToRoot, to whom alone they are: a copy by somebody else
// would fail on each.
func TestTrustedXattrsAreListedToRoot(t *testing.T) {
	set := func(path string) {
		write(t, path, "x")
		for _, name := range []string{"trusted.a", "user.b"} {
			if err := unix.Setxattr(path, name, []byte("v"), 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := newMount(t, Options{AllowOther: true}, func(lower string) { set(lower + "/lower") })
	set(m.path("upper"))
	for _, name := range []string{"lower", "upper"} {
		list := "getfattr -m - " + name + " | grep -v '^#' | tr '\\n' ' '"
		if got, want := m.run(0, list), "trusted.a user.b"; got != want {
			t.Errorf("%s: root is told of %q, want %q", name, got, want)
		}
		if got, want := m.run(1000, list), "user.b"; got != want {
			t.Errorf("%s: a user is told of %q, want %q", name, got, want)
		}
	}
}

// TestRemovingNoACL is no error, as it is none on a local filesystem.
func TestRemovingNoACL(t *testing.T) {
	m := newMount(t, Options{AllowOther: true}, func(lower string) { write(t, lower+"/lower", "x") })
	write(t, m.path("upper"), "x")
	for _, name := range []string{"lower", "upper"} {
		if err := unix.Removexattr(m.path(name), xattrAccessACL); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := unix.Removexattr(m.path(name), "user.none"); err != unix.ENODATA {
			t.Errorf("%s: an xattr that is not there: %v, want ENODATA", name, err)
		}
	}
}

// TestACLThatIsAMode leaves no xattr, whatever keeps the xattrs.
func TestACLThatIsAMode(t *testing.T) {
	for _, format := range []overlay.Format{overlay.FormatKernel, overlay.FormatUser} {
		m := newMountAs(t, format, Options{}, func(lower string) { write(t, lower+"/f", "f") })
		value := []byte("\x02\x00\x00\x00" + // version; owner, group and others
			"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x04\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")
		if err := unix.Setxattr(m.path("f"), xattrAccessACL, value, 0); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(m.path("f"), &st); err != nil || st.Mode != unix.S_IFREG|0o640 {
			t.Errorf("%v: mode %o, %v", format, st.Mode, err)
		}
		if n, err := unix.Listxattr(m.path("f"), make([]byte, 100)); err != nil || n != 0 {
			t.Errorf("%v: %d bytes of names, %v", format, n, err)
		}
	}
}
