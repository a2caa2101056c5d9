package overlay

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// upper is the writable side: the upper and work directories, held locked.
type upper struct {
	path   string // of the upper, for messages
	root   int    // the upper directory
	work   int    // the directory "work" in the work directory, as the kernel makes it; -1 if read-only
	workAt int    // the work directory itself, held for its lock; -1 if read-only
	format Format
	umask  uint32 // of this process: what mkdir(2) and its kind leave out
	uid    uint32 // of this process: whose what they make is
	gid    uint32
	dirs   dirCache
	seq    atomic.Uint64 // names in work; begins anywhere, for a crash may have left some there

	whiteoutMu sync.Mutex
	whiteout   string // a whiteout in work that is linked to where one is needed
}

// A BusyError says that an upper or a work directory is in use. It is EBUSY.
type BusyError struct {
	Path string
	PID  int // who holds it, 0 if that cannot be seen
}

func (e *BusyError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another mount", e.Path)
	}
	return fmt.Sprintf("%s is in use by process %d; unmount that first", e.Path, e.PID)
}

func (e *BusyError) Unwrap() error { return syscall.EBUSY }

// ErrOtherLower is returned for an upper that belongs to another lower.
var ErrOtherLower = errors.New("the upper belongs to another lower")

func openUpper(o Options) (opened *upper, err error) {
	u := &upper{
		path: o.Upper, root: -1, work: -1, workAt: -1, format: o.Format,
		uid: uint32(os.Geteuid()), gid: uint32(os.Getegid()),
	}
	u.dirs.init()
	u.seq.Store(rand.Uint64N(1 << 50))
	defer func() {
		if err != nil {
			u.closeFDs()
		}
	}()
	if u.umask, err = processUmask(); err != nil {
		return nil, err
	}
	if u.root, err = openDir(o.Upper); err != nil {
		return nil, err
	}
	if o.ReadOnly {
		if err = lock(u.root, o.Upper, unix.LOCK_SH); err != nil {
			return nil, err
		}
		return u, u.checkLower(o.LowerID)
	}
	if u.workAt, err = openDir(o.Work); err != nil {
		return nil, err
	}
	if err = u.checkPlaces(o); err != nil {
		return nil, err
	}
	if err = lock(u.root, o.Upper, unix.LOCK_EX); err != nil {
		return nil, err
	}
	if err = lock(u.workAt, o.Work, unix.LOCK_EX); err != nil {
		return nil, err
	}
	if err = unix.Mkdirat(u.workAt, "work", 0o700); err != nil && err != unix.EEXIST {
		return nil, &fs.PathError{Op: "mkdir", Path: o.Work + "/work", Err: err}
	}
	if u.work, err = unix.Openat(u.workAt, "work", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return nil, &fs.PathError{Op: "open", Path: o.Work + "/work", Err: err}
	}
	// Without a set-gid bit from above: what is made in it gets our own group.
	if err = unix.Fchmod(u.work, 0o700); err != nil {
		return nil, &fs.PathError{Op: "chmod", Path: o.Work + "/work", Err: err}
	}
	if err = u.checkWhiteouts(); err != nil {
		return nil, err
	}
	if err = u.bindTo(o.LowerID); err != nil {
		return nil, err
	}
	return u, nil
}

// checkWhiteouts finds out at once, not at the first deletion, that the filesystem
// refuses whiteouts: an overlay's merged tree does.
func (u *upper) checkWhiteouts() error {
	tmp := u.tempName()
	if err := unix.Mknodat(u.work, tmp, unix.S_IFCHR, 0); err != nil {
		return fmt.Errorf("upper %s: its filesystem takes no whiteouts (device 0:0), without which nothing can be deleted; put it on another, not on a merged tree: %w", u.path, err)
	}
	u.removeTemp(tmp)
	return nil
}

// checkPlaces wants upper and work directory beside each other on one filesystem.
func (u *upper) checkPlaces(o Options) error {
	var su, sw unix.Stat_t
	if err := errors.Join(unix.Fstat(u.root, &su), unix.Fstat(u.workAt, &sw)); err != nil {
		return &fs.PathError{Op: "stat", Path: o.Upper, Err: err}
	}
	if su.Dev != sw.Dev {
		return fmt.Errorf("upper %s and work directory %s are on different filesystems: names cannot be moved between them: %w", o.Upper, o.Work, syscall.EXDEV)
	}
	for _, pair := range [][2]int{{u.root, u.workAt}, {u.workAt, u.root}} {
		inside, err := isInside(pair[0], pair[1])
		if err != nil {
			return &fs.PathError{Op: "stat", Path: o.Upper, Err: err}
		}
		if inside {
			return fmt.Errorf("neither of upper %s and work directory %s may be the other or stand in it: put them beside each other: %w", o.Upper, o.Work, syscall.EINVAL)
		}
	}
	return nil
}

// isInside tells whether directory dir is top or stands below it.
func isInside(dir, top int) (bool, error) {
	var want, last unix.Stat_t
	if err := unix.Fstat(top, &want); err != nil {
		return false, err
	}
	for at := "."; ; at += "/.." {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, at, &st, 0); err != nil {
			return false, err
		}
		switch {
		case st.Dev == want.Dev && st.Ino == want.Ino:
			return true, nil
		case st.Dev == last.Dev && st.Ino == last.Ino: // the root is its own parent
			return false, nil
		}
		last = st
	}
}

// checkLower refuses an upper that belongs to another lower.
func (u *upper) checkLower(lowerID string) error {
	name := u.format.namespace() + xLower
	have, err := inode{fd: u.root}.xattr(name)
	if err != nil && err != errNoXattr {
		return &fs.PathError{Op: "getxattr " + name, Path: u.path, Err: err}
	}
	if len(have) > 0 && string(have) != lowerID {
		return fmt.Errorf("upper %s was made over %s and cannot be used over %s: %w",
			u.path, have, orPlain(lowerID), ErrOtherLower)
	}
	return nil
}

// bindTo checks which lower the upper belongs to, and records it.
func (u *upper) bindTo(lowerID string) error {
	if err := u.checkLower(lowerID); err != nil || lowerID == "" {
		return err
	}
	name := u.format.namespace() + xLower
	if err := (inode{fd: u.root}).setxattr(name, []byte(lowerID), 0); err != nil {
		return &fs.PathError{Op: "setxattr " + name, Path: u.path, Err: err}
	}
	return nil
}

func orPlain(lowerID string) string {
	if lowerID == "" {
		return "plain directories"
	}
	return lowerID
}

// close writes everything to disk and lets go of the upper.
func (u *upper) close() error {
	err := unix.Syncfs(u.root)
	u.closeFDs()
	return err
}

func (u *upper) closeFDs() {
	u.dirs.closeAll()
	for _, fd := range []int{u.work, u.workAt, u.root} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// tempName gives a name that is free in the work directory.
func (u *upper) tempName() string {
	return "#" + strconv.FormatUint(u.seq.Add(1), 36)
}

func openDir(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return fd, nil
}

// lock takes directory fd, at path: for this FS alone (LOCK_EX) or for all that
// only read (LOCK_SH).
func lock(fd int, path string, how int) error {
	err := unix.Flock(fd, how|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		return &BusyError{Path: path, PID: lockHolder(fd)}
	}
	if err != nil {
		return &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return nil
}

// lockHolder asks the kernel who holds the flock on the file fd.
func lockHolder(fd int) int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil {
		return 0
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	locks, err := os.Open("/proc/locks")
	if err != nil {
		return 0
	}
	defer locks.Close()
	// 1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF
	for s := bufio.NewScanner(locks); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) >= 6 && f[1] == "FLOCK" && f[5] == file {
			pid, _ := strconv.Atoi(f[4])
			return max(pid, 0)
		}
	}
	return 0
}

// processUmask reads the umask without changing it, which umask(2) cannot.
func processUmask() (uint32, error) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return 0, fmt.Errorf("find the umask: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			m, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32)
			return uint32(m), err
		}
	}
	return 0o777, nil // an old kernel: assume that every bit must be set again
}
