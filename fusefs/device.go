package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// device is our end of a FUSE connection, an open /dev/fuse: it reads requests,
// lets go-fuse take them apart and call the connection's methods, and writes the
// answers.
//
// One goroutine at a time reads, and it answers what it has read by itself. The
// kernel wakes those who wait on a device in turn: with two of them a request
// would nearly always be answered by a thread that has slept longest, on the
// other CPU, which takes twice as long. With one, the kernel wakes it on the CPU
// of the process that asks and is about to sleep.
//
// While the reader is busy nobody reads, so it gives its place to another
// goroutine before it does what is known to take long (mayWait); the watchman
// sees to it where that was not known. Whoever has lost the place ends when its
// answer is written.
type device struct {
	fd  int
	ps  *fuse.ProtocolServer
	log *slog.Logger

	buffers sync.Pool // of *buffers

	// turn is even while the reader waits for a request, odd while it answers
	// one. Who changes it from odd to even is the next reader.
	turn atomic.Uint64

	// released, if there is one, is told of each RELEASE before the next request is
	// read. It must not wait. Set before serve.
	released func(fh uint64)

	readers  sync.WaitGroup // and those that were
	watching atomic.Bool
	roused   chan struct{} // holds one token for a watchman that has ceased to watch
	gone     chan struct{} // closed when there is no mount any more
}

// buffers are what one request and its answer take.
type buffers struct{ in, out []byte }

// bufferSize is room for the largest request, a WRITE, and answer, a READ, with
// their headers; the kernel wants it even to read a small one.
const bufferSize = maxWrite + 4096

func newDevice(fd int, fs fuse.RawFileSystem, o *fuse.MountOptions, log *slog.Logger) *device {
	d := &device{
		fd: fd, ps: fuse.NewProtocolServer(fs, o), log: log,
		roused: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	d.buffers.New = func() any {
		return &buffers{in: make([]byte, bufferSize), out: make([]byte, bufferSize)}
	}
	return d
}

// negotiate answers the first request and returns what the kernel can do.
func (d *device) negotiate() (capabilities uint64, err error) {
	b := d.buffers.Get().(*buffers)
	defer d.buffers.Put(b)
	n, err := d.read(b.in)
	if err != nil {
		return 0, fmt.Errorf("read from /dev/fuse: %w", err)
	}
	if opcode(b.in) != opInit { // before FUSE 7.36 it is shorter; the buffer is zero behind it
		return 0, errors.New("the kernel does not begin with INIT")
	}
	capabilities = (*fuse.InitIn)(unsafe.Pointer(&b.in[0])).Flags64()
	d.answer(b, n)
	return capabilities, nil
}

// serve answers requests until there is no mount any more.
func (d *device) serve() {
	watched := make(chan struct{})
	d.watching.Store(true)
	d.readers.Add(1)
	go d.lead()
	go func() {
		d.watch()
		close(watched)
	}()
	d.readers.Wait()
	<-watched
}

func (d *device) close() { syscall.Close(d.fd) }

// lead reads requests and answers them until another has taken its place.
func (d *device) lead() {
	defer d.readers.Done()
	b := d.buffers.Get().(*buffers)
	defer d.buffers.Put(b)
	for turn := d.turn.Load(); ; turn += 2 {
		n, err := d.read(b.in)
		if err != nil {
			if err != syscall.ENODEV { // which an unmounted device answers
				d.log.Error("no more requests can be read from /dev/fuse", "err", err)
			}
			close(d.gone)
			return
		}
		if opcode(b.in) == opRelease && d.released != nil {
			d.released((*fuse.ReleaseIn)(unsafe.Pointer(&b.in[0])).Fh)
		}
		if mayWait(opcode(b.in)) {
			d.readers.Add(1)
			go d.lead()
			d.answer(b, n)
			return
		}
		d.turn.Store(turn + 1)
		d.rouse()
		d.answer(b, n)
		if !d.turn.CompareAndSwap(turn+1, turn+2) {
			return
		}
	}
}

// watchEvery is how long a request can hold up others. It is long beside what
// most of them take.
const watchEvery = time.Millisecond

// watch puts another in the place of a reader that has been busy with the same
// request for watchEvery. It sleeps while nothing happens.
func (d *device) watch() {
	const idle = 100 // looks at a reader that waits
	var last uint64
	for same := 0; ; {
		select {
		case <-d.gone:
			return
		case <-time.After(watchEvery):
		}
		turn := d.turn.Load()
		switch {
		case turn != last:
			last, same = turn, 0
		case turn%2 == 1:
			d.readers.Add(1)
			if d.turn.CompareAndSwap(turn, turn+1) {
				go d.lead()
			} else {
				d.readers.Done()
			}
		case same < idle:
			same++
		default:
			d.watching.Store(false)
			if d.turn.Load() != last && d.watching.CompareAndSwap(false, true) {
				continue
			}
			select {
			case <-d.gone:
				return
			case <-d.roused:
			}
		}
	}
}

func (d *device) rouse() {
	if !d.watching.Load() && d.watching.CompareAndSwap(false, true) {
		d.roused <- struct{}{}
	}
}

// read reads a request. It waits in a system call and nowhere else: the
// runtime's poller would be one more wake-up.
func (d *device) read(buf []byte) (int, error) {
	for {
		n, err := syscall.Read(d.fd, buf)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR, syscall.EAGAIN:
		case syscall.ENOENT: // whoever asked was killed meanwhile
		default:
			return 0, err
		}
	}
}

// answer serves the request in the first n bytes of b.in.
func (d *device) answer(b *buffers, n int) {
	size, st := d.ps.HandleRequest([][]byte{b.in[:n]}, [][]byte{b.out})
	if !st.Ok() {
		size = d.failure(b, st)
	}
	if size == 0 { // the kernel wants no answer
		return
	}
	// The kernel need not know the request any more: its process was killed, or
	// the mount is gone.
	if _, err := syscall.Write(d.fd, b.out[:size]); err != nil && err != syscall.ENOENT && err != syscall.ENODEV {
		d.log.Error("an answer was not taken", "opcode", opcode(b.in), "size", size, "err", err)
	}
}

// failure writes an answer to a request that go-fuse could not take apart.
func (d *device) failure(b *buffers, st fuse.Status) int {
	h := (*fuse.OutHeader)(unsafe.Pointer(&b.out[0]))
	size := unsafe.Sizeof(*h)
	*h = fuse.OutHeader{Length: uint32(size), Status: -int32(st), Unique: (*fuse.InHeader)(unsafe.Pointer(&b.in[0])).Unique}
	return int(size)
}

// Opcodes, from linux/fuse.h; go-fuse keeps its own to itself.
const (
	opRelease       = 18
	opFsync         = 20
	opInit          = 26
	opFsyncdir      = 30
	opSetlkw        = 33
	opCopyFileRange = 47
)

func opcode(request []byte) uint32 { return (*fuse.InHeader)(unsafe.Pointer(&request[0])).Opcode }

// mayWait tells whether a request waits for the disk or for other processes.
func mayWait(opcode uint32) bool {
	switch opcode {
	case opFsync, opFsyncdir, opSetlkw, opCopyFileRange:
		return true
	}
	return false
}

// Notifications and ioctls, from linux/fuse.h.
const (
	notifyInvalInode = 2
	notifyPrune      = 9

	iocBackingOpen  = 0x4010e501 // _IOW(229, 1, struct fuse_backing_map)
	iocBackingClose = 0x4004e502 // _IOW(229, 2, uint32_t)
)

// dropAttr lets the kernel forget the attributes of a node. For this the kernel
// takes none of the locks that a process may hold which waits for an answer.
func (d *device) dropAttr(nid uint64) { d.inval(nid, -1) }

// dropData lets it forget the cached data, too.
func (d *device) dropData(nid uint64) { d.inval(nid, 0) }

func (d *device) inval(nid uint64, offset int64) {
	var m [40]byte // header, node, offset, length
	binary.NativeEndian.PutUint64(m[16:], nid)
	binary.NativeEndian.PutUint64(m[24:], uint64(offset))
	d.notify(notifyInvalInode, m[:])
}

// dropEntries lets it forget the unused names of a node, and then the node.
// Kernels before 7.45 do not know how.
func (d *device) dropEntries(nid uint64) {
	var m [40]byte // header, count, padding, spare, node
	binary.NativeEndian.PutUint32(m[16:], 1)
	binary.NativeEndian.PutUint64(m[32:], nid)
	d.notify(notifyPrune, m[:])
}

// notify sends a message that nobody has asked for. The answer does not matter:
// ENOENT says that the kernel does not know the node, EINVAL that it does not know
// the message.
func (d *device) notify(code int32, message []byte) {
	*(*fuse.OutHeader)(unsafe.Pointer(&message[0])) = fuse.OutHeader{Length: uint32(len(message)), Status: code}
	syscall.Write(d.fd, message)
}

// openBacking gives an open file to the kernel for passthrough.
func (d *device) openBacking(fd int) (id int32, errno syscall.Errno) {
	m := fuse.BackingMap{Fd: int32(fd)}
	r, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(d.fd), iocBackingOpen, uintptr(unsafe.Pointer(&m)))
	runtime.KeepAlive(&m)
	return int32(r), errno
}

func (d *device) closeBacking(id int32) {
	syscall.Syscall(syscall.SYS_IOCTL, uintptr(d.fd), iocBackingClose, uintptr(unsafe.Pointer(&id)))
}
