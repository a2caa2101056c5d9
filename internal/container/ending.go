package container

import (
	"context"
	"errors"
	"time"

	"strata/fusefs"
	"strata/overlay"
)

// A mount that was taken away by umount(8) is not over: its process first writes to
// the upper what is left to write, and umount does not wait for that. Whoever mounts
// the same again is not told that it is in use, but waits.
const (
	// endingPatience is for a process that has said that it ends.
	endingPatience = 30 * time.Second

	// lostPatience is for one whose mount is not where it was: it may be about to
	// say so, but the mount may also be detached and in use, or another
	// namespace's.
	lostPatience = 2 * time.Second
)

// patience says how long to wait for what the process that wrote the record holds; not
// at all while it serves.
func (r *Record) patience() time.Duration {
	if r.Ending {
		return endingPatience
	}
	if mounted, _, err := fusefs.At(r.Mountpoint); err == nil && mounted {
		return 0
	}
	return lostPatience
}

// ended waits for a mount that is ending to take its record away. One that
// serves on it leaves alone.
func (d runDir) ended(ctx context.Context, key string) error {
	start := time.Now()
	for {
		record, err := d.read(key)
		if err != nil || record == nil || !record.Alive() || time.Since(start) >= record.patience() {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// openWhenEnded is overlay.Open, which it tries again as long as the process that
// has the upper is one of this directory's that is ending.
func (d runDir) openWhenEnded(ctx context.Context, o overlay.Options) (*overlay.FS, error) {
	start := time.Now()
	for {
		fs, err := overlay.Open(o)
		busy := (*overlay.BusyError)(nil)
		if !errors.As(err, &busy) {
			return fs, err
		}
		patience := lostPatience // who had it was gone before that could be seen
		if busy.PID != 0 {
			record, readErr := d.of(busy.PID)
			if record == nil {
				return nil, errors.Join(err, readErr)
			}
			patience = record.patience()
		}
		if time.Since(start) >= patience {
			return nil, err
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// pause is the time between two looks at what others do.
func pause(ctx context.Context) error {
	const step = 5 * time.Millisecond
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(step):
		return nil
	}
}
