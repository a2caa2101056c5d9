package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"strata/internal/need"
	"strata/overlay"
)

func TestParsePlain(t *testing.T) {
	for _, c := range []struct {
		name  string
		lists []string
		lower LowerDirs
		upper string
		work  string
	}{
		{"one lower", []string{"lowerdir=/a"}, LowerDirs{"/a"}, "", ""},
		{"topmost first", []string{"lowerdir=/a:/b:/c,upperdir=/u,workdir=/w"}, LowerDirs{"/a", "/b", "/c"}, "/u", "/w"},
		{"several -o", []string{"lowerdir=/a", "upperdir=/u", "workdir=/w"}, LowerDirs{"/a"}, "/u", "/w"},
		{"escaped colon", []string{`lowerdir=/a\:b:/c`}, LowerDirs{"/a:b", "/c"}, "", ""},
		{"escaped comma", []string{`lowerdir=/a\,b:/c,ro`}, LowerDirs{"/a,b", "/c"}, "", ""},
		{"escaped backslash", []string{`lowerdir=/a\\:/c`}, LowerDirs{`/a\`, "/c"}, "", ""},
		{"escapes in upperdir", []string{`lowerdir=/a,upperdir=/u\,1,workdir=/w\:2`}, LowerDirs{"/a"}, "/u,1", "/w:2"},
		{"colon in upperdir", []string{`lowerdir=/a,upperdir=/u:1,workdir=/w`}, LowerDirs{"/a"}, "/u:1", "/w"},
		{"lowerdir+", []string{"lowerdir+=/a:1,lowerdir+=/b"}, LowerDirs{"/a:1", "/b"}, "", ""},
		{"from mount(8)", []string{"rw,relatime,noauto,x-systemd.automount,lowerdir=/a"}, LowerDirs{"/a"}, "", ""},
		{"equals in a name", []string{"lowerdir=/a=b"}, LowerDirs{"/a=b"}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _, err := ParsePlain(c.lists)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(p.Lower, c.lower) || p.Upper != c.upper || p.Work != c.work {
				t.Errorf("got %+v", p)
			}
		})
	}
}

func TestParsePlainRefuses(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"", "lowerdir=TOP:...:BASE"},
		{"lowerdir=", "wants a directory"},
		{"lowerdir=/a::/b", "empty directory name"},
		{"lowerdir=/a:", "empty directory name"},
		{"lowerdir=/a,upperdir=/u", "an upperdir needs"},
		{"lowerdir=/a,workdir=/w", "useless without an upperdir"},
		{"lowerdir=/a,nfs_export=on", "strata does not have"},
		{"lowerdir=/a,redirect_dir=maybe", "strata does not have"},
		{"lowerdir=/a,userxattr=1", "strata does not have"},
		{"lowerdir=/a,frob", "is not known; known are ro, rw, coherent"},
	} {
		t.Run(c.options, func(t *testing.T) {
			_, _, err := ParsePlain([]string{c.options})
			wantError(t, err, c.want)
			if option := (*OptionError)(nil); !errors.As(err, &option) {
				t.Errorf("%T is no *OptionError", err)
			}
		})
	}
}

func TestLowerDirsString(t *testing.T) {
	dirs := LowerDirs{`/a:1,2\`, "/b"}
	p, _, err := ParsePlain([]string{dirs.String()})
	if err != nil || !slices.Equal(p.Lower, dirs) {
		t.Errorf("%s is read as %q, %v", dirs, p.Lower, err)
	}
	if got := TopmostFirst([]string{"base", "top"}); got[0] != "top" {
		t.Errorf("topmost first: %q", got)
	}
}

func TestParseMountOptions(t *testing.T) {
	o, err := ParseMountOptions([]string{"ro,coherent", "observe,,nopassthrough,nosuid,noallow_other,noatime"})
	if err != nil {
		t.Fatal(err)
	}
	if !o.ReadOnly || !o.Coherent || !o.Observe || !o.NoPassthrough || !o.NoSUID || o.AllowOther {
		t.Errorf("got %+v", o)
	}
	_, err = ParseMountOptions([]string{"ro,lowerdir=/x"})
	wantError(t, err, `mount option "lowerdir=/x"`, "known are")
}

// TestPlainMountOptions mounts as others would with the kernel's overlayfs and looks
// what became of it.
func TestPlainMountOptions(t *testing.T) {
	needFUSE(t)
	need.Root(t) // to execute what the mount holds, and for devices
	for _, c := range []struct {
		name    string
		options string
		script  string // run in the mount, $upper is the upper
		want    string
	}{
		{"what is always so", "xino=auto,index=on,redirect_dir=on,metacopy=on", "mv d e && ls e && chmod 600 g && stat -c %b $upper/g", "h\n0\n"},
		{"as little as the kernel", "redirect_dir=off,metacopy=off", "chmod 600 g && test $(stat -c %b $upper/g) -gt 0 && echo copied; mv -T d e && test -e $upper/e/h && echo moved by copying", "copied\nmoved by copying\n"},
		{"no programs", "noexec", "./run 2>/dev/null || echo refused", "refused\n"},
		{"programs", "", "./run", "ran\n"},
		{"no devices", "", "mknod null c 1 3; cat null 2>/dev/null || echo nodev", "nodev\n"},
		{"devices", "dev", "mknod null c 1 3; cat null && echo dev", "dev\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dirs, mnt := plainDirs(t)
			base := dirs.Lower[1]
			if err := os.Mkdir(filepath.Join(base, "d"), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(base, "d", "h"), "h")
			write(t, filepath.Join(base, "run"), "#!/bin/sh\necho ran\n")
			if err := os.Chmod(filepath.Join(base, "run"), 0o755); err != nil {
				t.Fatal(err)
			}
			list := fmt.Sprintf("lowerdir=%s:%s,upperdir=%s,workdir=%s,%s", dirs.Lower[0], base, dirs.Upper, dirs.Work, c.options)
			p, o, err := ParsePlain([]string{list})
			if err != nil {
				t.Fatal(err)
			}
			run := t.TempDir()
			m, err := p.Mount(t.Context(), mnt, o, Options{RunBase: run})
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("sh", "-c", c.script)
			cmd.Dir, cmd.Env = mnt, append(os.Environ(), "upper="+dirs.Upper)
			out, err := cmd.CombinedOutput()
			if string(out) != c.want {
				t.Errorf("%s: %q (%v), want %q", c.script, out, err, c.want)
			}
			if err := m.Unmount(); err != nil {
				t.Error(err)
			}
		})
	}
}

// plainDirs makes the directories of an overlay of two lowers.
func plainDirs(t *testing.T) (p Plain, mnt string) {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"top", "base", "upper", "work", "mnt"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { leftovers(t, dir) })
	write(t, filepath.Join(dir, "top", "f"), "top")
	write(t, filepath.Join(dir, "base", "f"), "base")
	write(t, filepath.Join(dir, "base", "g"), "base")
	return Plain{
		Lower: LowerDirs{filepath.Join(dir, "top"), filepath.Join(dir, "base")},
		Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work"),
	}, filepath.Join(dir, "mnt")
}

func TestPlainMount(t *testing.T) {
	needFUSE(t)
	p, mnt := plainDirs(t)
	run := t.TempDir()
	if err := os.Chmod(run, 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := p.Mount(t.Context(), mnt, DefaultMountOptions(), Options{RunBase: run})
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(mnt, "f"), "top")
	wantFile(t, filepath.Join(mnt, "g"), "base")
	write(t, filepath.Join(mnt, "g"), "changed")
	if err := UnmountPlain(t.Context(), mnt, UnmountOptions{}, run); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
	wantFile(t, filepath.Join(p.Upper, "g"), "changed")
	wantFile(t, filepath.Join(p.Lower[1], "g"), "base")
	wantError(t, UnmountPlain(t.Context(), mnt, UnmountOptions{}, run), "is no mount of strata")
}

// fromHere is the relative name of dir.
func fromHere(t *testing.T, dir string) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(here, dir)
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

func TestPlainMountRefuses(t *testing.T) {
	needFUSE(t)
	for _, c := range []struct {
		name string
		set  func(*Plain)
		want string
	}{
		{"missing lower", func(p *Plain) { p.Lower[0] += "x" }, "no such file"},
		{"lower is a file", func(p *Plain) { p.Lower[0] += "/f" }, "is not a directory"},
		{"missing upper", func(p *Plain) { p.Upper += "x" }, "no such file"},
		{"upper is a lower", func(p *Plain) { p.Upper = p.Lower[1] }, "contain each other"},
		{"upper below a lower", func(p *Plain) { p.Lower[1] = filepath.Dir(p.Upper) }, "contain each other"},
		{"upper below a lower that is named from here", func(p *Plain) { p.Lower[1] = fromHere(t, filepath.Dir(p.Upper)) }, "contain each other"},
		{"upper named from here below a lower", func(p *Plain) {
			p.Lower[1] = filepath.Dir(p.Upper)
			p.Upper, p.Work = fromHere(t, p.Upper), fromHere(t, p.Work)
		}, "contain each other"},
		{"work is upper", func(p *Plain) { p.Work = p.Upper }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, mnt := plainDirs(t)
			c.set(&p)
			m, err := p.Mount(t.Context(), mnt, DefaultMountOptions(), Options{RunBase: filepath.Join(t.TempDir(), "run")})
			if err == nil {
				m.Unmount()
			}
			wantError(t, err, "mount at "+mnt, c.want)
		})
	}
}

func TestPlainUserFormat(t *testing.T) {
	needFUSE(t)
	p, mnt := plainDirs(t)
	p.Format = overlay.FormatUser
	m, err := p.Mount(t.Context(), mnt, DefaultMountOptions(), Options{RunBase: filepath.Join(t.TempDir(), "run")})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(mnt, "f"), 12, 34); err != nil {
		t.Error(err)
	}
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(p.Upper, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if owner := int(info.Sys().(*syscall.Stat_t).Uid); owner != os.Geteuid() {
		t.Errorf("the file in the upper belongs to %d", owner)
	}
}

// umount(8) does not wait for the process that served the mount, and scripts mount
// again at once: the same upper elsewhere, or another upper at the same place.
func TestMountingAgainWaitsForTheMountThatEnds(t *testing.T) {
	needFUSE(t)
	run := Options{RunBase: filepath.Join(t.TempDir(), "run")}
	p, mnt := plainDirs(t)
	other, elsewhere := plainDirs(t)
	var before *Mount
	for i := range 20 {
		next, at := p, mnt
		switch i % 4 {
		case 1:
			next = other
		case 2:
			next, at = other, elsewhere
		}
		m, err := next.Mount(t.Context(), at, DefaultMountOptions(), run)
		if err != nil {
			t.Fatalf("mount %d: %v", i, err)
		}
		write(t, filepath.Join(at, "big"), strings.Repeat("x", 4<<20))
		if err := unix.Unmount(at, 0); err != nil {
			t.Fatal(err)
		}
		if before != nil {
			if err := before.Wait(); err != nil {
				t.Errorf("mount %d ended with %v", i-1, err)
			}
		}
		before = m
	}
	if err := before.Wait(); err != nil {
		t.Error(err)
	}
}

// Likewise for containers.
func TestMountingAContainerAgainAfterUmount8(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	for i := range 10 {
		if err := ct.CheckUnmounted(); err != nil {
			t.Fatalf("before mount %d: %v", i, err)
		}
		m := mount(t, ct, DefaultMountOptions())
		write(t, filepath.Join(m.Dir, "big"), strings.Repeat("x", 4<<20))
		if err := unix.Unmount(m.Dir, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPlainMountTwiceAtOneDirectory(t *testing.T) {
	needFUSE(t)
	p, mnt := plainDirs(t)
	o := Options{RunBase: filepath.Join(filepath.Dir(mnt), "run")}
	m, err := p.Mount(t.Context(), mnt, DefaultMountOptions(), o)
	if err != nil {
		t.Fatal(err)
	}
	second := Plain{Lower: p.Lower}
	_, err = second.Mount(t.Context(), mnt, DefaultMountOptions(), o)
	wantError(t, err, "another mount of strata is at "+mnt)
	// The first one's record must have outlived that.
	if err := UnmountPlain(t.Context(), mnt, UnmountOptions{}, o.RunBase); err != nil {
		t.Error(err)
		m.Unmount()
	}
}
