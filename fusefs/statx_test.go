package fusefs

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/need"
)

// TestStatx says what stat(2) says, and when a file was made, as the filesystem that
// has it knows.
func TestStatx(t *testing.T) {
	var lower string
	m := newMount(t, Options{AllowOther: true, Dev: true}, func(dir string) {
		lower = dir
		write(t, dir+"/lower", "x")
		write(t, dir+"/copied up", "x")
	})
	write(t, m.path("upper"), "x")
	if err := os.Chmod(m.path("copied up"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(m.path("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(4095, 70000))); err != nil {
		t.Fatal(err)
	}
	statx := func(path string) (st unix.Statx_t) {
		if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if statx(lower+"/lower").Mask&unix.STATX_BTIME == 0 {
		need.Missing(t, "the filesystem of %s does not know when files were made", lower)
	}
	for _, name := range []string{".", "lower", "copied up", "upper", "device"} {
		got := statx(m.path(name))
		var st unix.Stat_t
		if err := unix.Lstat(m.path(name), &st); err != nil {
			t.Fatal(err)
		}
		if got.Ino != st.Ino || uint32(got.Mode) != st.Mode || got.Nlink != uint32(st.Nlink) || got.Size != uint64(st.Size) ||
			got.Blocks != uint64(st.Blocks) || got.Mtime.Sec != st.Mtim.Sec || got.Mtime.Nsec != uint32(st.Mtim.Nsec) ||
			unix.Mkdev(got.Rdev_major, got.Rdev_minor) != st.Rdev {
			t.Errorf("%s: statx says %+v, stat %+v", name, got, st)
		}
		if got.Mask&unix.STATX_BTIME == 0 || got.Btime.Sec == 0 {
			t.Errorf("%s: nobody knows when it was made", name)
		}
	}
	if got, want := statx(m.path("lower")).Btime, statx(lower+"/lower").Btime; got != want {
		t.Errorf("the lower's file was made at %v, it says %v", want, got)
	}
}
