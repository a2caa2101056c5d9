package fusefs

import (
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A signal that kills nobody does not stop a copy-up.
func TestSignalsDoNotInterrupt(t *testing.T) {
	data := strings.Repeat("0123456789abcdef", 4<<20)
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/big", data) })
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Stop(signals)

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	thread, stop, sent := unix.Gettid(), make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				sent <- n
				return
			case <-time.After(time.Millisecond):
				unix.Tgkill(os.Getpid(), thread, unix.SIGUSR1)
			}
		}
	}()
	fd, err := unix.Open(m.path("big"), unix.O_RDWR, 0)
	close(stop)
	if n := <-sent; n == 0 {
		t.Error("no signal was sent while the file was copied up")
	}
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	wantContent(t, m.path("big"), data)
}

func TestRequestThatIsNotInterrupted(t *testing.T) {
	cancel := make(chan struct{})
	r := request{interrupted: cancel, thread: uint32(os.Getpid())}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
	close(cancel)
	if err := r.Err(); err != nil {
		t.Errorf("interrupted, but not killed: %v", err)
	}
	if err := (request{interrupted: cancel}).Err(); err != nil {
		t.Errorf("interrupted, process unknown: %v", err)
	}
}
