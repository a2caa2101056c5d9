package fusefs

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestReadWrite(t *testing.T) {
	modes := map[string]Options{
		"passthrough":     {},
		"coherent":        {Coherent: true},
		"passthrough off": {Passthrough: PassthroughOff},
		"observe":         {Observe: true},
	}
	for name, o := range modes {
		t.Run(name, func(t *testing.T) {
			big := strings.Repeat("0123456789abcdef", 1<<15)
			m := newMount(t, o, func(lower string) {
				write(t, lower+"/a", "alpha")
				write(t, lower+"/big", big)
				os.Mkdir(lower+"/d", 0o755)
				write(t, lower+"/d/x", "x")
				os.Symlink("a", lower+"/link")
			})
			wantContent(t, m.path("a"), "alpha")
			wantContent(t, m.path("big"), big)
			wantContent(t, m.path("link"), "alpha")
			if _, err := os.Stat(m.path("none")); !os.IsNotExist(err) {
				t.Errorf("a missing name: %v", err)
			}

			write(t, m.path("a"), "other")
			wantContent(t, m.path("a"), "other")
			wantContent(t, m.lower+"/a", "alpha")
			f, err := os.OpenFile(m.path("big"), os.O_RDWR|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.WriteString("tail")
			f.WriteAt(nil, 0)
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			wantContent(t, m.path("big"), big+"tail")
			wantContent(t, m.lower+"/big", big)

			if err := os.MkdirAll(m.path("new/sub"), 0o755); err != nil {
				t.Error(err)
			}
			write(t, m.path("new/sub/f"), "fresh")
			if err := os.Rename(m.path("new/sub/f"), m.path("d/f")); err != nil {
				t.Error(err)
			}
			wantContent(t, m.path("d/f"), "fresh")
			if err := os.Remove(m.path("d/x")); err != nil {
				t.Error(err)
			}
			if got := names(t, m.path("d")); !slices.Equal(got, []string{"f"}) {
				t.Errorf("d holds %q", got)
			}
			if err := os.Remove(m.path("new/sub")); err != nil {
				t.Error(err)
			}
			if got := names(t, m.dir); !slices.Equal(got, []string{"a", "big", "d", "link", "new"}) {
				t.Errorf("root holds %q", got)
			}
			if err := os.Truncate(m.path("big"), 3); err != nil {
				t.Error(err)
			}
			wantContent(t, m.path("big"), "012")

			if err := unix.Setxattr(m.path("a"), "user.k", []byte("v"), 0); err != nil {
				t.Error(err)
			}
			buf := make([]byte, 100)
			if n, err := unix.Getxattr(m.path("a"), "user.k", nil); n != 1 || err != nil {
				t.Errorf("size of user.k: %d, %v", n, err)
			}
			if n, err := unix.Getxattr(m.path("a"), "user.k", buf); n != 1 || err != nil || buf[0] != 'v' {
				t.Errorf("user.k: %q, %v", buf[:max(n, 0)], err)
			}
			if n, err := unix.Listxattr(m.path("a"), buf); err != nil || string(buf[:n]) != "user.k\x00" {
				t.Errorf("xattrs: %q, %v", buf[:max(n, 0)], err)
			}
			if _, err := unix.Listxattr(m.path("a"), buf[:3]); err != unix.ERANGE {
				t.Errorf("xattrs, too small: %v", err)
			}
			if err := unix.Removexattr(m.path("a"), "user.k"); err != nil {
				t.Error(err)
			}
			if _, err := unix.Getxattr(m.path("a"), "user.k", buf); err != unix.ENODATA {
				t.Errorf("removed user.k: %v", err)
			}

			if n := m.counts(); n.Passthrough != (name == "passthrough" || name == "coherent") {
				t.Errorf("passthrough is %v", n.Passthrough)
			}
		})
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestMapShared(t *testing.T) {
	for name, o := range map[string]Options{"passthrough": {}, "passthrough off": {Passthrough: PassthroughOff}, "observe": {Observe: true}} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t, o, func(lower string) { write(t, lower+"/f", strings.Repeat("a", 8192)) })
			f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			mem, err := unix.Mmap(int(f.Fd()), 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(mem)
			copy(mem[4096:], "mapped")
			if err := unix.Msync(mem, unix.MS_SYNC); err != nil {
				t.Error(err)
			}
			buf := make([]byte, 6)
			if _, err := f.ReadAt(buf, 4096); err != nil || string(buf) != "mapped" {
				t.Errorf("read sees %q, %v", buf, err)
			}
			if _, err := f.WriteAt([]byte("writes"), 0); err != nil || string(mem[:6]) != "writes" {
				t.Errorf("the mapping sees %q, %v", mem[:6], err)
			}
			wantContent(t, m.lower+"/f", strings.Repeat("a", 8192))
		})
	}
}

func TestUmask(t *testing.T) {
	m := newMount(t, Options{AllowOther: true}, func(lower string) {
		os.Mkdir(lower+"/d", 0o777)
		os.Chmod(lower+"/d", 0o777)
	})
	got := m.run(1000, `cd d; umask 027; mkdir dir; : > file; mkfifo fifo; umask 0; : > open; stat -c '%n %a %u:%g' *`)
	want := "dir 750 1000:1000\nfifo 640 1000:1000\nfile 640 1000:1000\nopen 666 1000:1000"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestUnmountLeavesNothing(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "f") })
	wantContent(t, m.path("f"), "f")
	write(t, m.path("g"), "g")
	f, err := os.Open(m.path("f"))
	if err != nil {
		t.Fatal(err)
	}
	l := m.unmount()
	if l.Error == "" || len(l.Users) != 1 || l.Users[0].PID != os.Getpid() || l.Users[0].How != "has open "+m.path("f") {
		t.Errorf("unmount while in use: %q, users %v", l.Error, l.Users)
	}
	f.Close()
	l = m.unmount()
	if l.Error != "" || len(l.FDs) > len(l.FDsBefore) || l.Goroutines > l.GoroutinesBefore {
		t.Errorf("after unmount: %+v", l)
	}
	if _, err := os.Stat(m.path("f")); !os.IsNotExist(err) {
		t.Errorf("after unmount: %v", err)
	}
}

func TestUnmountedBySomebodyElse(t *testing.T) {
	m := newMount(t, Options{}, nil)
	write(t, m.path("f"), "f")
	if err := syscall.Unmount(m.dir, 0); err != nil {
		t.Fatal(err)
	}
	if l := m.unmount(); l.Error != "" || len(l.FDs) > len(l.FDsBefore) || l.Goroutines > l.GoroutinesBefore {
		t.Errorf("after unmount: %+v", l)
	}
}

// A mount that is detached serves those who use it until they leave.
func TestDetach(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "f") })
	f := openFile(t, m.path("f"), os.O_RDWR)
	m.stdin.Close() // the child tries to unmount, and detaches
	for range 200 {
		if _, err := os.Stat(m.path("f")); err != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if names(t, m.dir) != nil {
		t.Error("still mounted")
	}
	if _, err := f.WriteAt([]byte("late"), 0); err != nil {
		t.Error(err)
	}
	f.Close()
	m.stop()
	wantContent(t, m.upper+"/f", "late")
}

// A connection that is cut leaves nothing open either.
func TestAborted(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "f") })
	f := openFile(t, m.path("f"), os.O_RDWR)
	d := openFile(t, m.dir, os.O_RDONLY)
	d.Readdirnames(1)
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	control := t.TempDir()
	if err := unix.Mount("fusectl", control, "fusectl", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(control, 0)
	if err := os.WriteFile(control+"/"+strconv.FormatUint(st.Dev, 10)+"/abort", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	d.Close()
	syscall.Unmount(m.dir, syscall.MNT_DETACH)
	if l := m.unmount(); l.Error != "" || len(l.FDs) > len(l.FDsBefore) || l.Goroutines > l.GoroutinesBefore {
		t.Errorf("after the connection was cut: %+v", l)
	}
}

func TestDeadServer(t *testing.T) {
	m := newMount(t, Options{}, nil)
	m.cmd.Process.Kill()
	m.cmd.Wait()
	m.stopped = true
	defer syscall.Unmount(m.dir, 0)
	err := CheckMountpoint(m.dir)
	if err == nil || !strings.Contains(err.Error(), "umount "+m.dir) {
		t.Errorf("got %v", err)
	}
}
