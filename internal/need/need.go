package need

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// TB is the part of testing.TB that is used here.
type TB interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Missing ends the test, for the reason given: something that it needs is not
// there. It is what the functions below end in, and serves for needs that only
// one test has.
func Missing(t TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("STRATA_CI") != "" {
		t.Fatalf("STRATA_CI is set, so nothing may be missing: %s", fmt.Sprintf(format, args...))
	}
	t.Skipf(format, args...)
}

// Root is needed to make devices, trusted xattrs, files of other owners, and
// mounts without a helper.
func Root(t TB) {
	t.Helper()
	if err := root(); err != nil {
		Missing(t, "needs root: %v", err)
	}
}

// Fuse is needed to mount through FUSE, as whoever runs the test.
func Fuse(t TB) {
	t.Helper()
	if err := fuse(); err != nil {
		Missing(t, "needs FUSE mounts: %v", err)
	}
}

// Overlayfs is needed to mount the kernel's own overlayfs. It includes Root.
func Overlayfs(t TB) {
	t.Helper()
	if err := overlayfs(); err != nil {
		Missing(t, "needs the kernel's overlayfs: %v", err)
	}
}

// Tool returns the path of a program that the test compares with or works
// through, such as umoci.
func Tool(t TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "needs the program %s: %v", name, err)
	}
	return path
}

// Images returns the folder of real images that STRATA_IMAGES names. With
// STRATA_CI=noimages they are the one thing that may be missing.
func Images(t TB) string {
	t.Helper()
	const reason = "needs real images: STRATA_IMAGES does not name a folder of them"
	dir := os.Getenv("STRATA_IMAGES")
	switch {
	case dir != "":
	case os.Getenv("STRATA_CI") == "noimages":
		t.Skipf(reason)
	default:
		Missing(t, reason)
	}
	return dir
}

// root and the other probes run once in a process: the answer does not change.
var root = sync.OnceValue(func() error {
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("this is user %d", uid)
	}
	// Root of a user namespace has all capabilities over nothing.
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	if f := strings.Fields(string(ids)); len(f) != 3 || f[2] != "4294967295" {
		return errors.New("this is root of a user namespace only")
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for _, c := range []struct {
		number uint
		name   string
	}{
		{unix.CAP_CHOWN, "CAP_CHOWN"},
		{unix.CAP_DAC_OVERRIDE, "CAP_DAC_OVERRIDE"},
		{unix.CAP_FOWNER, "CAP_FOWNER"},
		{unix.CAP_SETUID, "CAP_SETUID"},
		{unix.CAP_SETGID, "CAP_SETGID"},
		{unix.CAP_SETFCAP, "CAP_SETFCAP"},
		{unix.CAP_MKNOD, "CAP_MKNOD"},
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
	} {
		if data[c.number/32].Effective&(1<<(c.number%32)) == 0 {
			return fmt.Errorf("this root does not have %s", c.name)
		}
	}
	return nil
})

var fuse = sync.OnceValue(func() error {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	defer unix.Close(dev)
	var st unix.Stat_t
	if err := unix.Fstat(dev, &st); err != nil || st.Rdev != unix.Mkdev(10, 229) {
		return errors.New("/dev/fuse is not the device of that name")
	}
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("fusermount3"); err != nil {
			return fmt.Errorf("without root they are made by fusermount3: %w", err)
		}
		return nil
	}
	return create("fuse",
		"fd", fmt.Sprint(dev), "rootmode", "40000", "user_id", "0", "group_id", "0")
})

var overlayfs = sync.OnceValue(func() error {
	if err := root(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "strata-need-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			return err
		}
	}
	return create("overlay",
		"lowerdir", dir+"/lower", "upperdir", dir+"/upper", "workdir", dir+"/work")
})

// create makes a filesystem of the given type and options and lets go of it
// without having mounted it anywhere.
func create(fsType string, options ...string) error {
	fd, err := unix.Fsopen(fsType, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen %s: %w", fsType, err)
	}
	defer unix.Close(fd)
	for i := 0; i < len(options); i += 2 {
		if err := unix.FsconfigSetString(fd, options[i], options[i+1]); err != nil {
			return fmt.Errorf("%s: option %s: %w", fsType, options[i], err)
		}
	}
	if err := unix.FsconfigCreate(fd); err != nil {
		return fmt.Errorf("create a filesystem of type %s: %w", fsType, err)
	}
	return nil
}
