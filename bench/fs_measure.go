package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// measure takes one measurement and notes it. Only what ends the whole run is an
// error.
func (r *fsRun) measure(ctx context.Context, w *Workload, c Contender, to *Result) error {
	data, err := r.data.get(ctx, w.Data)
	if err != nil {
		return err
	}
	var value float64
	if w.Figure != nil {
		value, err = r.figure(ctx, w, c, data)
	} else {
		err = r.with(ctx, c, data, w.Own, func(v *View) error {
			var err error
			value, to.Operations, err = r.time(ctx, w, data, v)
			return err
		})
	}
	out := (*LeftOutError)(nil)
	switch {
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), r.leftMounts())
	case errors.As(err, &out):
		to.LeftOut = out.Reason
	case err != nil:
		to.Failed = strings.ReplaceAll(err.Error(), "\n", "; ")
		return r.leftMounts() // nothing goes on beside a mount that could not be taken away
	default:
		to.Values = append(to.Values, value)
	}
	return nil
}

// time does the work until it has taken long enough, and returns the seconds of
// one operation.
func (r *fsRun) time(ctx context.Context, w *Workload, data *Data, v *View) (perOperation float64, operations int, err error) {
	s := &Site{Dir: v.Dir, Data: data, Sizes: r.o.Sizes}
	if s.Scratch, err = r.scratch(r.dir); err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.Scratch)) }()
	if s.fd, err = unix.Open(v.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return 0, 0, &os.PathError{Op: "open", Path: v.Dir, Err: err}
	}
	defer unix.Close(s.fd)
	if w.Prepare != nil {
		if err := w.Prepare(ctx, s); err != nil {
			return 0, 0, err
		}
	}
	switch {
	case w.Cold:
		if _, err := r.dropCaches(); err != nil {
			return 0, 0, err
		}
	case !w.Own:
		if _, err := w.Work(ctx, s); err != nil { // warms
			return 0, 0, err
		}
		s.Pass++
	}
	var took time.Duration
	for {
		if w.Before != nil {
			if err := w.Before(ctx, s); err != nil {
				return 0, 0, err
			}
		}
		var n int
		took += timed(func() { n, err = w.Work(ctx, s) })
		if err != nil {
			return 0, 0, err
		}
		operations += n
		s.Pass++
		if w.Cold || w.Once || took >= r.o.Least {
			return took.Seconds() / float64(max(operations, 1)), operations, nil
		}
	}
}

// timed returns how long f took.
func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// figure takes a measurement that mounts for itself.
func (r *fsRun) figure(ctx context.Context, w *Workload, c Contender, data *Data) (value float64, err error) {
	var views []*View
	var scratches []string
	defer func() {
		for _, v := range slices.Backward(views) {
			err = errors.Join(err, v.Close())
		}
		for _, dir := range scratches {
			err = errors.Join(err, removeUnmounted(dir))
		}
	}()
	return w.Figure(ctx, &Trial{
		Data: data, Sizes: r.o.Sizes, DropCaches: r.dropCaches,
		Mount: func(ctx context.Context, own, beside bool) (*View, error) {
			in := r.upper
			if beside {
				in = r.dir
			}
			scratch, err := r.scratch(in)
			if err != nil {
				return nil, err
			}
			scratches = append(scratches, scratch)
			v, err := c.Mount(ctx, data.place(scratch, own))
			if err == nil {
				views = append(views, v)
			}
			return v, err
		},
	})
}

// with mounts afresh, does something and takes everything away again.
func (r *fsRun) with(ctx context.Context, c Contender, data *Data, own bool, do func(*View) error) (err error) {
	scratch, err := r.scratch(r.upper)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeUnmounted(scratch)) }()
	v, err := c.Mount(ctx, data.place(scratch, own))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	return do(v)
}

func (d *Data) place(scratch string, own bool) Place {
	return Place{Lower: d.Lower, Merged: d.Merged, Image: d.Image, Scratch: scratch, Own: own}
}

func (r *fsRun) scratch(in string) (string, error) {
	r.scratches++
	dir := filepath.Join(in, fmt.Sprint("s", r.scratches))
	return dir, os.Mkdir(dir, 0o755)
}

// dropCaches makes the kernel forget names and data, where it may be asked to.
func (r *fsRun) dropCaches() (bool, error) {
	if r.o.KeepCaches || os.Geteuid() != 0 {
		return false, nil
	}
	unix.Sync() // what is dirty is not dropped
	err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) { // root of a container
		return false, nil
	}
	r.report.CachesDropped = err == nil
	return err == nil, err
}

// floor measures what one FUSE request costs at least: a name that an empty
// server, a process of its own, does not have.
func (r *fsRun) floor(ctx context.Context) (seconds float64, err error) {
	strata := ContenderOptions{Strata: r.o.Strata, Dir: r.dir}
	if err := strata.missing(); err != nil {
		return 0, err
	}
	scratch, err := r.scratch(r.upper)
	if err != nil {
		return 0, err
	}
	merged := filepath.Join(scratch, "merged")
	if err := os.Mkdir(merged, 0o755); err != nil {
		return 0, err
	}
	v, err := serveView(ctx, merged, strata.foreground("bench", "floor", merged))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, v.Close(), removeUnmounted(scratch)) }()
	var values []float64
	const requests, batches = 1000, 9
	for range batches {
		var st unix.Stat_t
		took := timed(func() {
			for range requests {
				if err = unix.Lstat(merged+"/none", &st); err != unix.ENOENT {
					return
				}
			}
		})
		if err != unix.ENOENT {
			return 0, fmt.Errorf("stat of a name that the empty server does not have: %v", err)
		}
		values = append(values, took.Seconds()/requests)
	}
	return Summarize(values).Median, ctx.Err()
}
