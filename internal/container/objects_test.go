package container

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"strata/layerstore"
)

// Whatever a container's processes try, no object of the store changes: neither
// its data nor its times, which would show that it was touched. The kernel has
// the object itself open (passthrough), by a mount that refuses writes.
func TestNothingReachesAnObject(t *testing.T) {
	attempts := map[string]func(path string, r *os.File, mapped []byte) error{
		"O_RDWR":   func(path string, _ *os.File, _ []byte) error { return scribble(path, os.O_RDWR) },
		"O_TRUNC":  func(path string, _ *os.File, _ []byte) error { return scribble(path, os.O_WRONLY|os.O_TRUNC) },
		"truncate": func(path string, _ *os.File, _ []byte) error { return os.Truncate(path, 1) },
		"MAP_SHARED": func(path string, _ *os.File, _ []byte) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			copy(mem, "scribble")
			return unix.Munmap(mem)
		},
		"mprotect": func(_ string, _ *os.File, mapped []byte) error {
			if err := unix.Mprotect(mapped, unix.PROT_READ|unix.PROT_WRITE); err != unix.EACCES {
				return fmt.Errorf("mprotect: %v", err)
			}
			return nil
		},
		"metadata": func(_ string, r *os.File, _ []byte) error {
			if err := unix.Fsetxattr(int(r.Fd()), "user.k", []byte("v"), 0); err != nil {
				return err
			}
			if err := r.Chmod(0o777); err != nil {
				return err
			}
			return r.Chown(1, 1)
		},
		"descriptor-again": func(path string, r *os.File, _ []byte) error {
			again := fmt.Sprintf("/proc/self/fd/%d", r.Fd())
			if err := scribble(again, os.O_RDWR); err == nil {
				return fmt.Errorf("%s could be written", again)
			}
			if err := scribble(path, os.O_RDWR); err != nil {
				return err
			}
			if err := scribble(again, os.O_RDWR|os.O_TRUNC); err == nil {
				return fmt.Errorf("%s could be written after the copy-up", again)
			}
			return nil
		},
		"mapping-again": func(_ string, _ *os.File, mapped []byte) error {
			start := uintptr(unsafe.Pointer(unsafe.SliceData(mapped)))
			again := fmt.Sprintf("/proc/self/map_files/%x-%x", start, start+uintptr(len(mapped)))
			if err := scribble(again, os.O_RDWR); err == nil {
				return fmt.Errorf("%s could be written", again)
			}
			return nil
		},
		"chattr": func(_ string, r *os.File, _ []byte) error {
			const immutable = 0x10
			if err := unix.IoctlSetPointerInt(int(r.Fd()), unix.FS_IOC_SETFLAGS, immutable); err != unix.ENOTTY {
				return fmt.Errorf("FS_IOC_SETFLAGS: %v", err)
			}
			return nil
		},
	}

	w := newWorld(t)
	text := "image scribbled:1\nlayer one\n"
	for name := range attempts {
		text += fmt.Sprintf("file %s size=100000\n", name)
	}
	w.image = w.load(t, text)
	// Not served by this process: it could not fault a page in and answer for it.
	a, _ := w.detach(t, w.create(t, "aa"))
	b, _ := w.detach(t, w.create(t, "bb"))
	before := hashObjects(t, w.store)
	for name, attempt := range attempts {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(a, name)
			r, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			mapped, err := unix.Mmap(int(r.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Munmap(mapped)
			first := bytes.Clone(mapped)

			if err := attempt(path, r, mapped); err != nil {
				t.Error(err)
			}
			if after := hashObjects(t, w.store); !maps.Equal(before, after) {
				t.Error("an object has changed")
			}
			other, err := os.ReadFile(filepath.Join(b, name))
			if err != nil || len(other) != 100000 || !bytes.Equal(other[:len(first)], first) {
				t.Errorf("another container sees %d other bytes, %v", len(other), err)
			}
			if err := scribble(path, os.O_RDWR); err != nil {
				t.Error(err)
			}
			if !bytes.Equal(mapped, first) {
				t.Error("the mapping shows what was written: the kernel does not have the object itself, and nothing is tested")
			}
		})
	}
}

func scribble(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("scribble")
	return err
}

// hashObjects is what all objects hold and when they were touched.
func hashObjects(t *testing.T, store *layerstore.Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(filepath.Join(store.Root(), "objects"), func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		all[path] = fmt.Sprintf("%x %o %d:%d %d %v %v", sha256.Sum256(data), st.Mode, st.Uid, st.Gid, st.Nlink, st.Mtim, st.Ctim)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there are no objects")
	}
	return all
}
