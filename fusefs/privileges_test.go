package fusefs

import (
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"strata/internal/need"
	"strata/overlay"
)

func ptr(b []byte) unsafe.Pointer { return unsafe.Pointer(&b[0]) }

// capability is cap_net_raw+ep as the xattr's bytes.
var capability = []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")

func hasXattr(path, name string) bool {
	n, err := unix.Lgetxattr(path, name, nil)
	return err == nil && n >= 0
}

// TestSetGIDWithoutGroupExecution stays with who writes only if they are in the group.
func TestSetGIDWithoutGroupExecution(t *testing.T) {
	need.Tool(t, "setpriv")
	m := newMount(t, Options{AllowOther: true}, func(lower string) {
		for _, name := range []string{"in", "out"} {
			write(t, lower+"/"+name, "x")
			os.Chown(lower+"/"+name, 1000, 1000)
			unix.Chmod(lower+"/"+name, 0o2726)
		}
	})
	for name, who := range map[string]string{"in": "--groups=1000", "out": "--clear-groups"} {
		m.run(0, "setpriv --reuid=2000 --regid=2000 "+who+" sh -c 'printf x >> "+name+"'")
	}
	if got := m.run(0, "stat -c '%n %a' in out"); got != "in 2726\nout 726" {
		t.Errorf("got %q", got)
	}
}

func TestPrivilegesAreTakenAway(t *testing.T) {
	cases := map[string]struct {
		uid       uint32
		script    string
		mode      string // afterwards
		keepsCaps bool
	}{
		"write by another":       {2000, "printf x >> F", "777", false},
		"write by root":          {0, "printf x >> F", "6777", false},
		"open and close":         {2000, ": >> F", "6777", true},
		"truncate by another":    {2000, "truncate -s 2 F", "777", false},
		"O_TRUNC by another":     {2000, ": > F", "777", false},
		"O_TRUNC by root":        {0, ": > F", "6777", false},
		"chown by root":          {0, "chown 5:6 F", "777", false},
		"chown to nobody":        {0, "chown : F", "777", false},
		"chmod":                  {1000, "chmod 4755 F", "4755", true},
		"touch":                  {1000, "touch F", "6777", true},
		"fallocate by another":   {2000, "fallocate -l 8192 F", "777", false},
		"write while it is open": {2000, "exec 3< F; printf x >> F", "777", false},
	}
	program := func(t *testing.T, path string) {
		write(t, path, "program")
		os.Chown(path, 1000, 1000)
		unix.Chmod(path, 0o6777)
		if err := unix.Setxattr(path, xattrCapability, capability, 0); err != nil {
			t.Fatal(err)
		}
	}
	for mode, o := range map[string]struct {
		format  overlay.Format
		options Options
	}{
		"passthrough":     {overlay.FormatKernel, Options{AllowOther: true}},
		"passthrough off": {overlay.FormatKernel, Options{AllowOther: true, Passthrough: PassthroughOff}},
		"user format":     {overlay.FormatUser, Options{AllowOther: true}},
	} {
		t.Run(mode, func(t *testing.T) {
			m := newMountAs(t, o.format, o.options, func(lower string) {
				for name := range cases {
					program(t, lower+"/lower "+name)
				}
			})
			for name, c := range cases {
				for _, where := range []string{"lower", "upper"} {
					file := where + " " + name
					t.Run(file, func(t *testing.T) {
						if where == "upper" {
							program(t, m.path(file))
						}
						if !hasXattr(m.path(file), xattrCapability) {
							t.Fatal("no capabilities to begin with")
						}
						m.run(c.uid, strings.ReplaceAll(c.script, "F", "'"+file+"'"))
						if got := m.run(0, "stat -c %a '"+file+"'"); got != c.mode {
							t.Errorf("mode is %s, want %s", got, c.mode)
						}
						if got := hasXattr(m.path(file), xattrCapability); got != c.keepsCaps {
							t.Errorf("has capabilities: %v, want %v", got, c.keepsCaps)
						}
					})
				}
			}
		})
	}
}

// TestSetGIDWithoutExecution: the bit stays when a member of the group, root
// or nobody in particular writes, as on a local filesystem.
func TestSetGIDWithoutExecution(t *testing.T) {
	for name, o := range map[string]Options{"passthrough": {AllowOther: true}, "passthrough off": {AllowOther: true, Passthrough: PassthroughOff}} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t, o, nil)
			for _, change := range []string{"printf x >> f", "truncate -s 2 f", ": > f", "fallocate -l 9000 f", "fallocate -p -o 0 -l 4096 f"} {
				for who, keeps := range map[string]bool{"2000 3000": true, "2000 2000 3000": true, "2000 2000 4000 5000": false, "0 0": true} {
					uid, groups, _ := strings.Cut(who, " ")
					gid, others, _ := strings.Cut(groups, " ")
					setpriv := "setpriv --reuid " + uid + " --regid " + gid + " --clear-groups"
					if others != "" {
						setpriv = "setpriv --reuid " + uid + " --regid " + gid + " --groups " + strings.ReplaceAll(others, " ", ",")
					}
					m.run(0, "rm -f f; printf data > f; chown 1000:3000 f; chmod 2666 f; "+setpriv+" sh -c '"+change+"'")
					want := map[bool]string{true: "2666", false: "666"}[keeps]
					if got := m.run(0, "stat -c %a f"); got != want {
						t.Errorf("%s by user and groups %s: mode is %s, want %s", change, who, got, want)
					}
				}
			}
		})
	}
}

// TestChownToNobody moves ctime, and nothing but that, of what has no set-id bits.
func TestChownToNobody(t *testing.T) {
	m := newMount(t, Options{AllowOther: true}, func(lower string) { write(t, lower+"/lower", "x") })
	write(t, m.path("upper"), "x")
	for _, name := range []string{"lower", "upper", "."} {
		var before, after unix.Stat_t
		if err := unix.Stat(m.path(name), &before); err != nil {
			t.Fatal(err)
		}
		if err := unix.Chown(m.path(name), -1, -1); err != nil {
			t.Fatal(err)
		}
		if err := unix.Stat(m.path(name), &after); err != nil {
			t.Fatal(err)
		}
		if after.Ctim == before.Ctim || after.Mtim != before.Mtim || after.Mode != before.Mode || after.Uid != before.Uid || after.Gid != before.Gid {
			t.Errorf("%s was %+v and is %+v", name, before, after)
		}
	}
}

// The kernel must not run by a mode that is no longer true.
func TestWrittenProgramLosesSetUID(t *testing.T) {
	m := newMount(t, Options{AllowOther: true, SUID: true}, func(lower string) {})
	m.run(0, "cp /usr/bin/id id; chmod 4777 id")
	if got := m.run(1000, "./id -u"); got != "0" {
		t.Errorf("a set-uid program runs as %s", got)
	}
	if got := m.run(1000, "printf x >> id; ./id -u"); got != "1000" {
		t.Errorf("a set-uid program that was written to runs as %s", got)
	}
}

func TestNoSUIDUnlessAsked(t *testing.T) {
	m := newMount(t, Options{AllowOther: true}, nil)
	m.run(0, "cp /usr/bin/id id; chmod 4755 id; mknod null c 1 3; chmod 666 null")
	if got := m.run(1000, "./id -u"); got != "1000" {
		t.Errorf("a set-uid program runs as %s", got)
	}
	if f, err := os.Open(m.path("null")); err == nil {
		f.Close()
		t.Error("a device can be opened")
	}
}

func TestSetGIDDirectory(t *testing.T) {
	m := newMount(t, Options{AllowOther: true}, func(lower string) {
		os.Mkdir(lower+"/d", 0o777)
		os.Chown(lower+"/d", 0, 3000)
		unix.Chmod(lower+"/d", 0o2777)
	})
	got := m.run(1000, "cd d; umask 022; : > f; mkdir s; stat -c '%n %a %u:%g' *")
	if want := "f 644 1000:3000\ns 2755 1000:3000"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// aclOf makes an ACL xattr: tag, permission, id for each entry.
func aclOf(entries ...[3]uint32) []byte {
	b := []byte{aclVersion, 0, 0, 0}
	for _, e := range entries {
		b = append(b, byte(e[0]), byte(e[0]>>8), byte(e[1]), 0, byte(e[2]), byte(e[2]>>8), byte(e[2]>>16), byte(e[2]>>24))
	}
	return b
}

const aclNone = 1<<32 - 1 // the id of entries that have none

func TestACL(t *testing.T) {
	for _, format := range []overlay.Format{overlay.FormatKernel, overlay.FormatUser} {
		t.Run(format.String(), func(t *testing.T) { testACL(t, format) })
	}
}

func testACL(t *testing.T, format overlay.Format) {
	m := newMountAs(t, format, Options{AllowOther: true}, func(lower string) {
		write(t, lower+"/f", "f")
		os.Chmod(lower+"/f", 0o600)
		os.Mkdir(lower+"/d", 0o777)
		os.Chmod(lower+"/d", 0o777)
	})
	access := aclOf([3]uint32{1, 6, aclNone}, [3]uint32{2, 4, 1000}, [3]uint32{4, 0, aclNone}, [3]uint32{0x10, 4, aclNone}, [3]uint32{0x20, 0, aclNone})
	if err := unix.Setxattr(m.path("f"), xattrAccessACL, access, 0); err != nil {
		t.Fatal(err)
	}
	if got := m.run(0, "stat -c %a f"); got != "640" {
		t.Errorf("mode with the ACL is %s", got)
	}
	if got := m.run(1000, "cat f"); got != "f" {
		t.Errorf("the user of the ACL reads %q", got)
	}
	m.run(1001, "! cat f 2>/dev/null")
	m.run(0, "chmod 600 f")
	m.run(1000, "! cat f 2>/dev/null") // the mask is empty now
	m.run(0, "chmod 640 f")
	if got := m.run(1000, "cat f"); got != "f" {
		t.Errorf("the user of the ACL reads %q", got)
	}

	def := aclOf([3]uint32{1, 7, aclNone}, [3]uint32{2, 6, 1000}, [3]uint32{4, 5, aclNone}, [3]uint32{0x10, 7, aclNone}, [3]uint32{0x20, 0, aclNone})
	if err := unix.Setxattr(m.path("d"), xattrDefaultACL, def, 0); err != nil {
		t.Fatal(err)
	}
	// The same on the upper's own filesystem says what must come out.
	plain := t.TempDir()
	os.Chmod(plain, 0o777)
	if err := unix.Setxattr(plain, xattrDefaultACL, def, 0); err != nil {
		need.Missing(t, "no ACLs on %s: %v", plain, err)
	}
	const script = "umask 077; : > file; mkdir dir; mkfifo fifo; ln -s x link; stat -c '%n %a' *; getfacl -p * 2>/dev/null || true"
	want, got := shell(t, plain, script), m.run(0, "cd d; "+script)
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, name := range []string{"file", "dir", "fifo"} {
		for _, xattr := range []string{xattrAccessACL, xattrDefaultACL} {
			a, b := xattrOf(plain+"/"+name, xattr), xattrOf(m.path("d/"+name), xattr)
			if a != b {
				t.Errorf("%s of %s is %x, want %x", xattr, name, b, a)
			}
		}
	}
}

func xattrOf(path, name string) string {
	buf := make([]byte, 1024)
	n, err := unix.Lgetxattr(path, name, buf)
	if err != nil {
		return err.Error()
	}
	return string(buf[:n])
}
