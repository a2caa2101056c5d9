package fusefs

import (
	"log/slog"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/overlay"
)

// connection answers the requests of one FUSE connection, which is one mount.
// Its methods are spread over files by what they are about; each translates
// arguments, calls the overlay and translates the answer.
type connection struct {
	// What is not implemented here is ENOSYS: ACCESS (the kernel checks
	// permissions).
	fuse.RawFileSystem

	fs   *overlay.FS
	opts Options      // immutable
	log  *slog.Logger // never nil

	kernel *device // set by attach, before the first request

	passthrough atomic.Bool // whether the kernel grants it
	mounts      mountCache

	nodes *nodeTable
	stale staleOpens
	files handleTable[fileHandle]
	dirs  handleTable[dirHandle]
	notes *notifier
	kept  keptFiles
	locks *lockTable
}

var _ fuse.RawFileSystem = (*connection)(nil)

func newConnection(fs *overlay.FS, o Options) *connection {
	return &connection{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		fs:            fs,
		opts:          o,
		log:           o.Logger,
		nodes:         newNodeTable(),
		notes:         newNotifier(),
		locks:         newLockTable(),
	}
}

func (c *connection) String() string { return fsType }

// attach is called when the kernel has said what it can do.
func (c *connection) attach(kernel *device, capabilities uint64) {
	c.kernel = kernel
	kernel.released = c.dropLocks
	c.locks.gone = kernel.gone
	c.passthrough.Store(c.wantPassthrough() && capabilities&fuse.CAP_PASSTHROUGH != 0)
	go c.notes.run(kernel)
}

// detach is called when the last request was answered. A connection that was cut
// sends no RELEASE for what is open.
func (c *connection) detach() {
	c.notes.close()
	c.dropAllKept()
	for _, h := range c.files.removeAll() {
		if f := h.node.rebased.Swap(nil); f != nil {
			f.Close()
		}
		h.file.Close()
	}
	for _, h := range c.dirs.removeAll() {
		h.dir.Close()
	}
}
