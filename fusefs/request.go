package fusefs

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// request is the context of a request: it ends when the process that waits for
// the answer is being killed.
//
// The kernel reports every signal that the process gets as an interrupt, a
// timer's too. To give up for these would let open(2) fail with EINTR, which no
// local filesystem does, and a program with a profiling timer could not copy up
// a big file, however often it tried.
//
// It has no Done channel: who works for long asks Err from time to time.
type request struct {
	interrupted <-chan struct{}
	thread      uint32 // of the process, in our pid namespace; 0 if it is not in it
	uid, gid    uint32 // that files which it makes belong to
}

var _ context.Context = request{}

func newRequest(cancel <-chan struct{}, h *fuse.InHeader) request {
	return request{cancel, h.Pid, h.Uid, h.Gid}
}

func (r request) Deadline() (time.Time, bool) { return time.Time{}, false }
func (r request) Done() <-chan struct{}       { return nil }
func (r request) Value(any) any               { return nil }

func (r request) Err() error {
	select {
	case <-r.interrupted:
		if beingKilled(r.thread) {
			return context.Canceled
		}
	default:
	}
	return nil
}

// sigkillBit stands for SIGKILL in the masks of /proc/PID/status.
const sigkillBit = 1 << 8

// beingKilled tells whether a thread has a SIGKILL pending, which is also what
// the kernel makes of any signal that ends a process.
func beingKilled(thread uint32) bool {
	for _, field := range []string{"SigPnd:", "ShdPnd:"} {
		pending, err := strconv.ParseUint(threadStatus(thread, field), 16, 64)
		if err == nil && pending&sigkillBit != 0 {
			return true
		}
	}
	return false
}

// inGroup tells whether the process is in a group. One that we cannot see is in
// the group alone that its files get.
func (r request) inGroup(gid uint32) bool {
	return r.gid == gid || slices.Contains(strings.Fields(threadStatus(r.thread, "Groups:")), strconv.FormatUint(uint64(gid), 10))
}

// threadStatus returns what /proc/PID/status says in the line of field; "" if the
// thread cannot be seen.
func threadStatus(thread uint32, field string) string {
	if thread == 0 {
		return ""
	}
	status, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(thread), 10) + "/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
