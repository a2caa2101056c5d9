package layerstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/overlay/tree"
)

// Damage is something that is not as it must be.
type Damage struct {
	Kind        string // "object", "layer", "blob", "chain", "image", "container", "store" or "leftover"
	Name        string // its digest or id; of the last two, the path
	Path        string // relative to the store's root
	Err         error  // what is wrong
	Consequence string // what cannot be done

	// With FsckOptions.Repair one of these says what has become of it.
	Repaired string // how it was mended; empty if it was not
	Left     error  // why it was not

	again  func(context.Context) error // looks once more
	object tree.ObjectDigest           // of an object
	layer  oci.DiffID                  // of a layer or blob
	chain  oci.ChainID                 // of a chain
	blob   oci.Digest                  // of a blob
	image  oci.Digest                  // of an image: its manifest
	file   string                      // of a layer: treeFile, recipeFile, or empty for all of it
	needed bool                        // by an image or container
}

func (d Damage) Error() string { return fmt.Sprintf("%s %s: %v", d.Kind, d.Name, d.Err) }
func (d Damage) Unwrap() error { return d.Err }

// ErrDamaged is wrapped by errors of reading what turns out not to be what it is
// called. Fsck says more.
var ErrDamaged = errors.New("the store is damaged")

// FsckOptions say how a store is checked; the zero value only looks.
type FsckOptions struct {
	// Repair mends what can be mended; see the package comment, "Repair".
	Repair bool

	// Restart looks at everything, though an interrupted run has looked at a
	// part of it.
	Restart bool

	// BytesPerSecond bounds how fast files are read. Zero means no bound.
	BytesPerSecond int64

	// Progress hears of bytes that were read, of all that are to be. May be nil.
	Progress func(done, total int64)

	// Images are from elsewhere, such as an archive, and may have what is
	// damaged here.
	Images []*oci.Image

	// Pull gets an image by the digest of its manifest from where it was pulled
	// before. It may be nil: then nothing is asked over a network.
	Pull func(ctx context.Context, ref oci.Reference) (*oci.Image, error)
}

// FsckReport says what was looked at and what was found.
type FsckReport struct {
	// Resumed is when the interrupted run began that this one has gone on with;
	// zero if there was none.
	Resumed time.Time

	Objects, Layers, Chains, Images int // that were looked at
	Bytes                           int64

	Damages []Damage
}

// Fsck looks at everything and tells all that is damaged: objects that do not
// hash to their names, trees that are malformed or name objects that are
// missing, tars and blobs that cannot be given back bit for bit, chains that are
// not what their layers give, images without their documents or layers, and
// what does not belong into a store. The error is for what keeps it from
// looking, or that somebody else is looking already.
//
// It runs beside everything else and lets gc in. What it has read when ctx ends
// it need not read the next time.
func (s *Store) Fsck(ctx context.Context, o FsckOptions) (FsckReport, error) {
	f := &fsck{s: s, o: o, badObjects: map[tree.ObjectDigest]bool{}, badTrees: map[oci.DiffID]bool{}}
	err := f.run(ctx)
	for _, d := range f.damages {
		f.report.Damages = append(f.report.Damages, *d)
	}
	if err != nil {
		err = fmt.Errorf("fsck of store %s: %w", s.root, err)
	}
	return f.report, err
}

// fsck is one call of Fsck.
type fsck struct {
	s *Store
	o FsckOptions
	h *Hold // shared; given back for a moment when gc wants the store

	resume fsckState // of the run before
	state  fsckState // of this one
	saved  time.Time
	asked  time.Time // when it was last seen whether gc wants the store

	start       time.Time // of reading
	done, total int64
	skipped     int64 // of done

	damages    []*Damage
	badObjects map[tree.ObjectDigest]bool // also those that are missing
	badTrees   map[oci.DiffID]bool
	blind      bool // there are images, containers or layers that cannot be read
	report     FsckReport

	repairing bool
	pulled    map[oci.Digest]pulledImage
}

func (f *fsck) run(ctx context.Context) (err error) {
	if err := f.checkStanding(); err != nil {
		return err
	}
	if err := f.checkSpecial(); err != nil {
		return err
	}
	lock, err := f.lockOut(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	if f.h, err = f.s.Hold(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.h.Release()) }()
	f.loadState()
	if err := f.check(ctx); err != nil {
		return errors.Join(err, f.saveState())
	}
	if err := f.removeState(); err != nil {
		return err
	}
	if err := f.tellConsequences(ctx); err != nil || !f.o.Repair || len(f.damages) == 0 {
		return err
	}
	return f.repair(ctx)
}

// lockOut keeps other checks out: they would write one state.
func (f *fsck) lockOut(ctx context.Context) (*os.File, error) {
	soon, cancel := context.WithTimeout(ctx, lockOutPatience)
	defer cancel()
	lock, err := lockDir(soon, f.s.path(layersDir), unix.LOCK_EX)
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return lock, err
	}
	who := "another process"
	if others := holders(f.s.path(layersDir)); len(others) > 0 {
		who = others[0].String()
	}
	return nil, fmt.Errorf("%s checks it already: wait for its end", who)
}

// lockOutPatience is for the moment that a check needs to end, or the child of
// another process to become another program.
const lockOutPatience = 300 * time.Millisecond

// check looks at everything; what is quick comes first.
func (f *fsck) check(ctx context.Context) error {
	f.measure()
	f.start = time.Now()
	for _, step := range []func(context.Context) error{f.checkRoot, f.checkImages, f.checkObjects, f.checkLayers, f.checkChains} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := f.giveWay(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// note tells of damage, if err is any. What is damaged in one way need not be
// told of in others.
func (f *fsck) note(d Damage) {
	for _, known := range f.damages {
		if known.Kind == d.Kind && known.Path == d.Path {
			return
		}
	}
	if d.Kind == "object" {
		f.badObjects[d.object] = true
	}
	if d.Kind == "layer" && d.file != recipeFile {
		f.badTrees[d.layer] = true
	}
	f.damages = append(f.damages, &d)
}

// leftover tells of something that does not belong where it is.
func (f *fsck) leftover(path string, why error, again func(context.Context) error) {
	if again == nil {
		again = func(context.Context) error { return stillThere(f.s.path(path), why) }
	}
	f.note(Damage{Kind: "leftover", Name: path, Path: path, Err: why, again: again})
}

func stillThere(path string, why error) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return why
}

// errForeign is what is wrong with files that nobody here has written.
var errForeign = errors.New("is nothing that a store has there")

// wrongKind says what is wrong if path is not a regular file, or directory.
func wrongKind(path string, dir bool) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errMissing
	case err != nil:
		return err
	case dir && !info.IsDir():
		return fmt.Errorf("is no directory, but %s", kindOf(info.Mode()))
	case !dir && !info.Mode().IsRegular():
		return fmt.Errorf("is no regular file, but %s", kindOf(info.Mode()))
	}
	return nil
}

// errMissing is a fs.ErrNotExist to errors.Is.
var errMissing error = missing{}

type missing struct{}

func (missing) Error() string        { return "is missing" }
func (missing) Is(target error) bool { return target == fs.ErrNotExist }

func kindOf(m fs.FileMode) string {
	switch m.Type() {
	case 0:
		return "a regular file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symlink"
	}
	return "a special file (" + m.Type().String() + ")"
}

// strictJSON reads JSON that we have written: a key with another letter would
// otherwise be passed over in silence.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("cannot be read: %w", err)
	}
	return nil
}

// giveWay lets a gc that waits for the store have it: a check may take hours.
// What was found before need not be there after.
func (f *fsck) giveWay(ctx context.Context) error {
	f.asked = time.Now()
	turnstile, err := tryLockDir(f.s.path(tmpDir), unix.LOCK_SH)
	if err == nil {
		return turnstile.Close()
	}
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return err
	}
	if err := f.h.Release(); err != nil {
		return err
	}
	f.h, err = f.s.Hold(ctx)
	if err != nil {
		f.h = &Hold{} // to be released
	}
	return err
}

// pass is called between reads: n bytes are done.
func (f *fsck) pass(ctx context.Context, n int64) error {
	f.done += n
	f.report.Bytes = f.done - f.skipped
	if f.o.Progress != nil && n > 0 {
		f.o.Progress(f.done, max(f.total, f.done))
	}
	if f.o.BytesPerSecond > 0 && !f.repairing {
		due := f.start.Add(time.Duration(float64(f.done-f.skipped) / float64(f.o.BytesPerSecond) * float64(time.Second)))
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(due)):
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.repairing {
		return nil
	}
	if time.Since(f.asked) > askPause {
		if err := f.giveWay(ctx); err != nil {
			return err
		}
	}
	if time.Since(f.saved) > savePause {
		return f.saveState()
	}
	return nil
}

const (
	askPause  = 50 * time.Millisecond // between two looks at the turnstile
	savePause = 2 * time.Second       // between two states
)

// skip counts bytes that need not be read again.
func (f *fsck) skip(n int64) {
	f.done += n
	f.skipped += n
}

// reader reads r at the pace that is allowed.
func (f *fsck) reader(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if f.o.BytesPerSecond > 0 { // not a second's worth at a time
			p = p[:min(int64(len(p)), max(f.o.BytesPerSecond/10, 512))]
		}
		n, err := r.Read(p)
		if passErr := f.pass(ctx, int64(n)); passErr != nil {
			return n, &interrupted{passErr}
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (r readerFunc) Read(p []byte) (int, error) { return r(p) }

// interrupted is an error of looking, not one of what is looked at.
type interrupted struct{ err error }

func (i *interrupted) Error() string { return i.err.Error() }
func (i *interrupted) Unwrap() error { return i.err }

// asDamage tells what is wrong with something apart from what keeps us from
// looking.
func asDamage(err error) (damage, fatal error) {
	if stop := (*interrupted)(nil); errors.As(err, &stop) {
		return nil, stop.err
	}
	return err, nil
}

// readAll reads what open opens to its verified end.
func (f *fsck) readAll(ctx context.Context, open func() (io.ReadCloser, error)) error {
	r, err := open()
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, f.reader(ctx, r), make([]byte, 256<<10))
	return errors.Join(err, r.Close())
}
