package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"strata/layerstore"
	"strata/overlay"
)

func TestMountShowsTheImageAndKeepsWrites(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	m := mount(t, ct, DefaultMountOptions())
	wantFile(t, filepath.Join(m.Dir, "etc/motd"), "hello\n")
	write(t, filepath.Join(m.Dir, "etc/new"), "new")
	if err := os.Remove(filepath.Join(m.Dir, "etc/gone")); err != nil {
		t.Fatal(err)
	}
	if err := m.Unmount(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(m.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the default mount point after unmounting: %v", err)
	}
	m = mount(t, ct, DefaultMountOptions())
	wantFile(t, filepath.Join(m.Dir, "etc/new"), "new")
	if _, err := os.Stat(filepath.Join(m.Dir, "etc/gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was removed is back: %v", err)
	}
}

func TestMountIsVisibleForOtherUsers(t *testing.T) {
	w := newWorld(t)
	m := mount(t, w.create(t, "web"), DefaultMountOptions())
	if out, err := as(65534, "cat", filepath.Join(m.Dir, "etc/motd")); err != nil || string(out) != "hello\n" {
		t.Errorf("another user reads %q, %v", out, err)
	}
	if out, err := as(65534, "ls", filepath.Join(m.Dir, "secret")); err == nil {
		t.Errorf("another user sees a 0700 directory: %q", out)
	}
	if out, err := as(65534, "ls", w.store.Root()); err == nil {
		t.Errorf("another user sees the store: %q", out)
	}
	var o MountOptions
	alone := mount(t, w.create(t, "alone"), o)
	if out, err := as(65534, "cat", filepath.Join(alone.Dir, "etc/motd")); err == nil {
		t.Errorf("another user reads %q though allow_other is off", out)
	}
}

func TestReadOnlyMount(t *testing.T) {
	w := newWorld(t)
	o := DefaultMountOptions()
	if err := o.Set("ro"); err != nil {
		t.Fatal(err)
	}
	m := mount(t, w.create(t, "web"), o)
	if err := os.WriteFile(filepath.Join(m.Dir, "x"), nil, 0o644); !errors.Is(err, syscall.EROFS) {
		t.Errorf("write: %v, want EROFS", err)
	}
}

func TestSecondMountNamesTheHolder(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir, record := w.detach(t, ct)
	_, err := ct.Mount(t.Context(), "", DefaultMountOptions())
	wantError(t, err, "mount container web", dir, fmt.Sprint(record.PID))
	if mounted := (*MountedError)(nil); !errors.As(err, &mounted) || !errors.Is(err, syscall.EBUSY) {
		t.Errorf("%T is no *MountedError and EBUSY", err)
	}
	// Behind the container's back, as plain directories.
	p := Plain{Lower: LowerDirs{t.TempDir()}, Upper: ct.UpperDir(), Work: ct.WorkDir()}
	_, err = p.Mount(t.Context(), t.TempDir(), DefaultMountOptions(), Options{RunBase: filepath.Join(w.dir, "run")})
	if busy := (*overlay.BusyError)(nil); !errors.As(err, &busy) || busy.PID != record.PID {
		t.Errorf("mounting the upper once more: %v, want a *overlay.BusyError with pid %d", err, record.PID)
	}
}

func TestAnotherLowerIsRefused(t *testing.T) {
	w := newWorld(t)
	needFUSE(t)
	ct := w.create(t, "web")
	p := Plain{Lower: LowerDirs{t.TempDir()}, Upper: ct.UpperDir(), Work: ct.WorkDir()}
	_, err := p.Mount(t.Context(), t.TempDir(), DefaultMountOptions(), Options{RunBase: filepath.Join(w.dir, "run")})
	if !errors.Is(err, overlay.ErrOtherLower) {
		t.Errorf("a container's upper over plain directories: %v, want ErrOtherLower", err)
	}
	other := w.load(t, "image other:1\nlayer two\n-- two/f --\nx\n")
	config := ct.Config
	config.Layers = other.Layers
	if err := writeConfig(ct.dir, config); err != nil {
		t.Fatal(err)
	}
	if _, err := ct.Mount(t.Context(), "", DefaultMountOptions()); !errors.Is(err, overlay.ErrOtherLower) {
		t.Errorf("a container's upper over another chain: %v, want ErrOtherLower", err)
	}
}

func TestUmaskKeepsNobodyOut(t *testing.T) {
	w := newWorld(t)
	defer syscall.Umask(syscall.Umask(0o077))
	run := filepath.Join(w.dir, "new", "run")
	all, err := Open(w.store, Options{RunBase: run})
	if err != nil {
		t.Fatal(err)
	}
	w.Containers = all
	m := mount(t, w.create(t, "web"), DefaultMountOptions())
	if out, err := as(65534, "cat", filepath.Join(m.Dir, "etc/motd")); err != nil || string(out) != "hello\n" {
		t.Errorf("another user reads %q, %v", out, err)
	}
}

func TestDetachReportsTheChildsError(t *testing.T) {
	w := newWorld(t)
	needFUSE(t)
	ct := w.create(t, "web")
	log, err := ct.LogFile()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{serveForTest, w.store.Root(), filepath.Join(w.dir, "run"), string(ct.ID)}
	missing := filepath.Join(w.dir, "missing")
	_, _, err = Detach(t.Context(), append(args, missing), log)
	wantError(t, err, "mount container web", missing, "no such file")
	_, _, err = Detach(t.Context(), args[:3], log)
	wantError(t, err, "died before the mount was usable", "index out of range")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = Detach(canceled, args, log); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if state, err := ct.State(); err != nil || state.Status != Created {
		t.Errorf("state %+v, %v, want created", state, err)
	}
}

func TestContainersHoldTheirLayers(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	if _, err := w.store.RemoveImage(t.Context(), "base:1", true); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.GC(t.Context(), layerstore.GCOptions{}); err != nil {
		t.Fatal(err)
	}
	m := mount(t, ct, DefaultMountOptions())
	wantFile(t, filepath.Join(m.Dir, "etc/motd"), "hello\n")
}

func TestWritesOfOneContainerAreNotSeenInAnother(t *testing.T) {
	w := newWorld(t)
	a, b := mount(t, w.create(t, "aa"), DefaultMountOptions()), mount(t, w.create(t, "bb"), DefaultMountOptions())
	write(t, filepath.Join(a.Dir, "etc/motd"), "changed")
	wantFile(t, filepath.Join(a.Dir, "etc/motd"), "changed")
	wantFile(t, filepath.Join(b.Dir, "etc/motd"), "hello\n")
}

// eventually waits for something that is about to be true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within 5 s: %s", what)
}

func TestMountProcessKeepsNoDirectoryBusy(t *testing.T) {
	w := newWorld(t)
	_, record := w.detach(t, w.create(t, "web"))
	if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", record.PID)); err != nil || cwd != "/" {
		t.Errorf("the mount process works in %q, %v", cwd, err)
	}
	for _, fd := range []string{"0", "1", "2"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", record.PID, fd))
		if err != nil || link != "/dev/null" && !strings.HasSuffix(link, ".log") {
			t.Errorf("descriptor %s of the mount process is %s, %v", fd, link, err)
		}
	}
}

func TestChangesOfAMountedContainer(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	if list, err := ct.Changes(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("changes of a new container: %v, %v", list, err)
	}
	dir, _ := w.detach(t, ct)
	write(t, filepath.Join(dir, "etc/motd"), "changed")
	write(t, filepath.Join(dir, "etc/new"), "new")
	if err := os.Remove(filepath.Join(dir, "etc/gone")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "srv")); err != nil {
		t.Fatal(err)
	}
	list, err := ct.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, fmt.Sprintf("%s %s %d", c.Kind, c.Path, c.Size))
	}
	want := []string{"C /etc 0", "D /etc/gone 14", "C /etc/motd 7", "A /etc/new 3", "D /srv 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMountPointsOfAnyName(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	for _, name := range []string{"a blank", "new\nline", "cr\r", "\u00a0", "no\xffutf8", `back\slash`, "comma,colon:"} {
		dir := filepath.Join(w.dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		at, _ := w.detach(t, ct, dir)
		if at != dir {
			t.Errorf("mounted at %q, not at %q", at, dir)
		}
		if found, err := w.At(dir); err != nil || found == nil || found.ID != ct.ID {
			t.Errorf("at %q is %v, %v", dir, found, err)
		}
		if err := ct.Unmount(t.Context(), UnmountOptions{}); err != nil {
			t.Errorf("unmount %q: %v", dir, err)
		}
	}
}

func TestMountOverAnotherMountIsRefused(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	one, two := w.create(t, "one"), w.create(t, "two")
	_, record := w.detach(t, one, dir)
	refused := func() {
		t.Helper()
		_, err := two.Mount(t.Context(), dir, DefaultMountOptions())
		wantError(t, err, "mount container two", "another mount of strata is at "+dir)
		if !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%v is not EBUSY", err)
		}
		p := Plain{Lower: LowerDirs{t.TempDir()}}
		run := Options{RunBase: filepath.Join(w.dir, "run")}
		_, err = p.Mount(t.Context(), dir, DefaultMountOptions(), run)
		wantError(t, err, "another mount of strata is at "+dir)
	}
	refused()
	wantError(t, UnmountPlain(t.Context(), dir, UnmountOptions{}, filepath.Join(w.dir, "run")), dir+" is a mount of strata, but")
	if err := syscall.Kill(record.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return !record.Alive() })
	refused()
	if err := one.Unmount(t.Context(), UnmountOptions{}); err != nil {
		t.Fatal(err)
	}
	w.detach(t, two, dir)
}

func TestMountProcessGetsNoOtherDescriptors(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	file, err := os.Create(filepath.Join(w.dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd, err := syscall.Dup(int(file.Fd())) // as a shell hands it down: not close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	_, record := w.detach(t, ct)
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", record.PID))
	if err != nil || len(fds) == 0 {
		t.Fatalf("descriptors of the mount process: %v, %v", fds, err)
	}
	for _, e := range fds {
		if link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", record.PID, e.Name())); err == nil && link == file.Name() {
			t.Errorf("the mount process has descriptor %s, %s", e.Name(), link)
		}
	}
}
