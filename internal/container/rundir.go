package container

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/google/renameio/v2"
)

// runDir is a directory of mount records, one file a mount.
type runDir string

// Record is what a mount process leaves for others to find. It is written when
// the mount is usable and removed after the last write to the upper.
type Record struct {
	Name       string    `json:"name"` // of the container; empty for plain directories
	PID        int       `json:"pid"`
	StartTime  uint64    `json:"startTime"` // of the process, in clock ticks since boot, as /proc/PID/stat has it
	Mountpoint string    `json:"mountpoint"`
	Options    string    `json:"options"`
	Since      time.Time `json:"since"`

	// Exits tells that the process ends with the mount, so that whoever
	// unmounts can wait for that.
	Exits bool `json:"exits"`

	// Ending tells that the mount is gone and the process is writing its last.
	Ending bool `json:"ending,omitempty"`
}

// recordJSON is what a record's file holds.
type recordJSON struct {
	Record

	// MountpointBytes are those of a mount point whose name is not UTF-8: a
	// string of JSON cannot hold it.
	MountpointBytes []byte `json:"mountpointBytes,omitempty"`
}

// runBase finds the directory that holds all run state, and makes it.
func runBase(base string) (string, error) {
	switch {
	case base != "":
	case os.Geteuid() == 0:
		base = "/run/strata"
	case os.Getenv("XDG_RUNTIME_DIR") != "":
		base = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "strata")
	default:
		base = filepath.Join(os.TempDir(), fmt.Sprintf("strata-%d", os.Geteuid()))
	}
	base, err := filepath.Abs(base)
	if err != nil {
		return "", fmt.Errorf("run directory: %w", err)
	}
	if err := mkdirOpen(base); err != nil {
		return "", fmt.Errorf("run directory: %w", err)
	}
	// Records are believed and mount points are handed to umount, so nobody
	// else may put anything there. In a shared temporary directory somebody
	// could have made ours first.
	info, err := os.Lstat(base)
	if err != nil {
		return "", fmt.Errorf("run directory: %w", err)
	}
	st := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("run directory %s: is not a directory of ours that only we can write to; move it away or set XDG_RUNTIME_DIR", base)
	}
	return base, nil
}

// hashName names a path by a hash, where a path cannot be a file name.
func hashName(path string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(path)))[:shortLen]
}

const recordSuffix = ".json"

func (d runDir) recordFile(key string) string { return filepath.Join(string(d), key+recordSuffix) }
func (d runDir) logFile(key string) string    { return filepath.Join(string(d), key+".log") }

// mountpoint has a short name, because people type it.
func (d runDir) mountpoint(key string) string {
	return filepath.Join(string(d), key[:min(shortLen, len(key))], "merged")
}

func (d runDir) make() error { return mkdirOpen(string(d)) }

// mkdirOpen makes dir and what it lacks above it, for all users to walk through,
// whatever the umask. What is there stays as it is, and is not looked at: it may
// be a dead mount.
func mkdirOpen(dir string) error {
	const mode = 0o755
	err := os.Mkdir(dir, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mkdirOpen(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, mode)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return os.Chmod(dir, mode)
}

// write makes a record of a mount that this process serves.
func (d runDir) write(key string, r Record) error {
	r.PID = os.Getpid()
	var err error
	if r.StartTime, err = startTime(r.PID); err != nil {
		return fmt.Errorf("record of the mount: %w", err)
	}
	if err := d.make(); err != nil {
		return fmt.Errorf("record of the mount: %w", err)
	}
	j := recordJSON{Record: r}
	if !utf8.ValidString(r.Mountpoint) {
		j.MountpointBytes = []byte(r.Mountpoint)
	}
	data, err := json.Marshal(j)
	if err != nil {
		return fmt.Errorf("record of the mount: %w", err)
	}
	if err := renameio.WriteFile(d.recordFile(key), data, 0o644); err != nil {
		return fmt.Errorf("record of the mount: %w", err)
	}
	return nil
}

// read returns nil if there is no record.
func (d runDir) read(key string) (*Record, error) {
	data, err := os.ReadFile(d.recordFile(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var j recordJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("%s: %w", d.recordFile(key), err)
	}
	if j.MountpointBytes != nil {
		j.Mountpoint = string(j.MountpointBytes)
	}
	return &j.Record, nil
}

// of returns the record that the process wrote; nil if there is none.
func (d runDir) of(pid int) (*Record, error) {
	files, err := filepath.Glob(d.recordFile("*"))
	for _, file := range files {
		record, readErr := d.read(strings.TrimSuffix(filepath.Base(file), recordSuffix))
		if readErr == nil && record != nil && record.PID == pid {
			return record, nil
		}
		err = errors.Join(err, readErr)
	}
	return nil, err
}

// remove forgets a mount: its record, and its default mount point if that is
// empty. The log stays for whoever wants to know why a mount ended.
func (d runDir) remove(key string) error {
	os.Remove(d.mountpoint(key))
	os.Remove(filepath.Dir(d.mountpoint(key)))
	os.Remove(d.socketFile(key))
	if err := os.Remove(d.recordFile(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// waitGone returns when the mount that r is the record of has written its last
// and taken the record away.
func (d runDir) waitGone(ctx context.Context, key string, r *Record) error {
	for {
		now, err := d.read(key)
		if err != nil {
			return err
		}
		if now == nil || !now.Since.Equal(r.Since) || !now.Alive() {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// Alive tells whether the process that wrote the record still runs.
func (r *Record) Alive() bool {
	t, err := startTime(r.PID)
	return err == nil && t == r.StartTime
}

// startTime returns when a process that runs was started. A zombie does not run,
// unless it has other threads that do: until the last of them is gone its files,
// and so its mount, are still there.
func startTime(pid int) (uint64, error) {
	file := fmt.Sprintf("/proc/%d/stat", pid)
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	// "PID (COMM) STATE ...": only COMM can hold spaces and parentheses.
	const state, threads, start = 0, 17, 19 // counted from behind COMM
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) <= start {
		return 0, fmt.Errorf("%s: %d fields follow the name, want more than %d", file, len(fields), start)
	}
	if s := fields[state][0]; (s == 'Z' || s == 'X') && len(fields[threads]) == 1 && fields[threads][0] <= '1' {
		return 0, &os.PathError{Op: "stat", Path: file, Err: syscall.ESRCH}
	}
	return strconv.ParseUint(string(fields[start]), 10, 64)
}

// resolveDir gives the name under which mountinfo would list dir. Its last
// element is not looked at, because that blocks or fails on a dead mount; only
// if it is a symbolic link is it followed.
func resolveDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	at := filepath.Join(parent, filepath.Base(dir))
	if target, err := os.Readlink(at); err == nil && target != "" {
		return filepath.EvalSymlinks(at)
	}
	return at, nil
}
