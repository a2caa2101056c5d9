package overlay

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strata/internal/histories"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

func wantBusy(t *testing.T, err error, path string, pid int) {
	t.Helper()
	var busy *BusyError
	if !errors.As(err, &busy) || !errors.Is(err, unix.EBUSY) {
		t.Fatalf("%v, want a BusyError", err)
	}
	if busy.Path != path || busy.PID != pid {
		t.Errorf("busy is %s by %d, want %s by %d", busy.Path, busy.PID, path, pid)
	}
}

func TestOpenBusy(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatKernel, shell(t, `echo f > f`))
	o := x.options()
	fds := openFDs(t)
	_, err := Open(o)
	wantBusy(t, err, x.upper, os.Getpid())
	other := o
	other.Upper = tempDir(t)
	_, err = Open(other)
	wantBusy(t, err, x.work, os.Getpid())
	if got := openFDs(t); got != fds {
		t.Errorf("%d descriptors, %d before", got, fds)
	}
	x.close()

	cmd := child("hold", x.layers[0], x.upper, x.work)
	stdin, err := cmd.StdinPipe()
	x.must(err)
	stdout, err := cmd.StdoutPipe()
	x.must(err)
	x.must(cmd.Start())
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "open\n" {
		t.Fatalf("the other process says %q, %v", line, err)
	}
	_, err = Open(o)
	wantBusy(t, err, x.upper, cmd.Process.Pid)
	if msg := err.Error(); !strings.Contains(msg, fmt.Sprint(cmd.Process.Pid)) || !strings.Contains(msg, x.upper) {
		t.Errorf("the message is %q", msg)
	}
	x.must(stdin.Close())
	x.must(cmd.Wait())
	x.open()
}

func TestOpenOtherLower(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		x := newFixture(t, format, shell(t, `echo f > f`))
		x.close()
		o := x.options()
		try := func(id string) error {
			o.LowerID = id
			f, err := Open(o)
			if err == nil {
				err = f.Close()
			}
			return err
		}
		// Bound to nothing until the first Open with an ID.
		x.must(try(""))
		x.must(try("sha256:one"))
		x.must(try("sha256:one"))
		fds := openFDs(t)
		for _, id := range []string{"sha256:two", ""} {
			err := try(id)
			if !errors.Is(err, ErrOtherLower) || !strings.Contains(err.Error(), "sha256:one") || !strings.Contains(err.Error(), x.upper) {
				t.Errorf("over %q: %v", id, err)
			}
		}
		if got := openFDs(t); got != fds {
			t.Errorf("%d descriptors, %d before", got, fds)
		}
		x.must(try("sha256:one"))
	})
}

func TestOpenRefuses(t *testing.T) {
	needRoot(t)
	lower, err := tree.OpenHostDir(shell(t, `echo f > f`), tree.HostDirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer lower.Close()
	top := tempDir(t)
	mkdir := func(name string) string {
		dir := filepath.Join(top, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	other := mkdir("mounted")
	if err := unix.Mount("tmpfs", other, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(other, 0)
	file := filepath.Join(top, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, upper, work string
		want              error  // if not nil
		says              string // part of the message
	}{
		{"same directory", mkdir("a"), mkdir("a"), unix.EINVAL, "/a"},
		{"same directory by another path", mkdir("b"), mkdir("b") + "/../b", unix.EINVAL, "/b"},
		{"work in upper", mkdir("i"), mkdir("i/w"), unix.EINVAL, "i/w"},
		{"upper far below work", mkdir("j/a/b/c"), mkdir("j"), unix.EINVAL, "a/b/c"},
		{"two filesystems", mkdir("c"), other, unix.EXDEV, other},
		{"no work", mkdir("d"), "", nil, "work"},
		{"no upper", "", mkdir("e"), nil, "upper"},
		{"upper missing", top + "/none", mkdir("f"), unix.ENOENT, top + "/none"},
		{"work missing", mkdir("g"), top + "/none", unix.ENOENT, top + "/none"},
		{"upper is a file", file, mkdir("h"), unix.ENOTDIR, file},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fds := openFDs(t)
			f, err := Open(Options{Lower: lower, Upper: tt.upper, Work: tt.work})
			if err == nil {
				f.Close()
				t.Fatal("it is opened")
			}
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v; want %v naming %q", err, tt.want, tt.says)
			}
			if got := openFDs(t); got != fds {
				t.Errorf("%d descriptors, %d before", got, fds)
			}
		})
	}
}

func TestOpenClearsWork(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		x := newFixture(t, format, shell(t, `echo f > f`))
		x.close()
		run(t, filepath.Join(x.work, "work"), `mkdir -p d/e; echo x > d/e/f; mknod d/e/w c 0 0; echo y > '#1'; ln -s / link; mknod w c 0 0; mkdir sealed; chmod 0 sealed`)
		x.open()
		entries, err := os.ReadDir(filepath.Join(x.work, "work"))
		if err != nil || len(entries) > 0 {
			t.Errorf("left are %v, %v", entries, err)
		}
		wantNames(t, "/", x.names(""), "f")
	})
}

// changes are all the calls that change something.
var changes = map[string]func(f *FS, file, dir ID) error{
	"Mkdir":   func(f *FS, _, dir ID) error { _, err := f.Mkdir(Caller{}, dir, "n", 0o755); return err },
	"Mknod":   func(f *FS, _, dir ID) error { _, err := f.Mknod(Caller{}, dir, "n", unix.S_IFIFO|0o600, 0); return err },
	"Symlink": func(f *FS, _, dir ID) error { _, err := f.Symlink(Caller{}, dir, "n", "x"); return err },
	"Create": func(f *FS, _, dir ID) error {
		_, _, err := f.Create(Caller{}, dir, "n", 0o600)
		return err
	},
	"Link":        func(f *FS, file, dir ID) error { _, err := f.Link(context.Background(), file, dir, "n"); return err },
	"Unlink":      func(f *FS, _, dir ID) error { return f.Unlink(dir, "in") },
	"Rmdir":       func(f *FS, _, _ ID) error { return f.Rmdir(Root, "empty") },
	"Rename":      func(f *FS, _, dir ID) error { return f.Rename(context.Background(), Root, "file", dir, "n", 0) },
	"Rename self": func(f *FS, _, _ ID) error { return f.Rename(context.Background(), Root, "file", Root, "file", 0) },
	"Setattr": func(f *FS, file, _ ID) error {
		m := uint32(0)
		_, err := f.Setattr(context.Background(), file, SetAttr{Mode: &m})
		return err
	},
	"Setattr of a directory": func(f *FS, _, dir ID) error {
		m := uint32(0)
		_, err := f.Setattr(context.Background(), dir, SetAttr{Mode: &m})
		return err
	},
	"Setxattr":           func(f *FS, file, _ ID) error { return f.Setxattr(context.Background(), file, "user.x", nil, 0) },
	"Removexattr":        func(f *FS, file, _ ID) error { return f.Removexattr(context.Background(), file, "user.have") },
	"Open for writing":   func(f *FS, file, _ ID) error { _, err := f.Open(context.Background(), file, unix.O_WRONLY); return err },
	"Open for both":      func(f *FS, file, _ ID) error { _, err := f.Open(context.Background(), file, unix.O_RDWR); return err },
	"Open with O_TRUNC":  func(f *FS, file, _ ID) error { _, err := f.Open(context.Background(), file, unix.O_TRUNC); return err },
	"Mkdir over a name":  func(f *FS, _, _ ID) error { _, err := f.Mkdir(Caller{}, Root, "born", 0o755); return err },
	"Unlink of an upper": func(f *FS, _, _ ID) error { return f.Unlink(Root, "born") },
}

func TestReadOnly(t *testing.T) {
	needRoot(t)
	lower := shell(t, `echo data > file; setfattr -n user.have -v 1 file; mkdir dir empty; echo in > dir/in`)
	guardLowers(t, lower)
	x := newFixture(t, FormatKernel, lower)
	x.must(x.create("born", "x"))
	want := x.dump()
	x.close()

	check := func(t *testing.T, want histories.Tree) {
		if !x.ReadOnly() {
			t.Error("ReadOnly is false")
		}
		file, dir := x.hold("file"), x.hold("dir")
		for name, change := range changes {
			wantErrno(t, name, change(x.FS, file.ID, dir.ID), unix.EROFS)
		}
		x.forget(file)
		x.forget(dir)
		compare(t, "read-only", want, x.dump(), true)
		if err := x.Sync(); err != nil {
			t.Errorf("Sync: %v", err)
		}
		if s, err := x.Statfs(); err != nil || s.Bsize == 0 || s.Namelen != 255 {
			t.Errorf("Statfs: %+v, %v", s, err)
		}
	}
	t.Run("asked for", func(t *testing.T) {
		o := x.options()
		o.ReadOnly = true
		f, err := Open(o)
		x.must(err)
		x.FS = f
		check(t, want)
		x.close()
	})
	t.Run("no upper", func(t *testing.T) {
		o := x.options()
		o.Upper, o.Work = "", ""
		f, err := Open(o)
		x.must(err)
		x.FS = f
		delete(want, "born")
		root := x.layers[0]
		for path, d := range dumpDir(t, root) {
			if path == "" {
				want[""] = d // the root is the lower's
			}
		}
		check(t, want)
		x.close()
	})
}

func TestPrepare(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		lower := shell(t, `echo f > f; chown 5:6 .; chmod 1771 .; setfattr -n user.root -v 1 .; setfattr -n trusted.overlay.x -v 1 .; touch -d '2001-02-03 04:05:06.789' .`)
		h, err := tree.OpenHostDir(lower, tree.HostDirOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		top := tempDir(t)
		o := Options{Lower: tree.Stack(h), LowerID: "sha256:one", Upper: top + "/upper", Work: top + "/work", Format: format}
		for range 2 { // the second time it is there already
			if err := Prepare(o); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		x := &fixture{t: t, FS: f}
		got := x.dump()[""]
		x.close()
		o.Upper, o.Work = "", ""
		if x.FS, err = Open(o); err != nil {
			t.Fatal(err)
		}
		want := x.dump()[""]
		if got.Line != want.Line || got.Mtime != want.Mtime || got.Atime != want.Atime {
			t.Errorf("the root is\n %s %v, want\n %s %v", got.Line, got.Mtime, want.Line, want.Mtime)
		}
		x.close()
		o.LowerID, o.Upper, o.Work = "sha256:two", top+"/upper", top+"/work"
		if err := Prepare(o); !errors.Is(err, ErrOtherLower) {
			t.Errorf("over another lower: %v", err)
		}
	})
}
