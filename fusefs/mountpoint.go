package fusefs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// CheckMountpoint tells why dir cannot be mounted on, nil if it can.
func CheckMountpoint(dir string) error {
	fi, err := os.Stat(dir)
	if err == nil {
		// A dead mount may still show the attributes that the kernel kept, but
		// statfs always asks.
		err = syscall.Statfs(dir, new(syscall.Statfs_t))
	}
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("mount %s: the process that served what is mounted there is gone; unmount it with `%s`: %w",
			dir, unmountCommand(dir, os.Geteuid() == 0), syscall.ENOTCONN)
	case err != nil:
		return fmt.Errorf("mount %s: %w", dir, err)
	case !fi.IsDir():
		return fmt.Errorf("mount %s: %w", dir, syscall.ENOTDIR)
	}
	return nil
}

func unmountCommand(dir string, root bool) string {
	if root {
		return "umount " + dir
	}
	return "fusermount3 -u " + dir
}

// explainMount says what to do about a mount that failed.
func explainMount(err error, root bool) error {
	switch {
	case root && (errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENXIO)):
		return fmt.Errorf("is there a /dev/fuse, and the kernel's module fuse? %w", err)
	case root && (errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES)):
		return fmt.Errorf("may this process open /dev/fuse and mount (CAP_SYS_ADMIN)? %w", err)
	}
	return err
}
