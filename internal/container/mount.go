package container

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/fusefs"
	"strata/layerstore"
	"strata/overlay"
)

// Mount is a merged tree that this process serves.
type Mount struct {
	Dir string // where it is

	log  *slog.Logger
	done chan struct{} // closed when all is given back
	err  error         // of giving back; set before done is closed
}

// mountHome is what a mount has around it: where its record is, and what is
// given back last.
type mountHome struct {
	run     runDir
	key     string   // in run
	name    string   // of the container, if there is one
	layers  []string // what traces call the lower's layers; base first
	release func() error
}

// source is what /proc/mounts shows as the device.
func (h *mountHome) source() string {
	if h.name == "" {
		return "strata"
	}
	return "strata:" + h.name
}

// Mount mounts the container and serves it from this process until it is
// unmounted. An empty dir means the default mount point. If the container is
// mounted already, the error is a *MountedError; a dead mount is cleared away.
func (ct *Container) Mount(ctx context.Context, dir string, o MountOptions) (*Mount, error) {
	m, err := ct.mount(ctx, dir, o)
	if err != nil {
		return nil, fmt.Errorf("mount container %s: %w", ct.Name, err)
	}
	return m, nil
}

func (ct *Container) mount(ctx context.Context, dir string, o MountOptions) (*Mount, error) {
	lock, err := ct.lock(ctx)
	if err != nil {
		return nil, err
	}
	m, err := ct.mountLocked(ctx, dir, o, lock)
	if err != nil {
		lock.Close()
	}
	return m, err
}

// mountLocked takes over the lock if it succeeds.
func (ct *Container) mountLocked(ctx context.Context, dir string, o MountOptions, lock *os.File) (*Mount, error) {
	run, key := ct.all.run, string(ct.ID)
	if err := clearDead(run, key, ct.all.log); err != nil {
		return nil, err
	}
	if dir == "" {
		dir = run.mountpoint(key)
		if err := mkdirOpen(dir); err != nil {
			return nil, err
		}
		// We have the lock, so nobody serves what may be mounted there: its
		// process died before it could leave a record.
		if err := detachDead(dir, ct.all.log); err != nil {
			return nil, err
		}
	}
	dir, err := resolveDir(dir)
	if err != nil {
		return nil, err
	}
	if err := checkFree(dir); err != nil {
		return nil, err
	}
	fs, chain, err := ct.openOverlay(ctx, o)
	if err != nil {
		return nil, err
	}
	layers := make([]string, len(ct.Layers))
	for i, diffID := range ct.Layers {
		layers[i] = string(diffID)
	}
	return serve(dir, fs, o, ct.all.log, mountHome{run: run, key: key, name: ct.Name, layers: layers, release: func() error {
		return errors.Join(chain.Close(), lock.Close())
	}})
}

// openOverlay lays the upper over the chain. The caller, who has the lock,
// closes both, the chain last.
func (ct *Container) openOverlay(ctx context.Context, o MountOptions) (*overlay.FS, *layerstore.Chain, error) {
	format, err := overlay.ParseFormat(ct.Format)
	if err != nil {
		return nil, nil, err
	}
	chain, err := ct.all.store.Chain(ctx, ct.Layers)
	if err != nil {
		return nil, nil, err
	}
	fs, err := overlay.Open(overlay.Options{
		Lower: chain.Tree(), LowerID: string(chain.ID()),
		Upper: ct.UpperDir(), Work: ct.WorkDir(), Format: format,
		ReadOnly: o.ReadOnly, Volatile: o.Volatile, Logger: ct.all.log,
	})
	if err != nil {
		return nil, nil, errors.Join(err, chain.Close())
	}
	return fs, chain, nil
}

// serve mounts fs at dir and gives everything back when it is unmounted, by
// whomever. If it fails, fs and what home has are given back at once.
func serve(dir string, fs *overlay.FS, o MountOptions, log *slog.Logger, home mountHome) (*Mount, error) {
	header := TraceHeader{Mountpoint: dir, Mode: "cached"}
	if o.Observe {
		header.Mode = "observe"
	}
	control, err := home.run.listen(home.key, fs, header, home.layers)
	if err != nil {
		return nil, errors.Join(err, fs.Close(), home.run.remove(home.key), home.release())
	}
	server, err := fusefs.Mount(dir, fs, o.fusefs(home.source(), log))
	if err != nil {
		control.close()
		return nil, errors.Join(err, fs.Close(), home.run.remove(home.key), home.release())
	}
	m := &Mount{Dir: dir, log: log, done: make(chan struct{})}
	record := Record{
		Name: home.name, Mountpoint: dir, Options: strings.Join(o.given, ","),
		Since: time.Now().UTC(), Exits: o.Exits,
	}
	err = home.run.write(home.key, record)
	go func() {
		server.Wait()
		record.Ending = true
		ending := home.run.write(home.key, record)
		control.close()
		m.err = errors.Join(ending, fs.Close(), home.run.remove(home.key), home.release())
		close(m.done)
	}()
	if err != nil {
		return nil, errors.Join(err, m.Unmount())
	}
	return m, nil
}

// checkFree refuses to mount over another mount of ours: the two would have one
// name, and whoever unmounts it would get the wrong one.
func checkFree(dir string) error {
	mounted, _, err := fusefs.At(dir)
	if err != nil {
		return err
	}
	if mounted {
		return fmt.Errorf("another mount of strata is at %s: unmount that first: %w", dir, unix.EBUSY)
	}
	return nil
}

// Wait returns when the mount is gone and all that it wrote is in its upper.
func (m *Mount) Wait() error {
	<-m.done
	return m.err
}

// Unmount ends the mount; a *fusefs.BusyError tells who still uses it.
func (m *Mount) Unmount() error {
	err := fusefs.Unmount(m.Dir, false)
	if err != nil && !errors.Is(err, fusefs.ErrNotMounted) { // somebody else was faster
		return err
	}
	return m.Wait()
}

// Serve waits until the mount is gone. When ctx is done it unmounts. A mount
// that is in use then disappears from its directory at once, and Serve returns
// when the last user has gone.
func (m *Mount) Serve(ctx context.Context) error {
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
	}
	err := m.Unmount()
	if busy := (*fusefs.BusyError)(nil); errors.As(err, &busy) {
		m.log.Warn("the mount is in use: it is detached, and ends with its last user", "dir", m.Dir, "users", busy.Users)
		if err := fusefs.Unmount(m.Dir, true); err != nil {
			return err
		}
		return m.Wait()
	}
	return err
}

// clearDead clears away a mount whose process has died, so that its mount
// point can be used again.
func clearDead(run runDir, key string, log *slog.Logger) error {
	record, err := run.read(key)
	if err != nil || record == nil || record.Alive() {
		return err
	}
	if err := detachDead(record.Mountpoint, log); err != nil {
		return err
	}
	return run.remove(key)
}

// detachDead takes away what is mounted at dir, if it is one of ours and nobody
// serves it.
func detachDead(dir string, log *slog.Logger) error {
	// A record of who has died does not tell that: another mount may have taken
	// the place since.
	if mounted, served, err := fusefs.At(dir); err != nil || !mounted || served {
		return err
	}
	log.Warn("clearing away a mount whose process has died", "dir", dir)
	if err := fusefs.Unmount(dir, true); err != nil {
		return fmt.Errorf("clear away the dead mount at %s: %w", dir, err)
	}
	return nil
}

// Mountpoint is where the container is mounted if no directory is asked for.
func (ct *Container) Mountpoint() string { return ct.all.run.mountpoint(string(ct.ID)) }

// LogFile is what a detached process that serves the container should log to.
// Its directory exists.
func (ct *Container) LogFile() (string, error) {
	file := ct.all.run.logFile(string(ct.ID))
	return file, mkdirOpen(filepath.Dir(file))
}
