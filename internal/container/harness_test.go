package container

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"strata/internal/need"
	"strata/internal/oci"
	"strata/layerstore"
	"strata/testdata"
)

// serveForTest makes the test binary a mount process: ROOT RUN ID [DIR].
const serveForTest = "serve-for-test"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == serveForTest {
		if err := serveMain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == snapshotForTest {
		if err := snapshotMain(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")) // of mount processes, which are waited for
	os.Exit(m.Run())
}

func serveMain(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	store, err := layerstore.Open(args[0], layerstore.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	containers, err := Open(store, Options{RunBase: args[1]})
	if err != nil {
		return err
	}
	ct, err := containers.Find(args[2])
	if err != nil {
		return err
	}
	dir := ""
	if len(args) > 3 {
		dir = args[3]
	}
	o := DefaultMountOptions()
	o.Exits = true
	m, err := ct.Mount(ctx, dir, o)
	if err != nil {
		return Failed(err)
	}
	if err := Ready(m.Dir); err != nil {
		return err
	}
	return m.Serve(ctx)
}

// images of the tests: what the containers are made of.
const images = `
image base:1
layer one
dir . mode=0751 owner=3:4 xattr=user.color=blue
dir tmp mode=1777
file bin/prog mode=0755 size=5000
dir secret mode=0700
-- one/etc/motd --
hello
-- one/etc/gone --
to be removed
-- one/srv/a --
a
-- one/srv/sub/b --
b

`

// world is a store with the images loaded, and its containers.
type world struct {
	*Containers
	dir   string
	store *layerstore.Store
	image layerstore.Image
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Others must be able to walk to the mount points, so not t.TempDir.
	dir, err := os.MkdirTemp("", "strata-container-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leftovers(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	store, err := layerstore.Open(filepath.Join(dir, "store"), layerstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	w := &world{dir: dir, store: store}
	if w.Containers, err = Open(store, Options{RunBase: filepath.Join(dir, "run")}); err != nil {
		t.Fatal(err)
	}
	w.image = w.load(t, images)
	return w
}

// load loads the images that the text describes and returns the first.
func (w *world) load(t *testing.T, text string) layerstore.Image {
	t.Helper()
	list, err := testdata.Parse("images", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	layout := filepath.Join(t.TempDir(), "layout")
	if err := testdata.WriteLayout(layout, list); err != nil {
		t.Fatal(err)
	}
	archive, err := oci.OpenArchive(t.Context(), layout, oci.ArchiveOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	all, err := archive.Images()
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range all {
		if _, _, err := w.store.AddImage(t.Context(), img, layerstore.AddOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	image, err := w.store.Image(list[0].Ref)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func (w *world) create(t *testing.T, name string) *Container {
	t.Helper()
	ct, err := w.Create(t.Context(), w.image, CreateOptions{Name: name, Reference: "base:1"})
	if err != nil {
		t.Fatal(err)
	}
	return ct
}

// mount mounts from this process and unmounts when the test ends, if it is
// still mounted then.
func mount(t *testing.T, ct *Container, o MountOptions) *Mount {
	t.Helper()
	needFUSE(t)
	m, err := ct.Mount(t.Context(), "", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-m.done:
		default:
			if err := m.Unmount(); err != nil {
				t.Error(err)
			}
		}
	})
	return m
}

// detach mounts from a process of its own and returns the directory and the
// record.
func (w *world) detach(t *testing.T, ct *Container, dir ...string) (string, *Record) {
	t.Helper()
	needFUSE(t)
	log, err := ct.LogFile()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{serveForTest, w.store.Root(), filepath.Join(w.dir, "run"), string(ct.ID)}, dir...)
	at, logged, err := Detach(t.Context(), args, log)
	if err != nil {
		t.Fatal(err)
	}
	if logged != "" {
		t.Logf("the mount process says: %s", logged)
	}
	state, err := ct.State()
	if err != nil {
		t.Fatal(err)
	}
	if state.Status != Mounted || state.Record.Mountpoint != at {
		t.Fatalf("after mounting at %s the state is %+v", at, state)
	}
	t.Cleanup(func() {
		if state, err := ct.State(); err == nil && state.Status != Created {
			if err := ct.Unmount(context.Background(), UnmountOptions{}); err != nil {
				t.Error(err)
			}
		}
	})
	return at, state.Record
}

// needFUSE is for tests that mount, and look at what root and others see.
func needFUSE(t *testing.T) {
	t.Helper()
	need.Root(t)
	need.Fuse(t)
}

// leftovers fails the test if a mount below dir is left.
func leftovers(t *testing.T, dir string) {
	t.Helper()
	list, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if at := strings.Fields(line)[4]; within(at, dir) {
			t.Errorf("a mount is left behind at %s", at)
			syscall.Unmount(at, syscall.MNT_DETACH)
		}
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t *testing.T, file, want string) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	} else if string(got) != want {
		t.Errorf("%s holds %q, want %q", file, got, want)
	}
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", parts)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
}

// as runs a command as another user.
func as(uid uint32, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd.CombinedOutput()
}
