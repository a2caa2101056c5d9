package tree

import (
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// HostDirOptions say how a host directory is read.
type HostDirOptions struct {
	// XattrPrefix is "trusted." or "user.": under it stand the overlay.*
	// xattrs that are obeyed. Empty means "trusted.".
	XattrPrefix string

	// OverrideStat obeys and hides user.containers.override_stat.
	OverrideStat bool

	// Hide lists beginnings of names of xattrs that are not shown.
	Hide []string

	// Stored, if not empty, is a prefix under which stand, with their whole
	// names, the xattrs that could not be kept as they are: all that are not
	// in user. and those with a meaning here. Only they and plain ones in user.
	// are shown then.
	Stored string

	// OpenDirs is how many directories are kept open, beside the root and
	// those in use at the moment. 0 means 64.
	OpenDirs int
}

// HostDir is a directory of the host seen as a layer: a lower that is a plain
// directory, or an upper that is looked at. It is in the form that the
// kernel's overlayfs reads:
//
//	character device 0:0                    whiteout
//	overlay.opaque = "y"                    opaque directory
//	overlay.opaque = "x"                    directory in which an empty regular file
//	                                        with overlay.whiteout is a whiteout
//	overlay.overlay.NAME                    shown as overlay.NAME
//	any other overlay.NAME                  hidden
//	user.containers.override_stat           owner, mode and type, if asked for
//	overlay.redirect, overlay.metacopy      followed by Stack
//
// By itself a directory with a redirect has only the names that it has here, and a
// file with metacopy cannot be opened (EIO).
//
// Directories are read when first needed, and remembered with the attributes
// of all that is in them, about 250 bytes a name. The host directory must not
// change in the meantime, as with overlayfs. If it does, what was read stays as
// it was; a name that is gone is ENOENT, one that stands for another kind of
// file is ESTALE; contents and xattrs are those that are there now.
//
// Nothing outside the directory can be reached: names are opened one component
// at a time, relative to a descriptor of the directory above, without following
// symlinks or crossing mounts. What is mounted below is not seen, as with
// overlayfs, when the directory could be cloned as a mount of its own
// (ReadOnlyMount); otherwise a mount point cannot be entered (EXDEV). However
// deep the tree and however many its inodes, few descriptors stay open
// (HostDirOptions.OpenDirs).
//
// Inode numbers are the host's, unless they are 2^40 or more or of another
// device (a btrfs subvolume): those are hashed into that range and may, though
// rarely, meet another's.
//
// Nlink of a directory is 2 and its subdirectories; that of other inodes is the
// host's st_nlink until Names was asked for one that has several names, and then
// the number of names inside the directory.
//
// Locks: scanMu, hostList.mu, HostDir.mu and dirFDs.mu, in this order; never
// two hostList.mu at once.
type HostDir struct {
	path     string // for messages
	o        HostDirOptions
	overlay  string // XattrPrefix + "overlay."
	readOnly bool
	dev      uint64
	nlinks   bool // whether the filesystem counts subdirectories in st_nlink
	fds      dirFDs

	mu     sync.RWMutex
	nodes  []*hostNode // by ID; 0 is unused
	linked map[hostKey]ID

	scanMu sync.Mutex                    // held while the whole directory is read
	names  atomic.Pointer[map[ID][]Name] // of inodes with hard links, once all are known
}

// hostKey is a host inode.
type hostKey struct{ dev, ino uint64 }

// hostNode is an inode that was seen. Without a remark, fields never change.
type hostNode struct {
	id     ID
	parent *hostNode // a directory that it is in,
	name   string    // and its name there
	stat   hostStat
	list   *hostList // of directories
	err    error     // why the attributes are not known

	xattrs atomic.Uint32 // xattrsKnown and so on; 0 as long as nobody asked
}

// OpenHostDir opens the directory path. The caller closes the HostDir.
func OpenHostDir(path string, o HostDirOptions) (*HostDir, error) {
	if o.XattrPrefix == "" {
		o.XattrPrefix = "trusted."
	}
	if o.OpenDirs <= 0 {
		o.OpenDirs = 64
	}
	h := &HostDir{path: path, o: o, overlay: o.XattrPrefix + "overlay.", linked: make(map[hostKey]ID)}
	fd, readOnly, err := OpenReadOnly(path)
	if err != nil {
		return nil, &fs.PathError{Op: "open lower directory", Path: path, Err: err}
	}
	h.readOnly = readOnly
	root := &hostNode{id: Root, list: new(hostList)}
	h.nodes = []*hostNode{nil, root}
	h.fds.open(root, fd, o.OpenDirs)
	if err := h.statRoot(root, fd); err != nil {
		h.fds.close()
		return nil, &fs.PathError{Op: "open lower directory", Path: path, Err: err}
	}
	return h, nil
}

func (h *HostDir) statRoot(root *hostNode, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	h.dev = uint64(st.Dev)
	var sfs unix.Statfs_t
	if err := unix.Fstatfs(fd, &sfs); err != nil {
		return err
	}
	switch int64(sfs.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		h.nlinks = true
	}
	if err := unix.Access(procPath(fd, "."), unix.F_OK); err != nil {
		return fmt.Errorf("xattrs are read through /proc/self/fd, which does not work here; mount /proc: %w", err)
	}
	root.stat = statOf(&st)
	h.override(root, fd, ".")
	return nil
}

// Close closes the descriptors that h holds; files that Open gave out stay
// open.
func (h *HostDir) Close() error {
	h.fds.close()
	return nil
}

// ReadOnlyMount tells whether files are opened through a mount of their own
// that refuses writes, whoever asks for them and however the file was opened.
// It takes CAP_SYS_ADMIN.
func (h *HostDir) ReadOnlyMount() bool { return h.readOnly }

// LinksKnown tells whether Names is answered from memory.
func (h *HostDir) LinksKnown() bool { return h.names.Load() != nil }

func (h *HostDir) node(id ID) (*hostNode, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if id == None || id >= ID(len(h.nodes)) {
		return nil, syscall.EINVAL
	}
	return h.nodes[id], nil
}

func (h *HostDir) dirNode(id ID) (*hostNode, error) {
	n, err := h.node(id)
	if err == nil && n.list == nil {
		return nil, syscall.ENOTDIR
	}
	return n, err
}

func (h *HostDir) ofType(id ID, typ uint32) (*hostNode, error) {
	n, err := h.node(id)
	if err == nil && n.stat.mode&ModeType != typ {
		return nil, syscall.EINVAL
	}
	return n, err
}

func (h *HostDir) Attr(id ID) (Attr, error) {
	n, err := h.node(id)
	if err == nil {
		err = n.err
	}
	if err != nil {
		return Attr{}, err
	}
	a := n.stat.attr()
	a.Ino = h.inodeNumber(n.stat.key)
	marks, err := h.xattrMarks(n)
	if err != nil {
		return Attr{}, err
	}
	a.Xattrs = marks&xattrsSome != 0
	if n.list != nil {
		if !h.nlinks || a.Nlink < 2 {
			l, err := h.load(n)
			if err != nil {
				return Attr{}, err
			}
			a.Nlink = 2 + l.subdirs
		}
	} else if names := h.names.Load(); names != nil && a.Nlink > 1 {
		a.Nlink = uint32(len((*names)[id]))
	}
	return a, nil
}

func (h *HostDir) inodeNumber(k hostKey) uint64 {
	if k.dev == h.dev && k.ino > 0 && k.ino < hostInodes {
		return k.ino
	}
	// The finalizer of MurmurHash3 spreads numbers that differ in few bits.
	x := k.ino ^ k.dev*0x9e3779b97f4a7c15
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x%hostInodes + 1
}

// hostInodes is the size of a HostDir's Space: it leaves room in 48 bits for
// 256 filesystems, and few have numbers beyond it.
const hostInodes = 1 << 40

func (h *HostDir) Space() Space { return Space{Key: h.dev + 1, Size: hostInodes} }

func (h *HostDir) Parent(dir ID) (ID, error) {
	n, err := h.dirNode(dir)
	if err != nil {
		return None, err
	}
	if dir == Root {
		return Root, nil
	}
	return n.parent.id, nil
}

func (h *HostDir) Readlink(id ID) (string, error) {
	n, err := h.ofType(id, ModeSymlink)
	if err != nil {
		return "", err
	}
	if n.stat.hostMode&ModeType == ModeRegular {
		return h.readTarget(n)
	}
	dir, err := h.fds.dir(n.parent)
	if err != nil {
		return "", err
	}
	defer h.fds.release(dir)
	buf := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(dir.fd, n.name, buf)
	if err == unix.EINVAL { // it was a symlink
		err = unix.ESTALE
	}
	if err != nil {
		return "", err
	}
	return string(buf[:size]), nil
}

// readTarget reads the target of a symlink that is kept as a regular file.
func (h *HostDir) readTarget(n *hostNode) (string, error) {
	f, err := h.openFile(n)
	if err != nil {
		return "", err
	}
	defer f.Close()
	buf := make([]byte, unix.PathMax)
	size := 0
	for size < len(buf) {
		got, err := f.Read(buf[size:])
		size += got
		if err != nil {
			break
		}
	}
	if size == len(buf) {
		return "", syscall.ENAMETOOLONG
	}
	return string(buf[:size]), nil
}

func (h *HostDir) Content(id ID) (Content, error) {
	n, err := h.ofType(id, ModeRegular)
	if err != nil {
		return Content{}, err
	}
	return Content{Size: n.stat.size}, nil
}

func (h *HostDir) Open(id ID) (*os.File, error) {
	n, err := h.ofType(id, ModeRegular)
	if err != nil {
		return nil, err
	}
	// What is here in place of the data is a hole, and would pass for it.
	if metacopy, err := h.Metacopy(id); err != nil {
		return nil, err
	} else if metacopy {
		return nil, fmt.Errorf("%s: %q has its data in a layer below (%smetacopy): %w", h.path, n.name, h.overlay, syscall.EIO)
	}
	return h.openFile(n)
}

// openFile opens what the host has as a regular file.
func (h *HostDir) openFile(n *hostNode) (*os.File, error) {
	dir, err := h.fds.dir(n.parent)
	if err != nil {
		return nil, err
	}
	defer h.fds.release(dir)
	// O_NONBLOCK: if a FIFO has taken the place of the file, this must not wait.
	fd, err := openBeneath(dir.fd, n.name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err == unix.ELOOP {
		err = unix.ESTALE
	}
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&ModeType != ModeRegular {
		unix.Close(fd)
		if err == nil {
			err = unix.ESTALE
		}
		return nil, err
	}
	// os.NewFile would take O_NONBLOCK to mean that the file can be polled.
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), n.name), nil
}
