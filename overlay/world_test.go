package overlay

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// A step is done to three worlds, and answered by each: an FS, a plain directory and
// the kernel's overlayfs. Unlike an op it may leave files open for later ones.
type step struct {
	name string // a command for sh
	kind string
	do   func(w *world) (answer string, err error)
}

// world is a tree with open files, either an FS or a directory of the host.
type world struct {
	x     *fixture // nil for a directory of the host
	root  string
	files [4]openFile
}

// openFile is a File or a descriptor.
type openFile struct {
	h  *File
	fd int
}

func (o *openFile) isOpen() bool { return o.h != nil || o.fd > 0 }

func (o *openFile) close() error {
	h, fd := o.h, o.fd
	*o = openFile{}
	switch {
	case h != nil:
		return h.Close()
	case fd > 0:
		return unix.Close(fd)
	}
	return unix.EBADF
}

func (w *world) closeAll() {
	for i := range w.files {
		w.files[i].close()
	}
}

func (w *world) open(slot int, path string, flags int) error {
	w.files[slot].close()
	if w.x != nil {
		return w.x.on(path, func(id ID) error {
			h, err := w.x.Open(context.Background(), id, flags)
			w.files[slot].h = h
			return err
		})
	}
	path = filepath.Join(w.root, path)
	var st unix.Stat_t // a FIFO would wait and a device do something
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if err := canOpen(st.Mode & unix.S_IFMT); err != nil {
		return err
	}
	fd, err := unix.Open(path, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		w.files[slot].fd = fd
	}
	return err
}

// stale tells that what is read may be what the file was before somebody copied it
// up, see the differences.
func (o *openFile) stale() bool { return o.h != nil && o.h.OnLower() }

func (o *openFile) read(off int64, n int) (string, error) {
	buf := make([]byte, n)
	var k int
	var err error
	if o.h != nil {
		if k, err = o.h.ReadAt(buf, off); err == io.EOF {
			err = nil
		}
	} else {
		k, err = unix.Pread(o.fd, buf, off)
	}
	return string(buf[:max(k, 0)]), err
}

func (o *openFile) write(off int64, data string) error {
	var err error
	if o.h != nil {
		_, err = o.h.WriteAt([]byte(data), off)
	} else {
		_, err = unix.Pwrite(o.fd, []byte(data), off)
	}
	return err
}

func (o *openFile) fallocate(mode uint32, off, n int64) error {
	if o.h != nil {
		return o.h.Fallocate(off, n, mode)
	}
	return unix.Fallocate(o.fd, mode, off, n)
}

func (o *openFile) lseek(off int64, whence int) (int64, error) {
	if o.h != nil {
		return o.h.Lseek(off, whence)
	}
	return unix.Seek(o.fd, off, whence)
}

func (o *openFile) copyTo(off int64, to *openFile, toOff, n int64) (int64, error) {
	if o.h != nil {
		return o.h.CopyRange(off, to.h, toOff, n)
	}
	k, err := unix.CopyFileRange(o.fd, &off, to.fd, &toOff, int(n), 0)
	return int64(max(k, 0)), err
}

// stepFor draws a step.
func stepFor(pick func(n int) int) step {
	slot, other := pick(4), pick(4)
	off, n := int64(pick(9000)), int64(1+pick(9000))
	path := drawPath(pick)
	data := strings.Repeat(string(rune('a'+pick(26))), int(n))
	onFile := func(kind, name string, do func(f *openFile) (string, error)) step {
		return step{name, kind, func(w *world) (string, error) {
			f := &w.files[slot]
			if !f.isOpen() {
				return "", unix.EBADF
			}
			return do(f)
		}}
	}
	fd := slot + 3
	switch pick(24) {
	case 0, 1, 2:
		flags := []int{unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR | unix.O_TRUNC}[pick(3)]
		how := map[int]string{unix.O_RDONLY: "<", unix.O_RDWR: "<>"}[flags]
		name := fmt.Sprintf("[ -f %s ] && exec %d%s %[1]s", quoted(path), fd, how)
		if how == "" {
			name = fmt.Sprintf("[ -f %s ] && : > %[1]s && exec %d<> %[1]s", quoted(path), fd)
		}
		return step{name, "open", func(w *world) (string, error) { return "", w.open(slot, path, flags) }}
	case 3:
		return onFile("close", fmt.Sprintf("exec %d>&-", fd), func(f *openFile) (string, error) { return "", f.close() })
	case 4:
		return onFile("read", fmt.Sprintf("dd if=/dev/fd/%d iflag=skip_bytes,count_bytes skip=%d count=%d status=none | sha256sum", fd, off, n), func(f *openFile) (string, error) {
			return f.read(off, int(n))
		})
	case 5, 6:
		return onFile("write", fmt.Sprintf("%s | dd of=/dev/fd/%d conv=notrunc oflag=seek_bytes seek=%d status=none", letters(data), fd, off), func(f *openFile) (string, error) {
			return "", f.write(off, data)
		})
	case 7:
		mode := []uint32{0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE}[pick(3)]
		flag := map[uint32]string{0: "", unix.FALLOC_FL_KEEP_SIZE: "-n "}[mode]
		if mode&unix.FALLOC_FL_PUNCH_HOLE != 0 {
			flag = "-p "
		}
		return onFile("fallocate", fmt.Sprintf("fallocate %s-o %d -l %d /dev/fd/%d", flag, off, n, fd), func(f *openFile) (string, error) {
			return "", f.fallocate(mode, off, n)
		})
	case 8:
		whence := []int{unix.SEEK_DATA, unix.SEEK_HOLE}[pick(2)]
		return onFile("seek", fmt.Sprintf("python3 -c 'import os; print(os.lseek(%d, %d, %d))'", fd, off, whence), func(f *openFile) (string, error) {
			to, err := f.lseek(off, whence)
			if err != nil {
				to = 0
			}
			return fmt.Sprint(to), err
		})
	case 9:
		to := int64(pick(9000))
		return step{fmt.Sprintf("python3 -c 'import os; os.copy_file_range(%d, %d, %d, %d, %d)'", fd, other+3, n, off, to), "copy range", func(w *world) (string, error) {
			a, b := &w.files[slot], &w.files[other]
			if !a.isOpen() || !b.isOpen() || slot == other {
				return "", unix.EBADF
			}
			k, err := a.copyTo(off, b, to, n)
			return fmt.Sprint(k), err
		}}
	case 10:
		at, mt := &tree.Time{Sec: past[0].Sec, Nsec: uint32(pick(1e9))}, &tree.Time{Sec: past[1].Sec, Nsec: uint32(pick(1e9))}
		if pick(2) == 0 {
			at = nil
		} else if pick(2) == 0 {
			mt = nil
		}
		var touch []string
		for _, v := range []struct {
			flag string
			t    *tree.Time
		}{{"a", at}, {"m", mt}} {
			if v.t != nil {
				touch = append(touch, fmt.Sprintf("touch -hc%s -d @%d.%09d %s", v.flag, v.t.Sec, v.t.Nsec, quoted(path)))
			}
		}
		return step{strings.Join(touch, " && "), "utimens", func(w *world) (string, error) {
			if w.x != nil {
				return "", w.x.setattr(path, SetAttr{Atime: at, Mtime: mt})
			}
			return "", inode{dir: unix.AT_FDCWD, name: filepath.Join(w.root, path)}.utimes(at, mt)
		}}
	}
	o := opFor(pick)
	kind, _, _ := strings.Cut(strings.TrimLeft(o.name, "("), " ")
	return step{o.name, kind, func(w *world) (string, error) {
		if w.x != nil {
			return "", o.on(w.x)
		}
		return "", o.in(w.root)
	}}
}
