package layerstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// objectMode is that of every object. Nobody but the store's owner can come
// near one, so a umask that takes bits away does no harm.
const objectMode = 0o444

// objectName is an object's path relative to objects/.
func objectName(d tree.ObjectDigest) string {
	x := hex.EncodeToString(d[:])
	return x[:2] + "/" + x[2:]
}

// OpenObject opens an object for reading: a Store is the tree.Objects of all
// its trees. The file is on a read-only mount where that may be made, so that
// the kernel can be told to read it for others (FUSE passthrough) and still
// nobody can write to it.
func (s *Store) OpenObject(d tree.ObjectDigest) (*os.File, error) {
	fd, err := openat(s.reading, objectName(d), unix.O_RDONLY, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open object", Path: s.path(objectsDir, objectName(d)), Err: err}
	}
	return os.NewFile(uintptr(fd), s.path(objectsDir, objectName(d))), nil
}

// hasObject tells whether the store has d. An object cut short by a damaged
// filesystem does not count, so loading again mends it.
func (s *Store) hasObject(d tree.ObjectDigest, size int64) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(s.objects.Fd()), objectName(d), &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == size
}

// claim says that the caller is going to stage d, unless it is known already.
func (h *Hold) claim(d tree.ObjectDigest, size int64) (known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.staged[d] || !h.damaged[d] && h.s.hasObject(d, size) {
		return true
	}
	h.staged[d] = true
	return false
}

// stageObject writes a content into staging unless it is known.
func (h *Hold) stageObject(d tree.ObjectDigest, data []byte) (known bool, err error) {
	if h.claim(d, int64(len(data))) {
		return true, nil
	}
	name := hex.EncodeToString(d[:])
	fd, err := openat(h.objects, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, objectMode)
	if err != nil {
		return false, h.stagingError("create", name, err)
	}
	for len(data) > 0 && err == nil {
		var n int
		n, err = ignoringEINTR(func() (int, error) { return unix.Write(fd, data) })
		data = data[max(n, 0):]
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return false, h.stagingError("write", name, err)
	}
	return false, nil
}

// streamObject is stageObject for a content that is too large to be held in
// memory: what Read gives is written before it is known whether it is known.
// The bytes also go to tee, if there is one. Runs of zeros become holes, so a
// sparse file does not fill the disk.
func (h *Hold) streamObject(r io.Reader, size int64, tee io.Writer, buf []byte) (d tree.ObjectDigest, known bool, err error) {
	name := h.streamName()
	fd, err := openat(h.objects, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, objectMode)
	if err != nil {
		return d, false, h.stagingError("create", name, err)
	}
	f := os.NewFile(uintptr(fd), h.path(stagedObjects, name))
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, h.unstage(name))
			return
		}
		known, err = h.nameStaged(name, d, size)
	}()

	sum := sha256.New()
	for off := int64(0); off < size; {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), size-off)])
		if err != nil {
			return d, false, err
		}
		sum.Write(buf[:n])
		if tee != nil {
			if _, err := tee.Write(buf[:n]); err != nil {
				return d, false, err
			}
		}
		if err := writeHoles(f, buf[:n], off); err != nil {
			return d, false, err
		}
		off += int64(n)
	}
	if err := f.Truncate(size); err != nil { // a hole at the end
		return d, false, err
	}
	sum.Sum(d[:0])
	return d, false, nil
}

// nameStaged gives a content in staging its digest for a name, or drops it if it
// is known.
func (h *Hold) nameStaged(name string, d tree.ObjectDigest, size int64) (known bool, err error) {
	if h.claim(d, size) {
		return true, h.unstage(name)
	}
	return false, unix.Renameat(int(h.objects.Fd()), name, int(h.objects.Fd()), hex.EncodeToString(d[:]))
}

// unstage drops a content that has no digest yet.
func (h *Hold) unstage(name string) error { return unix.Unlinkat(int(h.objects.Fd()), name, 0) }

// streamName is a name in staging for a content whose digest is not known yet.
func (h *Hold) streamName() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams++
	return fmt.Sprintf("stream-%d", h.streams)
}

// holeSize is the least run of zeros that becomes a hole; it is aligned to
// the content's start.
const holeSize = 64 << 10

var zeros [holeSize]byte

// writeHoles writes b at off but leaves out blocks of zeros.
func writeHoles(f *os.File, b []byte, off int64) error {
	for len(b) > 0 {
		n := 0 // bytes before the next hole
		for n < len(b) && !isZero(b[n:min(n+holeSize, len(b))]) {
			n += holeSize
		}
		n = min(n, len(b))
		if n > 0 {
			if _, err := f.WriteAt(b[:n], off); err != nil {
				return err
			}
		} else {
			n = min(holeSize, len(b))
		}
		b, off = b[n:], off+int64(n)
	}
	return nil
}

func isZero(b []byte) bool { return bytes.Equal(b, zeros[:len(b)]) }

// publishObjects renames what is staged into objects/.
func (h *Hold) publishObjects() error {
	for d := range h.staged {
		if err := h.publishObject(d); err != nil {
			return fmt.Errorf("publish object %s: %w", d, err)
		}
	}
	h.staged = map[tree.ObjectDigest]bool{}
	return nil
}

func (h *Hold) publishObject(d tree.ObjectDigest) error {
	staged, stored := hex.EncodeToString(d[:]), objectName(d)
	from, to := int(h.objects.Fd()), int(h.s.objects.Fd())
	err := unix.Renameat2(from, staged, to, stored, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.ENOENT) {
		if err = unix.Mkdirat(to, stored[:2], 0o700); err == nil || errors.Is(err, unix.EEXIST) {
			err = unix.Renameat2(from, staged, to, stored, unix.RENAME_NOREPLACE)
		}
	}
	switch {
	case errors.Is(err, unix.EINVAL):
		// A filesystem that cannot keep the old one: both are the same bytes.
		return unix.Renameat(from, staged, to, stored)
	case errors.Is(err, unix.EEXIST):
		var st unix.Stat_t
		if err := unix.Fstatat(from, staged, &st, 0); err != nil {
			return err
		}
		if !h.damaged[d] && h.s.hasObject(d, st.Size) {
			return nil // another process was faster; ours goes with the staging directory
		}
		if !h.damaged[d] { // else it is told of by who repairs
			h.s.log.Warn("replacing damaged object", "object", d.String())
		}
		err := unix.Renameat(from, staged, to, stored)
		if errors.Is(err, unix.EISDIR) {
			if err = os.RemoveAll(h.s.path(objectsDir, stored)); err == nil {
				err = unix.Renameat(from, staged, to, stored)
			}
		}
		return err
	}
	return err
}

// openStagedObjects makes staging ready to take objects.
func (h *Hold) openStagedObjects() error {
	if h.objects != nil {
		return nil
	}
	dir, err := h.mkdir(stagedObjects)
	if err != nil {
		return err
	}
	h.objects, err = os.Open(dir)
	return err
}

func (h *Hold) stagingError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: h.path(stagedObjects, name), Err: err}
}

func openat(dir *os.File, name string, flags int, mode uint32) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Openat(int(dir.Fd()), name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
	})
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}
