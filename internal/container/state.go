package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"strata/fusefs"
)

// Status is one of Created, Mounted and Dead.
type Status string

const (
	Created Status = "created" // not mounted
	Mounted Status = "mounted" // a process serves it
	Dead    Status = "dead"    // mounted, but the process that served it is gone
)

// State is what a container does at the moment.
type State struct {
	Status Status
	Record *Record // of the mount; nil if Created
}

// State finds out whether the container is mounted.
func (ct *Container) State() (State, error) {
	record, err := ct.all.run.read(string(ct.ID))
	if err != nil {
		return State{}, fmt.Errorf("state of container %s: %w", ct.Name, err)
	}
	switch {
	case record == nil:
		return State{Status: Created}, nil
	case record.Alive():
		return State{Status: Mounted, Record: record}, nil
	}
	mounted, served, err := fusefs.At(record.Mountpoint)
	if err != nil {
		return State{}, fmt.Errorf("state of container %s: %w", ct.Name, err)
	}
	if mounted && !served {
		return State{Status: Dead, Record: record}, nil
	}
	return State{Status: Created}, nil // the mount is gone, too, as after a reboot
}

// CheckUnmounted returns a *MountedError if a process serves the container, and is
// not ending. It may be outdated at once.
func (ct *Container) CheckUnmounted() error {
	state, err := ct.State()
	if err == nil && state.Status == Mounted && state.Record.patience() == 0 {
		err = fmt.Errorf("container %s: %w", ct.Name, &MountedError{Record: *state.Record})
	}
	return err
}

// A MountedError says that a container cannot be had because it is mounted. It
// is EBUSY.
type MountedError struct {
	Record Record // PID is 0 if it is not known who has it
}

func (e *MountedError) Error() string {
	if e.Record.PID == 0 {
		return "another process has it: it is being mounted, unmounted or removed, or used without a mount"
	}
	return fmt.Sprintf("it is mounted at %s (served by process %d)", e.Record.Mountpoint, e.Record.PID)
}

func (e *MountedError) Unwrap() error { return syscall.EBUSY }

// Disk is what something takes on disk, as du counts it.
type Disk struct {
	Bytes  int64 // allocated blocks, directories included
	Inodes int64
}

// UpperSize measures what the container has written. While it is mounted the
// figures may be of no single moment. If it has been removed meanwhile, the error
// is a *NotFoundError.
func (ct *Container) UpperSize() (Disk, error) {
	size, err := diskUsage(ct.UpperDir())
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := os.Lstat(ct.dir); errors.Is(gone, fs.ErrNotExist) {
			err = &NotFoundError{Name: ct.Name}
		}
	}
	if err != nil {
		return size, fmt.Errorf("size of container %s: %w", ct.Name, err)
	}
	return size, nil
}

// diskUsage adds up dir and everything below it, an inode with several names
// once. Names that vanish meanwhile are left out, and so is what was below a
// directory whose place a whiteout takes.
func diskUsage(dir string) (Disk, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var sum Disk
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			var info fs.FileInfo
			if info, err = os.Lstat(path); err == nil {
				st := info.Sys().(*syscall.Stat_t)
				if id := (inode{st.Dev, st.Ino}); !seen[id] {
					seen[id] = true
					sum.Bytes += st.Blocks * 512
					sum.Inodes++
				}
				return nil
			}
		}
		if path != dir && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
			return nil
		}
		return err
	})
	return sum, err
}
