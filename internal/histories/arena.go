package histories

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Arena is a directory in which the worlds of one history are made:
//
//	layer0 layer1 ...   the lowers, base first
//	plain               a copy of what they merge to, as the kernel's overlayfs sees it
//	kernel              the kernel's overlayfs over the lowers, with
//	kupper, kwork       its upper
//	upper, work         for ours, which may be mounted at
//	merged
//	none, view          empty, for mounts
type Arena struct {
	Top    string
	Layers []string // base first
	before []Tree   // what is in them
}

// NewArena makes all but the mount of the kernel below top, which exists.
func NewArena(top string, lowers Lowers) (*Arena, error) {
	layers, err := lowers.Make(top)
	if err != nil {
		return nil, err
	}
	a := &Arena{Top: top, Layers: layers}
	for _, dir := range []string{"none", "view", "plain", "kernel", "kupper", "kwork", "upper", "work", "merged"} {
		if err := os.Mkdir(a.Dir(dir), 0o755); err != nil {
			return nil, err
		}
	}
	for _, dir := range layers {
		t, err := ReadTree(dir)
		if err != nil {
			return nil, err
		}
		a.before = append(a.before, t)
	}
	// Of two that are mounted over each other, the upper's root is what is seen.
	root := a.before[len(layers)-1][""]
	for _, dir := range []string{"upper", "kupper"} {
		err := errors.Join(unix.Chmod(a.Dir(dir), root.Mode&0o7777), age(a.Dir(dir)))
		if err != nil {
			return nil, err
		}
	}
	return a, a.copyPlain()
}

// Dir is the path of a part of the arena.
func (a *Arena) Dir(name string) string { return filepath.Join(a.Top, name) }

// lowerDirs is for the mount option, topmost first; one more than there are, for
// overlayfs wants two where it has no upper.
func (a *Arena) lowerDirs() string {
	dirs := slices.Clone(a.Layers)
	slices.Reverse(dirs)
	return "lowerdir=" + strings.Join(append(dirs, a.Dir("none")), ":")
}

func (a *Arena) copyPlain() error {
	if err := unix.Mount("overlay", a.Dir("view"), "overlay", unix.MS_RDONLY, a.lowerDirs()); err != nil {
		return fmt.Errorf("mount overlay -o %s: %w", a.lowerDirs(), err)
	}
	out, err := exec.Command("cp", "-a", a.Dir("view")+"/.", a.Dir("plain")).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("cp: %w\n%s", err, out)
	}
	return errors.Join(err, unmount(a.Dir("view")))
}

// MountKernel mounts the kernel's world. An index keeps hard links of the lowers
// together, as a plain directory and we do; we do not read one that the kernel wrote.
func (a *Arena) MountKernel(index bool) error {
	return a.mount(a.Dir("kernel"), "kupper", "kwork", map[bool]string{true: "index=on", false: "index=off"}[index])
}

// UnmountKernel ends it.
func (a *Arena) UnmountKernel() error { return unmount(a.Dir("kernel")) }

func (a *Arena) mount(at, upper, work, more string) error {
	o := fmt.Sprintf("%s,upperdir=%s,workdir=%s,redirect_dir=on,metacopy=on,%s", a.lowerDirs(), a.Dir(upper), a.Dir(work), more)
	if err := unix.Mount("overlay", at, "overlay", 0, o); err != nil {
		return fmt.Errorf("mount overlay -o %s: %w", o, err)
	}
	return nil
}

// unmount never leaves a mount: what removes the arena would reach into it.
func unmount(dir string) error {
	err := WhileBusy(func() error { return unix.Unmount(dir, 0) })
	if err == nil {
		return nil
	}
	unix.Unmount(dir, unix.MNT_DETACH)
	return fmt.Errorf("unmount %s: %w", dir, err)
}

// WhileBusy tries for two seconds: some other process of the machine may be looking
// into all mounts just now.
func WhileBusy(unmount func() error) error {
	for range 100 {
		if err := unmount(); !errors.Is(err, unix.EBUSY) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return unmount()
}

// KernelsView is what the kernel's overlayfs makes of an upper over the lowers.
func (a *Arena) KernelsView(upper, work string) (Tree, error) {
	if err := a.mount(a.Dir("view"), upper, work, "index=off"); err != nil {
		return nil, err
	}
	t, err := ReadTree(a.Dir("view"))
	return t, errors.Join(err, unmount(a.Dir("view")))
}

// CheckLowers tells what was changed in the lowers.
func (a *Arena) CheckLowers() (wrong []string) {
	for i, dir := range a.Layers {
		after, err := ReadTree(dir)
		if err != nil {
			return append(wrong, err.Error())
		}
		wrong = append(wrong, Compare("lower "+layerName(i), a.before[i], after, SameTime)...)
		for path, b := range a.before[i] {
			if after[path].Ctime != b.Ctime {
				wrong = append(wrong, fmt.Sprintf("lower %s: %q was changed", layerName(i), path))
			}
		}
	}
	return wrong
}

// Remove unmounts what is still mounted and removes everything.
func (a *Arena) Remove() error {
	for _, dir := range []string{"kernel", "view", "merged"} {
		unix.Unmount(a.Dir(dir), unix.MNT_DETACH) // EINVAL if it is not mounted
	}
	return os.RemoveAll(a.Top)
}
