package histories

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Memory is a tmpfs on which worlds are made: what is copied up waits for a disk, and
// set-id bits and devices mean nothing on /dev/shm.
type Memory struct{ dir string }

// MountMemory mounts one.
func MountMemory() (*Memory, error) {
	dir, err := os.MkdirTemp("", "strata-histories-")
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755,size=2g"); err != nil {
		os.Remove(dir)
		return nil, fmt.Errorf("mount tmpfs on %s: %w", dir, err)
	}
	return &Memory{dir}, nil
}

// MkdirTemp makes a directory in it that all users can enter.
func (m *Memory) MkdirTemp() (string, error) {
	dir, err := os.MkdirTemp(m.dir, "")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// Unmount ends it and all that is in it.
func (m *Memory) Unmount() error {
	if err := unmount(m.dir); err != nil {
		return err
	}
	return os.Remove(m.dir)
}
