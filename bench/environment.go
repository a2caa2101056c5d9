package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Environment is where something was measured.
type Environment struct {
	Date   time.Time `json:"date"`
	Kernel string    `json:"kernel"`
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Memory int64     `json:"memory"` // bytes
	User   int       `json:"user"`
	Go     string    `json:"go"` // that strata was built with
}

func environment() Environment {
	e := Environment{Date: time.Now().UTC().Truncate(time.Second), CPU: processor(), Cores: runtime.NumCPU(), User: os.Geteuid(), Go: runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		e.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	e.Memory, _ = sumFields("/proc/meminfo", "MemTotal:") // unknown is shown as zero
	return e
}

func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if key, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// Disk is a directory and the filesystem that it is on.
type Disk struct {
	Dir        string `json:"dir"`
	Filesystem string `json:"filesystem"`
	Free       int64  `json:"free"` // bytes, when the run began
}

func diskOf(dir string) (Disk, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Disk{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Disk{Dir: dir, Filesystem: filesystemName(st.Type), Free: int64(st.Bavail) * int64(st.Bsize)}, nil
}

// filesystemName knows those that people keep containers on.
func filesystemName(magic int64) string {
	for _, fs := range []struct {
		magic int64
		name  string
	}{
		{unix.EXT4_SUPER_MAGIC, "ext4"}, // and ext2, ext3
		{unix.XFS_SUPER_MAGIC, "xfs"},
		{unix.BTRFS_SUPER_MAGIC, "btrfs"},
		{unix.F2FS_SUPER_MAGIC, "f2fs"},
		{unix.TMPFS_MAGIC, "tmpfs"},
		{unix.OVERLAYFS_SUPER_MAGIC, "overlayfs"},
		{unix.FUSE_SUPER_MAGIC, "fuse"},
		{unix.NFS_SUPER_MAGIC, "nfs"},
		{0x2fc12fc1, "zfs"},
	} {
		if fs.magic == magic {
			return fs.name
		}
	}
	return fmt.Sprintf("0x%x", magic)
}
