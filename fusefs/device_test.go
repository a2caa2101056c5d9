package fusefs

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/internal/need"
)

// waiting is an empty directory in which names that begin with "slow" are looked
// up for as long as it is held.
type waiting struct {
	fuse.RawFileSystem
	asked chan string   // each such name when it is asked for
	held  chan struct{} // closed to let go
}

func (w *waiting) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Attr = fuse.Attr{Ino: 1, Mode: syscall.S_IFDIR | 0o755, Nlink: 2}
	return fuse.OK
}

func (w *waiting) Lookup(cancel <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if strings.HasPrefix(name, "slow") {
		w.asked <- name
		select {
		case <-w.held:
		case <-cancel:
			return fuse.EINTR
		}
	}
	return fuse.ENOENT
}

// mountWaiting serves a waiting directory in this process.
func mountWaiting(t *testing.T) (dir string, w *waiting, d *device) {
	t.Helper()
	need.Root(t)
	need.Fuse(t)
	dir = t.TempDir()
	w = &waiting{fuse.NewDefaultRawFileSystem(), make(chan string, 100), make(chan struct{})}
	fd, err := attachment{source: "waiting"}.mount(dir)
	if err != nil {
		t.Fatal(err)
	}
	var o Options
	o.fill()
	d = newDevice(fd, w, protocolOptions(&o), slog.New(slog.DiscardHandler))
	if _, err := d.negotiate(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		d.serve()
		close(done)
	}()
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
		<-done
		d.close()
	})
	return dir, w, d
}

// ask looks a name up from another process, which can be killed.
func ask(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("stat", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestARequestThatWaitsHoldsUpNobody(t *testing.T) {
	for _, c := range []struct {
		name string
		rest bool
	}{
		{"at once", false},
		{"when the watchman sleeps", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, w, d := mountWaiting(t)
			for c.rest && d.watching.Load() {
				time.Sleep(time.Millisecond)
			}
			var askers []*exec.Cmd
			for i := range 5 { // the kernel would ask for one name once
				askers = append(askers, ask(t, fmt.Sprint(dir, "/slow", i)))
				<-w.asked
				if err := ask(t, dir+"/missing").Wait(); err == nil {
					t.Error("a missing name was found")
				}
			}
			close(w.held)
			for _, a := range askers {
				a.Wait()
			}
		})
	}
}

func TestAKilledProcessInterruptsItsRequest(t *testing.T) {
	dir, w, _ := mountWaiting(t)
	defer close(w.held)
	a := ask(t, dir+"/slow")
	<-w.asked
	if err := a.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	a.Wait() // returns only if the request was given up
}

func TestManyAtOnce(t *testing.T) {
	dir, w, _ := mountWaiting(t)
	close(w.held)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 500 {
				name := dir + "/missing"
				if i%2 == 0 {
					name = dir + "/slow"
				}
				if _, err := os.Lstat(name); !os.IsNotExist(err) {
					t.Errorf("%s: %v", name, err)
				}
				if i%2 == 0 {
					<-w.asked
				}
			}
		})
	}
	all.Wait()
}
