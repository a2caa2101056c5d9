package fusefs

import (
	"errors"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attempts at writing into the lower's file: through a mount its data and its
// times stay as they are, whatever is tried.

// attempt is one. Do has the file f, of which r is a descriptor opened for
// reading that has been read from and is mapped; what it is refused for does not
// matter, but where only one answer is right, want is that.
type attempt struct {
	name string
	do   func(e *edge, r *os.File, mapped []byte) error
	want error
}

var attempts = []attempt{
	// Those that may succeed, and change the upper.
	{"O_RDWR", func(e *edge, _ *os.File, _ []byte) error { return scribble(e.path("f"), os.O_RDWR) }, nil},
	{"O_WRONLY and O_APPEND", func(e *edge, _ *os.File, _ []byte) error { return scribble(e.path("f"), os.O_WRONLY|os.O_APPEND) }, nil},
	{"O_TRUNC", func(e *edge, _ *os.File, _ []byte) error { return scribble(e.path("f"), os.O_WRONLY|os.O_TRUNC) }, nil},
	{"O_TRUNC and O_RDONLY", func(e *edge, _ *os.File, _ []byte) error {
		f, err := os.OpenFile(e.path("f"), os.O_RDONLY|os.O_TRUNC, 0)
		f.Close()
		return err
	}, nil},
	{"O_DIRECT", func(e *edge, _ *os.File, _ []byte) error {
		mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		e.must(err)
		defer unix.Munmap(mem)
		f := e.open("f", os.O_WRONLY|unix.O_DIRECT)
		_, err = f.WriteAt(mem, 0)
		return err
	}, nil},
	{"truncate(2)", func(e *edge, _ *os.File, _ []byte) error { return os.Truncate(e.path("f"), 3) }, nil},
	{"fallocate(2), a hole", func(e *edge, _ *os.File, _ []byte) error {
		return unix.Fallocate(int(e.open("f", os.O_RDWR).Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
	}, nil},
	{"MAP_SHARED", func(e *edge, _ *os.File, _ []byte) error {
		mem := e.mapFile(e.open("f", os.O_RDWR), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		copy(mem, "bad")
		return unix.Msync(mem, unix.MS_SYNC)
	}, nil},
	{"MAP_SHARED, then mprotect(2)", func(e *edge, _ *os.File, _ []byte) error {
		mem := e.mapFile(e.open("f", os.O_RDWR), unix.PROT_READ, unix.MAP_SHARED)
		if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return err
		}
		copy(mem, "bad")
		return unix.Msync(mem, unix.MS_SYNC)
	}, nil},
	{"MAP_PRIVATE, then mprotect(2)", func(e *edge, r *os.File, _ []byte) error {
		mem := e.mapFile(r, unix.PROT_READ, unix.MAP_PRIVATE)
		if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return err
		}
		copy(mem, "bad")
		return nil
	}, nil},
	{"copy_file_range(2)", func(e *edge, _ *os.File, _ []byte) error {
		_, err := unix.CopyFileRange(int(badFile(e).Fd()), nil, int(e.open("f", os.O_WRONLY).Fd()), nil, 3, 0)
		return err
	}, nil},
	{"sendfile(2)", func(e *edge, _ *os.File, _ []byte) error {
		_, err := unix.Sendfile(int(e.open("f", os.O_WRONLY).Fd()), int(badFile(e).Fd()), nil, 3)
		return err
	}, nil},
	{"metadata", func(e *edge, r *os.File, _ []byte) error {
		e.must(unix.Fsetxattr(int(r.Fd()), "user.k", []byte("bad"), 0))
		e.must(r.Chmod(0o600))
		e.must(r.Chown(1, 1))
		e.must(unix.Futimes(int(r.Fd()), []unix.Timeval{{Sec: 1}, {Sec: 2}}))
		return os.Remove(e.path("f"))
	}, nil},
	{"names", func(e *edge, _ *os.File, _ []byte) error {
		e.must(os.Link(e.path("f"), e.path("f2")))
		e.must(os.Rename(e.path("f2"), e.path("f3")))
		e.must(os.Remove(e.path("f")))
		return scribble(e.path("f3"), os.O_RDWR)
	}, nil},

	// Those that go by the old descriptor, before and after a copy-up.
	{"write(2) to it", func(_ *edge, r *os.File, _ []byte) error {
		_, err := unix.Pwrite(int(r.Fd()), []byte("bad"), 0)
		return err
	}, unix.EBADF},
	{"write(2) to it, after the copy-up", func(e *edge, r *os.File, _ []byte) error {
		e.change()
		_, err := unix.Pwrite(int(r.Fd()), []byte("bad"), 0)
		return err
	}, unix.EBADF},
	{"ftruncate(2) of it", func(_ *edge, r *os.File, _ []byte) error { return r.Truncate(3) }, unix.EINVAL},
	{"fallocate(2) of it", func(_ *edge, r *os.File, _ []byte) error {
		return unix.Fallocate(int(r.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096)
	}, unix.EBADF},
	{"copy_file_range(2) into it", func(e *edge, r *os.File, _ []byte) error {
		_, err := unix.CopyFileRange(int(badFile(e).Fd()), nil, int(r.Fd()), nil, 3, 0)
		return err
	}, unix.EBADF},
	{"fcntl(2) to write", func(_ *edge, r *os.File, _ []byte) error {
		if _, err := unix.FcntlInt(r.Fd(), unix.F_SETFL, os.O_RDWR); err != nil {
			return err
		}
		_, err := unix.Pwrite(int(r.Fd()), []byte("bad"), 0)
		return err
	}, unix.EBADF},
	{"/proc/self/fd", func(_ *edge, r *os.File, _ []byte) error { return scribble(self(r), os.O_RDWR) }, anyError},
	{"/proc/self/fd, after the copy-up", func(e *edge, r *os.File, _ []byte) error {
		e.change()
		return scribble(self(r), os.O_RDWR)
	}, anyError},
	{"/proc/self/fd, again and again", func(e *edge, r *os.File, _ []byte) error {
		e.change()
		for range 10 {
			scribble(self(r), os.O_RDWR)
			scribble(self(r), os.O_WRONLY|os.O_TRUNC)
		}
		return nil
	}, nil},
	{"/proc/self/fd of an O_PATH descriptor", func(e *edge, _ *os.File, _ []byte) error {
		return scribble(self(e.open("f", unix.O_PATH)), os.O_RDWR)
	}, anyError},
	{"a descriptor opened again to read", func(e *edge, r *os.File, _ []byte) error {
		e.change()
		again := e.open(self(r), os.O_RDONLY)
		mem := e.mapFile(again, unix.PROT_READ, unix.MAP_SHARED)
		if err := unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE); err == nil {
			copy(mem, "bad")
		}
		_, err := unix.Pwrite(int(again.Fd()), []byte("bad"), 0)
		return err
	}, unix.EBADF},
	{"open_by_handle_at(2)", func(e *edge, r *os.File, _ []byte) error {
		h, _, err := unix.NameToHandleAt(int(r.Fd()), "", unix.AT_EMPTY_PATH)
		e.must(err)
		fd, err := unix.OpenByHandleAt(int(r.Fd()), h, os.O_RDWR)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.Pwrite(fd, []byte("bad"), 0)
		return err
	}, anyError},
	{"bind mount", func(e *edge, _ *os.File, _ []byte) error { return scribble(bind(e), os.O_RDWR) }, anyError},

	// By its mapping.
	{"mprotect(2) of it", func(_ *edge, _ *os.File, mapped []byte) error {
		return unix.Mprotect(mapped, unix.PROT_READ|unix.PROT_WRITE)
	}, unix.EACCES},
	{"/proc/self/map_files", func(e *edge, _ *os.File, mapped []byte) error {
		return scribble(mapFiles(e, mapped), os.O_RDWR)
	}, anyError},
	{"/proc/self/map_files, truncate(2)", func(e *edge, _ *os.File, mapped []byte) error {
		return os.Truncate(mapFiles(e, mapped), 3)
	}, nil},
	{"/proc/self/mem", func(e *edge, _ *os.File, mapped []byte) error {
		mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
		e.must(err)
		defer mem.Close()
		_, err = unix.Pwrite(int(mem.Fd()), []byte("bad"), int64(uintptr(unsafe.Pointer(&mapped[0]))))
		return err
	}, unix.EIO},
	{"/proc/self/mem, a private mapping", func(e *edge, r *os.File, _ []byte) error {
		mapped := e.mapFile(r, unix.PROT_READ, unix.MAP_PRIVATE)
		mem, err := os.OpenFile("/proc/self/mem", os.O_RDWR, 0)
		e.must(err)
		defer mem.Close()
		_, err = unix.Pwrite(int(mem.Fd()), []byte("bad"), int64(uintptr(unsafe.Pointer(&mapped[0]))))
		return err
	}, nil},
	{"madvise(2) to remove", func(_ *edge, _ *os.File, mapped []byte) error {
		return unix.Madvise(mapped, unix.MADV_REMOVE)
	}, unix.EACCES},

	// By ioctls.
	{"FICLONE", func(e *edge, r *os.File, _ []byte) error {
		return unix.IoctlFileClone(int(r.Fd()), int(badFile(e).Fd()))
	}, unix.EBADF},
	{"FICLONE into what is open for writing", func(e *edge, _ *os.File, _ []byte) error {
		return unix.IoctlFileClone(int(e.open("f", os.O_RDWR).Fd()), int(badFile(e).Fd()))
	}, unix.EOPNOTSUPP},
	{"FICLONERANGE", func(e *edge, _ *os.File, _ []byte) error {
		return unix.IoctlFileCloneRange(int(e.open("f", os.O_RDWR).Fd()),
			&unix.FileCloneRange{Src_fd: int64(badFile(e).Fd()), Src_length: 4096})
	}, unix.EOPNOTSUPP},
	{"FIDEDUPERANGE", func(e *edge, r *os.File, _ []byte) error {
		same := e.open("same", os.O_RDWR|os.O_CREATE)
		_, err := same.WriteString(oldData)
		e.must(err)
		return unix.IoctlFileDedupeRange(int(same.Fd()), &unix.FileDedupeRange{
			Src_length: 4096, Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(r.Fd())}},
		})
	}, anyError},
	{"chattr: FS_IOC_SETFLAGS", func(_ *edge, r *os.File, _ []byte) error {
		const nodump = 0x40
		return unix.IoctlSetPointerInt(int(r.Fd()), unix.FS_IOC_SETFLAGS, nodump)
	}, unix.ENOTTY},
	{"chattr: FS_IOC_FSSETXATTR", func(_ *edge, r *os.File, _ []byte) error {
		const fsSetXattr = 0x401c5820
		var attr [28]byte // struct fsxattr
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, r.Fd(), fsSetXattr, uintptr(unsafe.Pointer(&attr)))
		return errno
	}, unix.ENOTTY},
	{"FS_IOC_ENABLE_VERITY", func(_ *edge, r *os.File, _ []byte) error {
		const enableVerity = 0x40806685
		arg := [16]uint64{1 | 1<<32, 4096} // struct fsverity_enable_arg: version, SHA-256, block size
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, r.Fd(), enableVerity, uintptr(unsafe.Pointer(&arg)))
		return errno
	}, unix.ENOTTY},
}

// anyError is for what passthrough refuses, and the other modes may allow.
var anyError error = unix.Errno(0)

// scribble writes to whatever is at path.
func scribble(path string, flags int) error {
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = unix.Write(int(f.Fd()), []byte("bad"))
	return err
}

// badFile is a file of the upper to take data from.
func badFile(e *edge) *os.File {
	write(e.t, e.path("bad"), strings.Repeat("bad ", 1024))
	return e.open("bad", os.O_RDONLY)
}

func TestNothingReachesTheLower(t *testing.T) {
	for name, o := range map[string]Options{
		"passthrough": {}, "cached": {Passthrough: PassthroughOff}, "coherent": {Coherent: true}, "observe": {Observe: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t, o, func(lower string) {
				for _, a := range attempts {
					dir := lower + "/" + dirName(a.name)
					if err := os.Mkdir(dir, 0o755); err != nil {
						t.Fatal(err)
					}
					write(t, dir+"/f", oldData)
				}
			})
			if name == "passthrough" {
				m.requirePassthrough()
			}
			before := hash(t, m.lower)
			for _, a := range attempts {
				t.Run(a.name, func(t *testing.T) {
					e := &edge{t, m.path(dirName(a.name))}
					r := e.reader()
					err := a.do(e, r, e.mapFile(r, unix.PROT_READ, unix.MAP_SHARED))
					switch {
					case a.want == anyError:
						if name == "passthrough" && err == nil {
							t.Error("nothing refused it")
						}
					case !errors.Is(err, a.want):
						t.Errorf("%v, want %v", err, a.want)
					}
					if err := unix.Syncfs(int(r.Fd())); err != nil {
						t.Error(err)
					}
					if hash(t, m.lower) != before {
						t.Error("the lower has changed")
					}
				})
			}
		})
	}
}

// dirName makes a file's name of a test's.
func dirName(name string) string { return strings.ReplaceAll(name, "/", "_") }
