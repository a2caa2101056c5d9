package fusefs

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"strata/overlay"
)

// fsType is shown in /proc/mounts behind "fuse.".
const fsType = "strata"

// maxWrite is the most that one READ or WRITE request moves, where data goes
// through this process. Readahead asks for no more, and 1 MiB made writing no
// faster; each goroutine that waits for a request has a buffer of this size.
const maxWrite = 128 << 10

// maxBackground is how many readahead and asynchronous requests may wait.
const maxBackground = 64

// Passthrough says whether the kernel may use the files of lower and upper
// itself.
type Passthrough int

const (
	PassthroughAuto Passthrough = iota // where the kernel grants it and it is safe
	PassthroughOff                     // never
)

// Options say how an overlay is mounted. The zero value mounts for the user who
// mounts alone, nosuid and nodev, as fast as the kernel allows.
type Options struct {
	// FSName is shown as the source in /proc/mounts; "strata" if empty.
	FSName string

	// AllowOther lets other users in. Without root it needs user_allow_other in
	// /etc/fuse.conf; where that is missing the mount is for the user alone, and
	// Logger is told.
	AllowOther bool

	// SUID honours set-id bits and file capabilities, Dev device nodes. Both
	// need root and are ignored without.
	SUID, Dev bool

	// NoExec lets nothing be executed.
	NoExec bool

	// Passthrough can be switched off.
	Passthrough Passthrough

	// Coherent never uses passthrough on lowers. A process that has a lower file
	// open sees what another writes into it after copying it up, at the price of
	// a page cache of the mount's own.
	Coherent bool

	// Observe switches passthrough and the kernel's caches off, so that every
	// operation reaches the overlay.
	Observe bool

	// Logger may be nil.
	Logger *slog.Logger
}

func (o *Options) fill() {
	if o.FSName == "" {
		o.FSName = fsType
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Server serves one mount until it is unmounted.
type Server struct {
	dir  string
	root bool // mounted without fusermount3
	dev  *device
	done chan struct{} // closed when the last request was answered

	mu sync.Mutex // one unmount at a time
}

// Mount mounts fs on the directory dir and begins to serve it: when it returns,
// the mount is usable. It does not take fs over: the caller closes it after
// Wait.
func Mount(dir string, fs *overlay.FS, o Options) (*Server, error) {
	o.fill()
	return serve(dir, fs.ReadOnly(), o, newConnection(fs, o))
}

// filesystem answers requests.
type filesystem interface {
	fuse.RawFileSystem
	attach(kernel *device, capabilities uint64)
	detach()
}

func serve(dir string, readOnly bool, o Options, c filesystem) (*Server, error) {
	if err := CheckMountpoint(dir); err != nil {
		return nil, err
	}
	path, err := realPath(dir)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, err)
	}
	s := &Server{dir: path, root: os.Geteuid() == 0, done: make(chan struct{})}
	fd, err := s.mount(readOnly, &o)
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", dir, explainMount(err, s.root))
	}
	s.dev = newDevice(fd, c, protocolOptions(&o), o.Logger)
	capabilities, err := s.dev.negotiate()
	if err != nil {
		err = errors.Join(fmt.Errorf("mount %s: %w", dir, err), s.Detach())
		s.dev.close()
		return nil, err
	}
	c.attach(s.dev, capabilities)
	go func() {
		s.dev.serve()
		c.detach()
		s.dev.close()
		close(s.done)
	}()
	s.forbidPolling()
	return s, nil
}

// forbidPolling lets the kernel ask for POLL once, which is answered with ENOSYS, so
// that it never asks again. It would ask for each file of the mount that this
// process opens, when Go's runtime adds it to its poller, and the answer could not
// be given: the runtime is not ready then for another goroutine to run. go-fuse has
// a file for that which nobody else sees. Who cannot open it does not use the mount.
func (s *Server) forbidPolling() {
	fd, err := unix.Open(filepath.Join(s.dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	unix.Close(fd)
}

// Mountpoint returns the absolute path of the directory on which it is mounted.
func (s *Server) Mountpoint() string { return s.dir }

// Wait returns when the mount is gone, by whomever it was unmounted, and nothing
// of it is left in this process.
func (s *Server) Wait() { <-s.done }

// protocolOptions are what is agreed on with the kernel.
func protocolOptions(o *Options) *fuse.MountOptions {
	m := &fuse.MountOptions{
		MaxBackground: maxBackground,
		MaxWrite:      maxWrite,
		MaxStackDepth: 1,
		EnableAcl:     true,
		EnableLocks:   true,
		Logger:        slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),

		EnableSymlinkCaching:     !o.Observe,
		ExplicitDataCacheControl: true,
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_DONT_MASK |
			fuse.CAP_SETXATTR_EXT | fuse.CAP_DIRECT_IO_ALLOW_MMAP,
	}
	if o.Passthrough == PassthroughOff || o.Observe {
		m.DisabledCapabilities |= fuse.CAP_PASSTHROUGH
	}
	return m
}

// mount mounts at s.dir, by the way that this user has.
func (s *Server) mount(readOnly bool, o *Options) (fd int, err error) {
	a := attachment{source: o.FSName, options: []string{"default_permissions", fmt.Sprintf("max_read=%d", maxWrite)}}
	if o.NoExec {
		a.flags |= syscall.MS_NOEXEC
	}
	if readOnly {
		a.flags |= syscall.MS_RDONLY
	}
	allowOther := o.AllowOther
	if !s.root && allowOther && !userAllowOther(fuseConf) {
		o.Logger.Warn("the mount is for its owner alone: " + fuseConf + " has no line user_allow_other")
		allowOther = false
	}
	if allowOther {
		a.options = append(a.options, "allow_other")
	}
	if s.root {
		if !o.SUID {
			a.flags |= syscall.MS_NOSUID
		}
		if !o.Dev {
			a.flags |= syscall.MS_NODEV
		}
		return a.mount(s.dir)
	}
	if _, err := exec.LookPath("fusermount3"); err != nil {
		return -1, fmt.Errorf("without root this takes fusermount3, which the package fuse3 has: %w", err)
	}
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0) // fusermount3 will do so by the user's rights
	if err != nil {
		return -1, fmt.Errorf("this user needs a /dev/fuse to read and write, usually it is for all (mode 0666): %w", err)
	}
	dev.Close()
	return a.fusermount(s.dir)
}

const fuseConf = "/etc/fuse.conf"

// userAllowOther tells whether users who are not root may let others in.
func userAllowOther(conf string) bool {
	f, err := os.Open(conf)
	if err != nil {
		return false
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if strings.TrimSpace(s.Text()) == "user_allow_other" {
			return true
		}
	}
	return false
}

func realPath(dir string) (string, error) {
	path, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}
