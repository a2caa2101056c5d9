package fusefs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"testing"

	"strata/internal/histories"
	"strata/internal/need"
	"strata/overlay"
	"strata/overlay/tree"
)

// stage is where mounted histories are played: processes that use a plain directory, a
// mount of ours, which this process serves, and the kernel's overlayfs. This process
// never looks into its own mount.
type stage struct {
	memory              *histories.Memory
	plain, ours, kernel histories.Children
	met                 map[int]int
	steps               int
}

func newStage(t *testing.T) *stage {
	t.Helper()
	needRoot(t)
	need.Overlayfs(t)
	memory, err := histories.MountMemory()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := memory.Unmount(); err != nil {
			t.Error(err)
		}
	})
	s := &stage{memory: memory, met: map[int]int{}}
	for _, c := range []*histories.Children{&s.plain, &s.ours, &s.kernel} {
		if *c, err = histories.StartChildren(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

// serving is a mount by this process.
type serving struct {
	conn   *connection
	server *Server
	fs     *overlay.FS
	lowers []io.Closer
	logged *strings.Builder

	fds        []string // before it was mounted
	goroutines int
}

// serveHere mounts an upper of the arena over its lowers, which are one tree file if
// there is one.
func serveHere(a *histories.Arena, w way, upper, work string) (*serving, error) {
	o := w.options
	s := &serving{logged: &strings.Builder{}, fds: openFDs(), goroutines: runtime.NumGoroutine()}
	lower, err := s.openLowers(a)
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	o.AllowOther, o.SUID, o.Dev = true, true, true
	o.Logger = slog.New(slog.NewTextHandler(s.logged, nil))
	s.fs, err = overlay.Open(overlay.Options{Lower: lower, Upper: a.Dir(upper), Work: a.Dir(work), Format: w.format, Logger: o.Logger})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	o.fill()
	s.conn = newConnection(s.fs, o)
	if s.server, err = serve(a.Dir("merged"), s.fs.ReadOnly(), o, s.conn); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *serving) openLowers(a *histories.Arena) (tree.Tree, error) {
	if _, err := os.Stat(a.Dir("tree")); err == nil {
		lower, err := histories.OpenTreeFile(a.Top)
		if err != nil {
			return nil, err
		}
		s.lowers = append(s.lowers, lower)
		return lower, nil
	}
	var layers []tree.Tree
	for _, dir := range a.Layers {
		h, err := tree.OpenHostDir(dir, tree.HostDirOptions{})
		if err != nil {
			return nil, err
		}
		s.lowers = append(s.lowers, h)
		layers = append(layers, h)
	}
	return tree.Stack(layers...), nil
}

func (s *serving) close() error {
	var err error
	if s.fs != nil {
		err = s.fs.Close()
	}
	for _, l := range s.lowers {
		err = errors.Join(err, l.Close())
	}
	return err
}

// unmount wants nothing to be left: no handle, no goroutine and no descriptor, and
// nothing to have gone wrong on the way.
func (s *serving) unmount() error {
	err := histories.WhileBusy(s.server.Unmount)
	if err != nil {
		return errors.Join(err, s.server.Detach())
	}
	s.server.Wait()
	c := (&counting{connection: s.conn}).counts()
	if c.Files != 0 || c.Dirs != 0 {
		err = fmt.Errorf("after unmount %d files and %d directories are open", c.Files, c.Dirs)
	}
	err = errors.Join(err, s.close())
	if n := settled(s.goroutines, runtime.NumGoroutine); n > s.goroutines {
		err = errors.Join(err, fmt.Errorf("after unmount %d goroutines, %d before", n, s.goroutines))
	}
	if n := settled(len(s.fds), func() int { return len(openFDs()) }); n > len(s.fds) {
		err = errors.Join(err, fmt.Errorf("after unmount %q are open, before %q", openFDs(), s.fds))
	}
	if s.logged.Len() > 0 {
		err = errors.Join(err, fmt.Errorf("logged:\n%s", s.logged))
	}
	return err
}

// mounted calls fn while an upper is mounted and our processes are in it.
func (s *stage) mounted(a *histories.Arena, w way, upper, work string, fn func() error) (wrong []string) {
	m, err := serveHere(a, w, upper, work)
	if err != nil {
		return []string{err.Error()}
	}
	err = s.ours.Enter(a.Dir("merged"))
	if err == nil {
		err = fn()
	}
	for _, err := range []error{err, s.ours.Leave(), m.unmount()} {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	return wrong
}
