package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/need"
)

// plainMount is a mount of plain directories by strata overlay.
type plainMount struct {
	*testing.T
	dir     string // holds lower, upper, work, merged
	options string // that come after the directories
}

func newPlainMount(t *testing.T, lower string) *plainMount {
	t.Helper()
	base, err := os.MkdirTemp("", "strata-test-plain-*") // without the commas of the test's name
	if err != nil {
		t.Fatal(err)
	}
	m := &plainMount{T: t, dir: base}
	t.Cleanup(func() {
		clearMounts(t, m.dir)
		if err := os.RemoveAll(m.dir); err != nil {
			t.Error(err)
		}
	})
	for _, dir := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(m.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/bin/sh", "-ec", lower)
	cmd.Dir = filepath.Join(m.dir, "lower")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", lower, err, out)
	}
	return m
}

// strata runs the command.
func (m *plainMount) strata(args ...string) {
	m.Helper()
	exe, err := os.Executable()
	if err != nil {
		m.Fatal(err)
	}
	cmd := &exec.Cmd{Path: exe, Args: append([]string{"strata", "--run", filepath.Join(m.dir, "run"),
		"--root", filepath.Join(m.dir, "store")}, args...)}
	if out, err := cmd.CombinedOutput(); err != nil {
		m.Fatalf("strata %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// with runs the body while the directories are mounted; names are relative to
// the mount.
func (m *plainMount) with(body func(at func(name string) string)) {
	m.Helper()
	merged := filepath.Join(m.dir, "merged")
	m.strata("overlay", "-o", fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work%s", m.dir, m.dir, m.dir, m.options), merged)
	defer m.strata("umount", merged)
	body(func(name string) string { return filepath.Join(merged, name) })
}

func (m *plainMount) wantErrno(what string, err error, want syscall.Errno) {
	m.Helper()
	if !errors.Is(err, want) {
		m.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (m *plainMount) stat(name string) unix.Stat_t {
	m.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		m.Fatal(err)
	}
	return st
}

// readmeDifferences are the rows of the README's table, by their first column, and
// what shows that they are true.
var readmeDifferences = map[string]func(*testing.T){
	"rename of a directory that a layer has": func(t *testing.T) {
		m := newPlainMount(t, "mkdir d; echo x > d/f")
		m.with(func(at func(string) string) {
			if err := os.Rename(at("d"), at("e")); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(at("e/f")); err != nil || string(got) != "x\n" {
				t.Errorf("e/f is %q (%v)", got, err)
			}
			if _, err := os.Lstat(filepath.Join(m.dir, "upper/e/f")); err == nil {
				t.Error("what is in the directory was copied to the upper")
			}
		})
	},
	"chmod, chown or rename of a big file of a layer": func(t *testing.T) {
		m := newPlainMount(t, "head -c 1M /dev/urandom > f")
		m.with(func(at func(string) string) {
			if err := os.Chmod(at("f"), 0o600); err != nil {
				t.Fatal(err)
			}
			if st := m.stat(filepath.Join(m.dir, "upper/f")); st.Blocks*512 >= 1<<20 {
				t.Errorf("the upper has %d blocks of a file of 1 MiB: it was copied", st.Blocks)
			}
		})
	},
	"hard links of a layer, after the first change": func(t *testing.T) {
		m := newPlainMount(t, "echo old > a; ln a b")
		var ino uint64
		m.with(func(at func(string) string) {
			ino = m.stat(at("b")).Ino
			if err := os.WriteFile(at("a"), []byte("new"), 0); err != nil {
				t.Fatal(err)
			}
		})
		m.with(func(at func(string) string) { // a remount
			got, err := os.ReadFile(at("b"))
			if st := m.stat(at("b")); string(got) != "new" || st.Nlink != 2 || st.Ino != ino || m.stat(at("a")).Ino != ino {
				t.Errorf("the other name is %q (%v) with %d links and number %d, which was %d", got, err, st.Nlink, st.Ino, ino)
			}
		})
	},
	"number of layers": func(t *testing.T) {
		m := newPlainMount(t, "")
		var lowers []string
		for i := range 600 {
			dir := filepath.Join(m.dir, fmt.Sprint("l", i))
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, fmt.Sprint("f", i)), nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			lowers = append(lowers, dir)
		}
		merged := filepath.Join(m.dir, "merged")
		m.strata("overlay", "-o", "lowerdir="+strings.Join(lowers, ":"), merged)
		defer m.strata("umount", merged)
		if entries, err := os.ReadDir(merged); err != nil || len(entries) != len(lowers) {
			t.Errorf("%d names of %d layers are seen: %v", len(entries), len(lowers), err)
		}
	},
	"reading a file that was open before its first change": func(t *testing.T) {
		for options, want := range map[string]string{"": "old", ",coherent": "new"} {
			m := newPlainMount(t, "printf old > f")
			m.options = options
			m.with(func(at func(string) string) {
				f, err := os.Open(at("f"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if err := os.WriteFile(at("f"), []byte("new"), 0); err != nil {
					t.Fatal(err)
				}
				var got [3]byte
				if _, err := f.ReadAt(got[:], 0); err != nil {
					t.Fatal(err)
				}
				if want == "old" && string(got[:]) == "new" && !passthroughKernel(t) {
					return
				}
				if string(got[:]) != want {
					t.Errorf("with options %q, %q is read, want %q", options, got, want)
				}
			})
		}
	},
	"POSIX lock taken through a file opened only to read, or only to write": func(t *testing.T) {
		m := newPlainMount(t, "echo x > f")
		m.with(func(at func(string) string) {
			fcntl := func(f *os.File, cmd int, kind int16) error {
				return unix.FcntlFlock(f.Fd(), cmd, &unix.Flock_t{Type: kind})
			}
			for _, want := range []error{unix.EAGAIN, nil} { // before it was ever locked, and later
				f, err := os.Open(at("f"))
				if err != nil {
					t.Fatal(err)
				}
				if err := fcntl(f, unix.F_SETLK, unix.F_RDLCK); err != nil {
					t.Fatal(err)
				}
				second, err := unix.Dup(int(f.Fd()))
				if err != nil {
					t.Fatal(err)
				}
				unix.Close(second)
				other, err := os.OpenFile(at("f"), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := fcntl(other, unix.F_OFD_SETLK, unix.F_WRLCK); err != want {
					t.Errorf("with the second descriptor closed, another lock: %v, want %v", err, want)
				}
				f.Close()
				if err := fcntl(other, unix.F_OFD_SETLK, unix.F_WRLCK); err != nil {
					t.Errorf("with both closed, another lock: %v", err)
				}
				other.Close()
			}
		})
	},
	"locks in /proc/locks and `lslocks`": func(t *testing.T) {
		m := newPlainMount(t, "echo x > f")
		m.with(func(at func(string) string) {
			f, err := os.Open(at("f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			listed, err := os.ReadFile("/proc/locks")
			if ino := fmt.Sprintf(":%d 0 EOF", m.stat(at("f")).Ino); err != nil || strings.Contains(string(listed), ino) {
				t.Errorf("a lock is listed (%v):\n%s", err, listed)
			}
		})
	},
	"device nodes": func(t *testing.T) {
		m := newPlainMount(t, "mknod null c 1 3")
		m.with(func(at func(string) string) {
			_, err := os.Open(at("null"))
			m.wantErrno("open", err, unix.EACCES)
		})
	},
	"FICLONE, collapse and insert of fallocate": func(t *testing.T) {
		m := newPlainMount(t, "head -c 64K /dev/zero > f")
		m.with(func(at func(string) string) {
			f, err := os.OpenFile(at("f"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			g, err := os.Create(at("g"))
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			m.wantErrno("FICLONE", unix.IoctlFileClone(int(g.Fd()), int(f.Fd())), unix.EOPNOTSUPP)
			m.wantErrno("collapse", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_COLLAPSE_RANGE, 4096, 4096), unix.EOPNOTSUPP)
			m.wantErrno("insert", unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_INSERT_RANGE, 4096, 4096), unix.EOPNOTSUPP)
			if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4096, 4096); err != nil {
				t.Errorf("punch a hole: %v", err)
			}
		})
	},
	"lsattr, chattr and other ioctls; filefrag": func(t *testing.T) {
		m := newPlainMount(t, "echo x > f")
		m.with(func(at func(string) string) {
			f, err := os.OpenFile(at("f"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			_, err = unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
			m.wantErrno("FS_IOC_GETFLAGS", err, unix.ENOTTY)
			m.wantErrno("FS_IOC_SETFLAGS", unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0), unix.ENOTTY)
			const fiemap = 0xc020660b
			_, err = unix.IoctlGetInt(int(f.Fd()), fiemap)
			m.wantErrno("FS_IOC_FIEMAP", err, unix.EOPNOTSUPP)
		})
	},
	"atime, when a file is read": func(t *testing.T) {
		// Older than mtime, or relatime would leave it.
		m := newPlainMount(t, "for f in untouched chmod written; do echo x > $f; touch -a -d @1 $f; done")
		m.with(func(at func(string) string) {
			if err := errors.Join(os.Chmod(at("chmod"), 0o600), os.WriteFile(at("written"), []byte("y"), 0)); err != nil {
				t.Fatal(err)
			}
			for name, moves := range map[string]bool{"untouched": false, "chmod": false, "written": true} {
				if _, err := os.ReadFile(at(name)); err != nil {
					t.Fatal(err)
				}
				if st := m.stat(at(name)); (st.Atim.Sec != 1) != moves {
					t.Errorf("%s was read, and its atime is %v", name, st.Atim)
				}
			}
		})
	},
	"uppers made without root": func(t *testing.T) {
		m := newPlainMount(t, "echo x > f")
		m.options = ",userxattr"
		m.with(func(at func(string) string) {
			if err := errors.Join(os.Symlink("target", at("l")), os.Chown(at("f"), 7, 8)); err != nil {
				t.Fatal(err)
			}
		})
		for _, name := range []string{"l", "f"} {
			file := filepath.Join(m.dir, "upper", name)
			x, err := xattrsOf(file)
			if st := m.stat(file); st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 || x["user.containers.override_stat"] == "" {
				t.Errorf("in the upper, %s has mode %o, owner %d and xattrs %v (%v)", name, st.Mode, st.Uid, x, err)
			}
		}
	},
}

// passthroughKernel tells whether the kernel has FUSE passthrough: since 6.9.
func passthroughKernel(t *testing.T) bool {
	t.Helper()
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(release), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	return major > 6 || major == 6 && minor >= 9
}

// Each row of the README's table of differences is true today.
func TestReadmeDifferences(t *testing.T) {
	need.Root(t)
	need.Fuse(t)
	data, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(data), "\n## Differences")
	if !found {
		t.Fatal("the README has no section on differences")
	}
	rows := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, " | ")
		matter := strings.TrimPrefix(cells[0], "| ")
		if len(cells) != 3 || matter == "Matter" {
			continue
		}
		rows++
		check := readmeDifferences[matter]
		if check == nil {
			t.Errorf("nothing shows that the row %q is true", matter)
			continue
		}
		t.Run(matter, check)
	}
	if rows != len(readmeDifferences) {
		t.Errorf("the README has %d rows, and %d are checked", rows, len(readmeDifferences))
	}
}
