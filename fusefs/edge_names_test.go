package fusefs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// longName is a name as long as names may be, of bytes that are no UTF-8.
func longName(first string) string {
	return first + strings.Repeat("\xff", unix.NAME_MAX-len(first))
}

// Names of 255 bytes can be had, and whiteouts of them; longer ones cannot.
func TestLongNames(t *testing.T) {
	file, dir, link := longName("f"), longName("d"), longName("l")
	m := newMount(t, Options{}, func(lower string) {
		write(t, lower+"/"+file, "lower")
		if err := errors.Join(
			os.Mkdir(lower+"/"+dir, 0o755),
			os.Symlink(file, lower+"/"+link),
		); err != nil {
			t.Fatal(err)
		}
		write(t, lower+"/"+dir+"/"+file, "within")
	})
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	wantNames := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		if got := names(t, m.dir); !slices.Equal(got, want) {
			t.Errorf("there are %.9q, want %.9q", got, want)
		}
	}
	wantNames(file, dir, link)
	wantContent(t, m.path(link), "lower")
	wantContent(t, m.path(dir+"/"+file), "within")

	// Whiteouts of them.
	must(os.Remove(m.path(file)))
	must(os.Remove(m.path(link)))
	must(os.RemoveAll(m.path(dir)))
	wantNames()
	m = m.again()
	wantNames()
	for _, name := range []string{file, dir, link} {
		if _, err := os.Lstat(m.path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%.5q is there: %v", name, err)
		}
		if st := stat(t, filepath.Join(m.upper, name)); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			t.Errorf("%.5q is no whiteout in the upper", name)
		}
	}

	// And what comes in their place, of another kind.
	must(os.Mkdir(m.path(file), 0o755))
	write(t, m.path(dir), "a file")
	write(t, m.path(longName("r")), "renamed")
	must(os.Rename(m.path(longName("r")), m.path(link)))
	must(os.Link(m.path(dir), m.path(file+"/"+dir)))
	m = m.again()
	wantNames(file, dir, link)
	wantContent(t, m.path(file+"/"+dir), "a file")
	wantContent(t, m.path(link), "renamed")

	longer := m.path(longName("x") + "x")
	calls := map[string]error{
		"stat":    unix.Stat(longer, new(unix.Stat_t)),
		"mkdir":   unix.Mkdir(longer, 0o755),
		"mknod":   unix.Mknod(longer, unix.S_IFREG|0o644, 0),
		"symlink": unix.Symlink("x", longer),
		"link":    unix.Link(m.path(dir), longer),
		"rename":  unix.Rename(m.path(dir), longer),
		"unlink":  unix.Unlink(longer),
		"rmdir":   unix.Rmdir(longer),
	}
	for call, err := range calls {
		if err != unix.ENAMETOOLONG {
			t.Errorf("%s of a name of 256 bytes: %v, want ENAMETOOLONG", call, err)
		}
	}
	wantNames(file, dir, link)
}

// Paths of 4095 bytes lead to files of lower and upper. Where a directory of the
// lower lies too deep for a redirect, it cannot be renamed, nothing is half done,
// and mv(1) can copy.
func TestLongPaths(t *testing.T) {
	part := strings.Repeat("n", 250)
	const depth = 17 // 4267 bytes: no path leads there
	// descend makes directories below an open one, and returns the last.
	descend := func(t *testing.T, top string) int {
		t.Helper()
		at, err := unix.Open(top, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		for range depth {
			if err != nil {
				t.Fatal(err)
			}
			if err = unix.Mkdirat(at, part, 0o755); err == unix.EEXIST {
				err = nil
			}
			if err == nil {
				var next int
				next, err = unix.Openat(at, part, unix.O_DIRECTORY|unix.O_RDONLY, 0)
				unix.Close(at)
				at = next
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	m := newMount(t, Options{}, func(lower string) {
		at := descend(t, lower)
		defer unix.Close(at)
		here := "/proc/self/fd/" + strconv.Itoa(at)
		if err := os.Mkdir(here+"/dir", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, here+"/dir/file", "inside")
		write(t, here+"/file", "data")
	})
	for _, where := range []string{"lower", "upper"} {
		dir := m.dir
		for unix.PathMax-1-len(dir)-1 > unix.NAME_MAX {
			dir += "/" + part
		}
		if where == "upper" {
			dir = filepath.Dir(dir) + "/" + strings.Repeat("u", len(part))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		longest := dir + "/" + strings.Repeat("p", unix.PathMax-1-len(dir)-1)
		if len(longest) != 4095 {
			t.Fatal(len(longest))
		}
		write(t, longest, "found")
		wantContent(t, longest, "found")
		if _, err := os.Stat(longest + "p"); !errors.Is(err, unix.ENAMETOOLONG) {
			t.Errorf("%s: a path of 4096 bytes: %v", where, err)
		}
		if err := os.Remove(longest); err != nil {
			t.Error(err)
		}
	}

	check := func(m *mounted, want ...string) {
		t.Helper()
		at := descend(t, m.dir)
		defer unix.Close(at)
		here := "/proc/self/fd/" + strconv.Itoa(at)
		if got := names(t, here); !slices.Equal(got, want) {
			t.Errorf("deep down there are %q, want %q", got, want)
		}
		for _, name := range want {
			if file := here + "/" + name; name == "file" {
				wantContent(t, file, "data")
			} else {
				wantContent(t, file+"/file", "inside")
			}
		}
		left, err := os.ReadDir(filepath.Join(filepath.Dir(m.upper), "work", "work"))
		left = slices.DeleteFunc(left, func(e fs.DirEntry) bool { return e.Type()&fs.ModeCharDevice != 0 }) // the whiteout that others are links to
		if err != nil || len(left) != 0 {
			t.Errorf("left in the work directory: %v, %v", left, err)
		}
	}
	check(m, "dir", "file")
	at := descend(t, m.dir)
	for name, rename := range map[string]func() error{
		"in place": func() error { return unix.Renameat(at, "dir", at, "moved") },
		"upwards":  func() error { return unix.Renameat(at, "dir", unix.AT_FDCWD, m.path("moved")) },
		"exchange": func() error { return unix.Renameat2(at, "dir", at, "file", unix.RENAME_EXCHANGE) },
	} {
		if err := rename(); err != unix.EXDEV {
			t.Errorf("rename %s: %v, want EXDEV", name, err)
		}
	}
	unix.Close(at)
	check(m, "dir", "file")
	m = m.again()
	check(m, "dir", "file")

	at = descend(t, m.dir)
	shell(t, "/proc/self/fd/"+strconv.Itoa(at), "mv dir moved")
	unix.Close(at)
	check(m, "file", "moved")
	m = m.again()
	check(m, "file", "moved")
}
