package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/container"
)

// kernelOverlay is the kernel's own overlayfs.
type kernelOverlay struct {
	name, about string
	options     string // as for mount(8)
}

func (k *kernelOverlay) Name() string    { return k.name }
func (k *kernelOverlay) About() string   { return k.about + " (" + k.options + ")" }
func (k *kernelOverlay) Version() string { return "" }

func (k *kernelOverlay) Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	return nil
}

func (k *kernelOverlay) Mount(ctx context.Context, p Place) (*View, error) {
	upper, work, merged, err := p.uppers()
	if err != nil {
		return nil, err
	}
	options := ",upperdir=" + upper + ",workdir=" + work + "," + k.options
	mount := func() error { return unix.Mount("overlay", merged, "overlay", 0, p.Lower.String()+options) }
	const page = 4096 // mount(2) takes no more
	if len(p.Lower.String()+options) >= page {
		mount = func() error { return mountLayers(merged, p.Lower, options) }
	}
	start := time.Now()
	if err := mount(); err != nil {
		return nil, &os.PathError{Op: "mount overlayfs", Path: merged, Err: err}
	}
	return &View{Dir: merged, Took: time.Since(start), close: func() error { return unmount(merged) }}, nil
}

// mountLayers mounts any number of layers, each given by itself, as Linux takes
// them since 6.8.
func mountLayers(dir string, lower container.LowerDirs, options string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	for _, layer := range lower {
		if err := unix.FsconfigSetString(fs, "lowerdir+", layer); err != nil {
			return fmt.Errorf("lowerdir+=%s: %w", layer, err)
		}
	}
	for option := range strings.SplitSeq(strings.Trim(options, ","), ",") {
		key, value, _ := strings.Cut(option, "=")
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return fmt.Errorf("%s: %w", option, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("fsmount: %w", err)
	}
	defer unix.Close(mnt)
	return unix.MoveMount(mnt, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH)
}
