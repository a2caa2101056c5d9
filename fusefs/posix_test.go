package fusefs

import (
	"fmt"
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"golang.org/x/sys/unix"
)

func TestPOSIX(t *testing.T) {
	for name, o := range map[string]Options{
		"passthrough":     {AllowOther: true},
		"passthrough off": {AllowOther: true, Passthrough: PassthroughOff},
		"observe":         {AllowOther: true, Observe: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t, o, nil)
			for check, fn := range posixtest.All {
				if check == "FcntlFlockLocksFile" {
					continue // wants two locks of one process to conflict, which no filesystem does
				}
				t.Run(check, func(t *testing.T) {
					if err := os.Mkdir(m.path(check), 0o755); err != nil {
						t.Fatal(err)
					}
					fn(t, m.path(check))
				})
			}
		})
	}
}

// TestTmpfileGetsAName writes a file that has no name and links it to one; with
// O_EXCL it cannot be.
func TestTmpfileGetsAName(t *testing.T) {
	for name, o := range map[string]Options{
		"passthrough":     {AllowOther: true},
		"passthrough off": {AllowOther: true, Passthrough: PassthroughOff},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t, o, nil)
			link := func(flags int, to string) error {
				f, err := os.OpenFile(m.path("."), unix.O_TMPFILE|os.O_RDWR|flags, 0o640)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if _, err := f.WriteString("hello"); err != nil {
					t.Fatal(err)
				}
				return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, m.path(to), unix.AT_SYMLINK_FOLLOW)
			}
			if err := link(0, "named"); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(m.path("named")); err != nil || string(got) != "hello" {
				t.Errorf("got %q, %v", got, err)
			}
			var st unix.Stat_t
			if err := unix.Stat(m.path("named"), &st); err != nil || st.Nlink != 1 || st.Mode != unix.S_IFREG|0o640 {
				t.Errorf("got mode %o, %d links, %v", st.Mode, st.Nlink, err)
			}
			if err := link(unix.O_EXCL, "never"); err != unix.ENOENT {
				t.Errorf("O_EXCL: %v, want ENOENT", err)
			}
		})
	}
}
