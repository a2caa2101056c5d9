package tree

import (
	"container/list"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// OpenReadOnly opens a directory as a detached, read-only mount without what is
// mounted below it, so that nothing opened relative to it can ever be written
// (readOnly is true), or without the privilege for that as it is.
func OpenReadOnly(path string) (fd int, readOnly bool, err error) {
	fd, err = unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
		if err == nil {
			var st unix.Stat_t
			if err = unix.Fstat(fd, &st); err == nil && st.Mode&ModeType != ModeDir {
				err = unix.ENOTDIR
			}
			if err == nil {
				return fd, true, nil
			}
		}
		unix.Close(fd)
	}
	// The reason, if it is not the missing privilege, shows here again.
	fd, err = unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return fd, false, err
}

// noOpenat2 is set when the kernel (before 5.6) or a seccomp filter refuses
// openat2.
var noOpenat2 atomic.Bool

// openBeneath opens name, a single component, in directory dir: neither a
// symlink is followed nor a mount crossed.
func openBeneath(dir int, name string, flags int) (int, error) {
	flags |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	for !noOpenat2.Load() {
		fd, err := unix.Openat2(dir, name, &unix.OpenHow{
			Flags:   uint64(flags),
			Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
		switch {
		case errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM):
			// EPERM is also the honest answer of some filesystems, so ask again.
			if errors.Is(err, unix.ENOSYS) {
				noOpenat2.Store(true)
			}
			return retryOpen(dir, name, flags)
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			// A rename somewhere raced with the lookup.
		default:
			return fd, err
		}
	}
	return retryOpen(dir, name, flags)
}

// retryOpen is openBeneath with what older kernels have.
func retryOpen(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// procPath is a path for the calls that know no directory descriptors; they
// must be those that do not follow a symlink at its end.
func procPath(dir int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
}

// dirFD is an open directory (O_PATH).
type dirFD struct {
	fd   int
	node *hostNode
	refs int           // who uses it, under dirFDs.mu
	at   *list.Element // in dirFDs.recent; nil for the root and when it was put out
}

// dirFDs keeps directories open, the recently used ones.
type dirFDs struct {
	max int // never changes

	mu     sync.Mutex
	root   *dirFD
	byNode map[*hostNode]*dirFD
	recent list.List // of *dirFD, the latest in front
}

// open sets the root, which stays open until close.
func (c *dirFDs) open(root *hostNode, fd, max int) {
	c.max = max
	c.root = &dirFD{fd: fd, node: root, refs: 1}
	c.byNode = make(map[*hostNode]*dirFD)
}

func (c *dirFDs) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.root == nil {
		return
	}
	for c.recent.Len() > 0 {
		c.putOutLocked(c.recent.Back().Value.(*dirFD))
	}
	c.unrefLocked(c.root)
	c.root = nil
}

// get returns n's directory if it is open.
func (c *dirFDs) get(n *hostNode) (*dirFD, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.root == nil {
		return nil, unix.EBADF
	}
	d := c.byNode[n]
	if n == c.root.node {
		d = c.root
	}
	if d != nil {
		d.refs++
		if d.at != nil {
			c.recent.MoveToFront(d.at)
		}
	}
	return d, nil
}

// put keeps fd as n's directory.
func (c *dirFDs) put(n *hostNode, fd int) *dirFD {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.byNode[n]; d != nil { // another goroutine was quicker
		unix.Close(fd)
		d.refs++
		return d
	}
	d := &dirFD{fd: fd, node: n, refs: 1}
	if c.root == nil { // closed meanwhile
		return d
	}
	d.refs++ // the second one is the cache's own
	d.at = c.recent.PushFront(d)
	c.byNode[n] = d
	if c.recent.Len() > c.max {
		c.putOutLocked(c.recent.Back().Value.(*dirFD))
	}
	return d
}

func (c *dirFDs) putOutLocked(d *dirFD) {
	c.recent.Remove(d.at)
	d.at = nil
	delete(c.byNode, d.node)
	c.unrefLocked(d)
}

func (c *dirFDs) unrefLocked(d *dirFD) {
	d.refs--
	if d.refs == 0 {
		unix.Close(d.fd)
	}
}

func (c *dirFDs) release(d *dirFD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unrefLocked(d)
}

// dir opens directory n, from the nearest directory above it that is open. The
// caller releases it.
func (c *dirFDs) dir(n *hostNode) (*dirFD, error) {
	var down []*hostNode
	at := n
	d, err := c.get(at)
	for err == nil && d == nil {
		down = append(down, at)
		at = at.parent
		d, err = c.get(at)
	}
	if err != nil {
		return nil, err
	}
	for i := len(down) - 1; i >= 0; i-- {
		fd, err := openBeneath(d.fd, down[i].name, unix.O_PATH|unix.O_DIRECTORY)
		c.release(d)
		if err == unix.ENOTDIR || err == unix.ELOOP { // it was a directory
			err = unix.ESTALE
		}
		if err != nil {
			return nil, err
		}
		d = c.put(down[i], fd)
	}
	return d, nil
}
