package layerstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// measure estimates how much there is to read.
func (f *fsck) measure() {
	if f.o.Progress == nil {
		return
	}
	filepath.WalkDir(f.s.path(objectsDir), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it is told of when its turn comes
		}
		if info, err := e.Info(); err == nil {
			f.total += info.Size()
		}
		return nil
	})
	layers, _ := os.ReadDir(f.s.path(layersDir))
	for _, n := range layers {
		if d, err := layerOf(n.Name()); err == nil {
			f.total += f.s.layerBytes(d)
		}
	}
}

func (f *fsck) checkObjects(ctx context.Context) error {
	dirs, err := os.ReadDir(f.s.path(objectsDir))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		path := filepath.Join(objectsDir, dir.Name())
		if b, err := hex.DecodeString(dir.Name()); err != nil || len(b) != 1 || !dir.IsDir() {
			f.leftover(path, errForeign, nil)
			continue
		}
		names, err := os.ReadDir(f.s.path(path))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gc was let in
		} else if err != nil {
			return err
		}
		for _, n := range names {
			var d tree.ObjectDigest
			if m, err := hex.Decode(d[:], []byte(dir.Name()+n.Name())); err != nil || m != len(d) || objectName(d) != dir.Name()+"/"+n.Name() {
				f.leftover(filepath.Join(path, n.Name()), errForeign, nil)
				continue
			}
			if err := f.checkObject(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fsck) checkObject(ctx context.Context, d tree.ObjectDigest) error {
	f.report.Objects++
	damage, err := asDamage(f.lookAtObject(ctx, d, f.seen(objectsDir, d.String())))
	if err != nil {
		return err
	}
	if damage != nil && !errors.Is(damage, errMissing) { // missing: gc was let in
		f.noteObject(d, damage)
	}
	f.at(objectsDir, d.String())
	return nil
}

func (f *fsck) noteObject(d tree.ObjectDigest, err error) {
	f.note(Damage{
		Kind: "object", Name: d.String(), Path: filepath.Join(objectsDir, objectName(d)), Err: err, object: d,
		again: func(ctx context.Context) error { return f.lookAtObject(ctx, d, false) },
	})
}

// lookAtObject returns what is wrong with an object. With known, its bytes are
// not read.
func (f *fsck) lookAtObject(ctx context.Context, d tree.ObjectDigest, known bool) error {
	path := f.s.path(objectsDir, objectName(d))
	if err := wrongKind(path, false); err != nil {
		return err
	}
	fd, err := openat(f.s.objects, objectName(d), unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		return errMissing
	} else if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Mode()&^objectMode != 0 { // neither writable nor set-id
		return fmt.Errorf("has mode %v, and objects are read-only", info.Mode())
	}
	if known {
		f.skip(info.Size())
		return nil
	}
	// What lies in memory may still be right when the disk is not.
	unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED)
	sum := sha256.New()
	n, err := io.CopyBuffer(sum, f.reader(ctx, file), make([]byte, 256<<10))
	if err != nil {
		return err
	}
	if found := tree.ObjectDigest(sum.Sum(nil)); found != d {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return errMissing
		}
		return fmt.Errorf("is damaged: its %d bytes hash to %s", n, found)
	}
	return nil
}
