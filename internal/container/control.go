package container

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"strata/overlay"
)

// A mount process listens on a socket beside its record, for its owner alone. A
// client sends one word and a newline, and reads lines of JSON:
//
//	sync     one line, {}, when all that was written is on disk
//	trace    a TraceHeader, then a TraceEvent a line until either side closes
//	layer    the upper as a layer: a layerEntry a line, the last says so; then, for
//	         every line "open ID" that is sent, a line and a descriptor
//
// or, if that cannot be had, one line with the member "error".

// TraceHeader tells what will be seen.
type TraceHeader struct {
	Mountpoint string `json:"mountpoint"`

	// Mode is "observe" if the kernel was told to keep nothing, so that every
	// operation is an event, and "cached" if it answers for itself what it
	// knows: names, attributes, cached directories and symlinks, and with
	// passthrough the data of open files.
	Mode string `json:"mode"`
}

// TraceEvent is an overlay.Event as JSON.
type TraceEvent struct {
	Time    time.Time `json:"time"`
	Op      string    `json:"op"`
	Path    string    `json:"path"`
	To      string    `json:"to,omitempty"`
	Layer   string    `json:"layer"` // "upper", "none", or the layer: its diffID, or its directory
	Bytes   int64     `json:"bytes"`
	Micros  float64   `json:"micros"` // how long it took, without the way through the kernel
	Error   string    `json:"error,omitempty"`
	Mode    string    `json:"mode"`              // as in the header
	Dropped int64     `json:"dropped,omitempty"` // events before this one that came faster than they were read
}

// refusal is what stands in the first line of an answer if it is no.
type refusal struct {
	Error string `json:"error,omitempty"`
}

// traceBacklog is how many events wait for a slow reader before some are dropped.
const traceBacklog = 8192

// control answers on a mount's socket.
type control struct {
	fs     *overlay.FS
	header TraceHeader
	layers []string // base first
	socket net.Listener
	ctx    context.Context // ends with the mount
	stop   context.CancelFunc
	served chan struct{} // closed when no client is left
}

// listen makes the socket and serves clients until close.
func (d runDir) listen(key string, fs *overlay.FS, header TraceHeader, layers []string) (*control, error) {
	if err := d.make(); err != nil {
		return nil, err
	}
	dir, err := os.Open(string(d))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	os.Remove(d.socketFile(key)) // of a process that was killed
	socket, err := net.Listen("unix", shortPath(dir, key))
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", d.socketFile(key), err)
	}
	// Close must not remove it by the name it was bound with, which is another
	// file's by then.
	socket.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(d.socketFile(key), 0o600); err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	c := &control{fs: fs, header: header, layers: layers, socket: socket, served: make(chan struct{})}
	c.ctx, c.stop = context.WithCancel(context.Background())
	go c.serve()
	return c, nil
}

func (d runDir) socketFile(key string) string { return filepath.Join(string(d), key+".sock") }

// shortPath names a socket in dir: the path of a socket must fit into 108 bytes,
// whatever the run directory is called.
func shortPath(dir *os.File, key string) string {
	return "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + key + ".sock"
}

// close ends all clients and waits for them.
func (c *control) close() {
	c.stop()
	c.socket.Close()
	<-c.served
}

func (c *control) serve() {
	defer close(c.served)
	clients := make(chan struct{})
	n := 0
	for {
		conn, err := c.socket.Accept()
		if err != nil {
			break
		}
		n++
		go func() {
			defer func() { clients <- struct{}{} }()
			defer conn.Close()
			// Whoever does not read cannot keep the mount from ending.
			unhook := context.AfterFunc(c.ctx, func() { conn.SetDeadline(time.Now().Add(time.Second)) })
			defer unhook()
			c.answer(conn)
		}()
	}
	for ; n > 0; n-- {
		<-clients
	}
}

func (c *control) answer(conn net.Conn) {
	word, err := bufio.NewReaderSize(io.LimitReader(conn, 64), 64).ReadString('\n')
	if err != nil {
		return
	}
	out := json.NewEncoder(conn)
	switch strings.TrimSpace(word) {
	case "sync":
		var answer refusal
		if err := c.fs.Sync(); err != nil {
			answer.Error = err.Error()
		}
		out.Encode(answer)
	case "trace":
		c.trace(conn, out)
	case "layer":
		c.layer(conn, out)
	default:
		out.Encode(refusal{fmt.Sprintf("is served by a version of strata that does not understand %q", word)})
	}
}

// trace sends events until the client or the mount is gone.
func (c *control) trace(conn net.Conn, out *json.Encoder) {
	if out.Encode(c.header) != nil {
		return
	}
	events := make(chan overlay.Event, traceBacklog)
	var dropped atomic.Int64
	stop := c.fs.Observe(func(e overlay.Event) {
		select {
		case events <- e:
		default: // whoever uses the mount must not wait for whoever watches it
			dropped.Add(1)
		}
	})
	defer stop()
	gone := make(chan struct{})
	go func() { // the client says nothing more; what comes is its end
		defer close(gone)
		io.Copy(io.Discard, conn)
	}()
	defer func() { // after the connection's end, which ends the copying
		conn.Close()
		<-gone
	}()
	send := func(e overlay.Event) error {
		t := c.event(e)
		t.Dropped = dropped.Swap(0)
		return out.Encode(t)
	}
	for {
		select {
		case <-gone:
			return
		case e := <-events:
			if send(e) != nil {
				return
			}
		case <-c.ctx.Done(): // nothing happens any more; what has must be told
			for len(events) > 0 {
				if send(<-events) != nil {
					return
				}
			}
			return
		}
	}
}

func (c *control) event(e overlay.Event) TraceEvent {
	t := TraceEvent{
		Time: e.Time, Op: string(e.Op), Path: e.Path, To: e.To, Bytes: e.Bytes,
		Micros: float64(e.Duration) / float64(time.Microsecond), Mode: c.header.Mode,
	}
	switch {
	case e.Layer == overlay.LayerUpper:
		t.Layer = "upper"
	case e.Layer >= 0 && e.Layer < len(c.layers):
		t.Layer = c.layers[e.Layer]
	default:
		t.Layer = "none"
	}
	if e.Err != 0 {
		t.Error = unix.ErrnoName(e.Err)
	}
	return t
}
