package fusefs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// edgeCases are in the order of plain, overlayfs, passthrough, cached, coherent.
var edgeCases = []edgeCase{
	// Reading.
	{"read(2) of the old descriptor", func(e *edge) string {
		r, _ := e.split()
		return first(r)
	}, answers{"new", "new", "old", "new"}},
	{"pread(2) where the file has grown", func(e *edge) string {
		r, w := e.split()
		_, err := w.WriteAt([]byte("new."), edgeSize)
		e.must(err)
		return pieceAt(r, edgeSize)
	}, answers{"new", "new", "nothing", "new"}},
	{"open by the same name", func(e *edge) string {
		e.split()
		return show(os.Open(e.path("f")))
	}, answers{"new"}},
	{"open by the other name of a hard link", func(e *edge) string {
		stat(e.t, e.path("g"))
		e.split()
		return show(os.Open(e.path("g")))
	}, answers{"new"}},
	{"open in another process", func(e *edge) string {
		e.split()
		return inAnotherProcess(e.path("f"))
	}, answers{"new"}},
	{"changed by the other name", func(e *edge) string {
		r := e.reader()
		w := e.open("g", os.O_RDWR)
		_, err := w.WriteAt([]byte("new."), 0)
		e.must(err)
		return show(os.Open(e.path("f"))) + ", " + first(r)
	}, answers{"new, new", "new, new", "new, old", "new, new"}},
	{"sendfile(2) from it", func(e *edge) string {
		r, _ := e.split()
		return through(e, func(pipe int) (int, error) {
			var off int64
			return unix.Sendfile(pipe, int(r.Fd()), &off, 4)
		})
	}, answers{"new", "new", "old", "new"}},
	{"splice(2) from it", func(e *edge) string {
		r, _ := e.split()
		return through(e, func(pipe int) (int, error) {
			var off int64
			n, err := unix.Splice(int(r.Fd()), &off, pipe, nil, 4, 0)
			return int(n), err
		})
	}, answers{"new", "new", "old", "new"}},
	{"copy_file_range(2) from it", func(e *edge) string {
		r, _ := e.split()
		to := e.open("to", os.O_RDWR|os.O_CREATE)
		var from, at int64
		if _, err := unix.CopyFileRange(int(r.Fd()), &from, int(to.Fd()), &at, 4, 0); err != nil {
			return failure(err)
		}
		return first(to)
	}, answers{"new", "new", "old", "new"}},
	{"SEEK_HOLE where the file has grown", func(e *edge) string {
		r, w := e.split()
		_, err := w.WriteAt([]byte("new."), 1<<20)
		e.must(err)
		hole, err := unix.Seek(int(r.Fd()), 0, unix.SEEK_HOLE)
		if err != nil {
			return failure(err)
		}
		data, err := unix.Seek(int(r.Fd()), edgeSize, unix.SEEK_DATA)
		if err != nil {
			return fmt.Sprint(hole, ", ", failure(err))
		}
		return fmt.Sprint(hole, ", ", data)
	}, answers{"8192, 1048576", "8192, 1048576", "8192, ENXIO", "8192, 1048576"}},

	// Mappings.
	{"an old mapping, shared", func(e *edge) string {
		r := e.reader()
		mem := e.mapFile(r, unix.PROT_READ, unix.MAP_SHARED)
		e.change()
		return word(mem)
	}, answers{"new", "old", "old", "new"}},
	{"an old mapping, private", func(e *edge) string {
		r := e.reader()
		mem := e.mapFile(r, unix.PROT_READ, unix.MAP_PRIVATE)
		e.change()
		return word(mem)
	}, answers{"new", "old", "old", "new"}},
	{"a new mapping of the old descriptor", func(e *edge) string {
		r, _ := e.split()
		return word(e.mapFile(r, unix.PROT_READ, unix.MAP_SHARED))
	}, answers{"new", "old", "old", "new"}},
	{"a mapping of a new descriptor", func(e *edge) string {
		e.split()
		return word(e.mapFile(e.open("f", os.O_RDONLY), unix.PROT_READ, unix.MAP_SHARED))
	}, answers{"new"}},
	{"stores in a new mapping, read by a new descriptor", func(e *edge) string {
		_, w := e.split()
		mem := e.mapFile(w, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		copy(mem, "MAP.")
		return show(os.Open(e.path("f")))
	}, answers{`"MAP."`}},
	{"mprotect(2) of an old mapping to write", func(e *edge) string {
		r := e.reader()
		mem := e.mapFile(r, unix.PROT_READ, unix.MAP_SHARED)
		e.change()
		return outcome(unix.Mprotect(mem, unix.PROT_READ|unix.PROT_WRITE))
	}, answers{"EACCES"}},

	// Sizes.
	{"fstat(2) where the file has grown", func(e *edge) string {
		r, w := e.split()
		_, err := w.WriteAt([]byte("new."), edgeSize)
		e.must(err)
		return sizeOf(r)
	}, answers{"8196"}},
	{"truncate(2): size, and what is read", func(e *edge) string {
		r := e.reader()
		e.must(os.Truncate(e.path("f"), 2))
		return sizeOf(r) + ", " + first(r)
	}, answers{`2, "ol"`, `2, "ol"`, "2, old", `2, "ol"`}},
	{"ftruncate(2) of a new descriptor", func(e *edge) string {
		r, w := e.split()
		e.must(w.Truncate(2))
		return sizeOf(r) + ", " + first(r)
	}, answers{`2, "ne"`, `2, "ne"`, "2, old", `2, "ne"`}},
	{"ftruncate(2) of the old descriptor", func(e *edge) string {
		r, _ := e.split()
		return outcome(r.Truncate(2))
	}, answers{"EINVAL"}},
	{"open with O_TRUNC", func(e *edge) string {
		r := e.reader()
		e.open("f", os.O_WRONLY|os.O_TRUNC)
		return sizeOf(r) + ", " + first(r)
	}, answers{"0, nothing", "0, nothing", "0, old", "0, nothing"}},
	{"fallocate(2) to punch a hole", func(e *edge) string {
		r, w := e.split()
		e.must(unix.Fallocate(int(w.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 4096))
		return first(r)
	}, answers{`"\x00\x00\x00\x00"`, `"\x00\x00\x00\x00"`, "old", `"\x00\x00\x00\x00"`}},

	// Names.
	{"unlink(2), then read the old descriptor", func(e *edge) string {
		r, _ := e.split()
		e.must(os.Remove(e.path("f")))
		e.must(os.Remove(e.path("g")))
		return first(r) + ", " + nlinkOf(r)
	}, answers{"new, 0", "new, 0", "old, 0", "new, 0"}},
	{"unlink(2) of what nobody has changed", func(e *edge) string {
		r := e.reader()
		e.must(os.Remove(e.path("f")))
		e.must(os.Remove(e.path("g")))
		return first(r) + ", " + nlinkOf(r)
	}, answers{"old, 0"}},
	{"rename(2), then change it by the new name", func(e *edge) string {
		r := e.reader()
		e.must(os.Rename(e.path("f"), e.path("h")))
		w := e.open("h", os.O_RDWR)
		_, err := w.WriteAt([]byte("new."), 0)
		e.must(err)
		return first(r) + ", " + show(os.Open(e.path("g")))
	}, answers{"new, new", "new, new", "old, new", "new, new"}},
	{"replaced by rename(2), as editors do", func(e *edge) string {
		r := e.reader()
		write(e.t, e.path("h"), "new.")
		e.must(os.Rename(e.path("h"), e.path("f")))
		return first(r) + ", " + show(os.Open(e.path("f")))
	}, answers{"old, new"}},
	{"linkat(2) of it with AT_EMPTY_PATH", func(e *edge) string {
		r, _ := e.split()
		if err := unix.Linkat(int(r.Fd()), "", unix.AT_FDCWD, e.path("h"), unix.AT_EMPTY_PATH); err != nil {
			return failure(err)
		}
		return show(os.Open(e.path("h"))) + ", " + nlinkOf(r)
	}, answers{"new, 3"}},
	{"linkat(2) of /proc/self/fd/N", func(e *edge) string {
		r, _ := e.split()
		if err := unix.Linkat(unix.AT_FDCWD, self(r), unix.AT_FDCWD, e.path("h"), unix.AT_SYMLINK_FOLLOW); err != nil {
			return failure(err)
		}
		w := e.open("h", os.O_RDWR)
		_, err := w.WriteAt([]byte("old."), 0)
		e.must(err)
		return show(os.Open(e.path("f"))) + ", " + nlinkOf(r)
	}, answers{"old, 3"}},

	// Metadata by the old descriptor.
	{"st_ino of the old descriptor and of the name", func(e *edge) string {
		r, _ := e.split()
		var st unix.Stat_t
		e.must(unix.Fstat(int(r.Fd()), &st))
		return same(st.Ino == stat(e.t, e.path("f")).Ino)
	}, answers{"same"}},
	{"fchmod(2), seen by name", func(e *edge) string {
		r, _ := e.split()
		e.must(r.Chmod(0o640))
		return fmt.Sprintf("%o", stat(e.t, e.path("g")).Mode&0o7777)
	}, answers{"640"}},
	{"chmod(2), seen by the old descriptor", func(e *edge) string {
		r, _ := e.split()
		e.must(os.Chmod(e.path("f"), 0o640))
		var st unix.Stat_t
		e.must(unix.Fstat(int(r.Fd()), &st))
		return fmt.Sprintf("%o", st.Mode&0o7777)
	}, answers{"640"}},
	{"futimens(2), seen by name", func(e *edge) string {
		r, _ := e.split()
		times := []unix.Timeval{{Sec: 1}, {Sec: 2}}
		e.must(unix.Futimes(int(r.Fd()), times))
		return fmt.Sprint(stat(e.t, e.path("f")).Mtim.Sec)
	}, answers{"2"}},
	{"fsetxattr(2), seen by name", func(e *edge) string {
		r, _ := e.split()
		e.must(unix.Fsetxattr(int(r.Fd()), "user.k", []byte("value"), 0))
		value := make([]byte, 10)
		n, err := unix.Getxattr(e.path("f"), "user.k", value)
		e.must(err)
		return string(value[:n])
	}, answers{"value"}},
	{"fchmod(2) before anybody has written", func(e *edge) string {
		r := e.reader()
		e.must(r.Chmod(0o640))
		w := e.change()
		return fmt.Sprintf("%o, %s, %s", stat(e.t, e.path("f")).Mode&0o7777, first(w), first(r))
	}, answers{"640, new, new", "640, new, new", "640, new, old", "640, new, new"}},
	{"fsync(2) and fdatasync(2) of it", func(e *edge) string {
		r, _ := e.split()
		return outcome(unix.Fsync(int(r.Fd()))) + ", " + outcome(unix.Fdatasync(int(r.Fd())))
	}, answers{"ok, ok"}},

	// Opening it again.
	{"/proc/self/fd/N, to read", func(e *edge) string {
		r, _ := e.split()
		return show(os.Open(self(r)))
	}, answers{"new", "new", "old", "new"}},
	{"/proc/self/fd/N, to write", func(e *edge) string {
		r, _ := e.split()
		return writeBy(e, self(r), os.O_RDWR)
	}, answers{`"NEW."`, `"NEW."`, "ESTALE", `"NEW."`}},
	{"/proc/self/fd/N, with O_TRUNC", func(e *edge) string {
		r, _ := e.split()
		return writeBy(e, self(r), os.O_WRONLY|os.O_TRUNC)
	}, answers{`"NEW."`, `"NEW."`, "ESTALE", `"NEW."`}},
	{"/proc/self/fd/N to write, nobody else has", func(e *edge) string {
		return writeBy(e, self(e.reader()), os.O_RDWR)
	}, answers{`"NEW."`, `"NEW."`, "ESTALE", `"NEW."`}},
	{"/dev/stdin in a child", func(e *edge) string {
		r, _ := e.split()
		cmd := exec.Command("head", "-c", "4", "/dev/stdin")
		cmd.Stdin = r
		out, err := cmd.Output()
		if err != nil {
			return err.Error()
		}
		return word(out)
	}, answers{"new", "new", "old", "new"}},
	{"an O_PATH descriptor, to read", func(e *edge) string {
		p := e.open("f", unix.O_PATH)
		e.split()
		return show(os.Open(self(p)))
	}, answers{"new", "new", "old", "new"}},
	{"an O_PATH descriptor, when readers have closed", func(e *edge) string {
		p := e.open("f", unix.O_PATH)
		r, w := e.split()
		r.Close()
		w.Close()
		return whenClosed(e, func() string { return show(os.Open(self(p))) + ", " + writeBy(e, self(p), os.O_RDWR) })
	}, answers{`new, "NEW."`}},
	{"a bind mount of the file", func(e *edge) string {
		at := bind(e)
		e.split()
		return show(os.Open(at)) + ", " + writeBy(e, at, os.O_RDWR)
	}, answers{`new, "NEW."`, `new, "NEW."`, "old, ESTALE", `new, "NEW."`}},
	{"a bind mount, when readers have closed", func(e *edge) string {
		at := bind(e)
		r, w := e.split()
		r.Close()
		w.Close()
		return whenClosed(e, func() string { return show(os.Open(at)) + ", " + writeBy(e, at, os.O_RDWR) })
	}, answers{`new, "NEW."`}},
	{"/proc/self/map_files, to read", func(e *edge) string {
		r := e.reader()
		at := mapFiles(e, e.mapFile(r, unix.PROT_READ, unix.MAP_SHARED))
		e.change()
		return show(os.Open(at))
	}, answers{"new", "new", "old", "new"}},
	{"/proc/self/map_files, to write", func(e *edge) string {
		r := e.reader()
		at := mapFiles(e, e.mapFile(r, unix.PROT_READ, unix.MAP_SHARED))
		e.change()
		return writeBy(e, at, os.O_RDWR)
	}, answers{`"NEW."`, `"NEW."`, "ESTALE", `"NEW."`}},
	{"file handle of it and of the name", func(e *edge) string {
		r, _ := e.split()
		old, _, err := unix.NameToHandleAt(int(r.Fd()), "", unix.AT_EMPTY_PATH)
		if err != nil {
			return failure(err)
		}
		name, _, err := unix.NameToHandleAt(unix.AT_FDCWD, e.path("f"), 0)
		if err != nil {
			return failure(err)
		}
		return same(bytes.Equal(old.Bytes(), name.Bytes()))
	}, answers{"same", "ENOTSUP", "differ", "same"}},
	{"opened by its file handle", func(e *edge) string {
		r, _ := e.split()
		h, _, err := unix.NameToHandleAt(int(r.Fd()), "", unix.AT_EMPTY_PATH)
		if err != nil {
			return failure(err)
		}
		fd, err := unix.OpenByHandleAt(int(r.Fd()), h, os.O_RDONLY)
		if err != nil {
			return failure(err)
		}
		return show(os.NewFile(uintptr(fd), "by handle"), nil)
	}, answers{"new", "ENOTSUP", "old", "new"}},

	// Programs.
	{"execve(2) of a program replaced in place", func(e *edge) string {
		r := e.open("p", os.O_RDONLY)
		pread(e.t, r, 4)
		replaceProgram(e)
		return runs(exec.Command(e.path("p")))
	}, answers{"new"}},
	{"fexecve(3) of the old descriptor", func(e *edge) string {
		r := e.open("p", os.O_RDONLY)
		pread(e.t, r, 4)
		replaceProgram(e)
		cmd := exec.Command("/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{r}
		return runs(cmd)
	}, answers{"new", "new", "old", "new"}},
	{"execve(2) of a file open for writing", func(e *edge) string {
		r := e.open("p", os.O_RDONLY)
		pread(e.t, r, 4)
		e.open("p", os.O_WRONLY)
		return runs(exec.Command(e.path("p")))
	}, answers{"ETXTBSY"}},
	{"fexecve(3) while it is open for writing", func(e *edge) string {
		r := e.open("p", os.O_RDONLY)
		pread(e.t, r, 4)
		e.open("p", os.O_WRONLY)
		cmd := exec.Command("/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{r}
		return runs(cmd)
	}, answers{"ETXTBSY", "ETXTBSY", "old", "ETXTBSY"}},
	{"open a running program to write", func(e *edge) string {
		defer running(e, e.path("s"))()
		return outcome(os.Truncate(e.path("s"), 0)) + ", " + writeBy(e, e.path("s"), os.O_WRONLY)
	}, answers{"ETXTBSY, ETXTBSY"}},
	{"the same, run from an old descriptor", func(e *edge) string {
		r := e.open("s", os.O_RDONLY)
		pread(e.t, r, 4)
		e.open("s", os.O_RDWR).Close()
		defer running(e, "/proc/self/fd/3", r)()
		w, err := os.OpenFile(e.path("s"), os.O_WRONLY, 0)
		w.Close()
		return outcome(err)
	}, answers{"ETXTBSY", "ETXTBSY", "ok", "ETXTBSY"}},

	// Events.
	{"inotify on the file: a write by name", func(e *edge) string {
		e.reader()
		events := watch(e, e.path("f"))
		e.change()
		return events()
	}, answers{"modified", "modified", "nothing", "modified"}},
	{"inotify on the directory: a write by name", func(e *edge) string {
		e.reader()
		events := watch(e, e.dir)
		e.change()
		return events()
	}, answers{"modified"}},
	{"inotify on the file, set after the copy-up", func(e *edge) string {
		_, w := e.split()
		events := watch(e, e.path("f"))
		_, err := w.WriteAt([]byte("new."), 0)
		e.must(err)
		return events()
	}, answers{"modified"}},
	{"inotify on the file, not open: a write by name", func(e *edge) string {
		events := watch(e, e.path("f"))
		e.change()
		return events()
	}, answers{"modified"}},

	// What a filesystem may refuse.
	{"write(2) to the old descriptor", func(e *edge) string {
		r, _ := e.split()
		_, err := unix.Pwrite(int(r.Fd()), []byte("x"), 0)
		return outcome(err)
	}, answers{"EBADF"}},
	{"FICLONE from it", func(e *edge) string {
		r, _ := e.split()
		to := e.open("to", os.O_RDWR|os.O_CREATE)
		return outcome(unix.IoctlFileClone(int(to.Fd()), int(r.Fd())))
	}, answers{"ENOTSUP"}},
	{"chattr: FS_IOC_SETFLAGS on it", func(e *edge) string {
		r, _ := e.split()
		flags, err := unix.IoctlGetInt(int(r.Fd()), unix.FS_IOC_GETFLAGS)
		if err != nil {
			return failure(err)
		}
		const nodump = 0x40
		return outcome(unix.IoctlSetPointerInt(int(r.Fd()), unix.FS_IOC_SETFLAGS, flags|nodump))
	}, answers{"ok", "ok", "ESTALE", "ENOTTY"}},
	{"lsattr of it, then open by the other name", func(e *edge) string {
		runtime.LockOSThread() // the one that was refused is who opens next
		defer runtime.UnlockOSThread()
		stat(e.t, e.path("g"))
		r, _ := e.split()
		unix.IoctlGetInt(int(r.Fd()), unix.FS_IOC_GETFLAGS)
		return show(os.Open(e.path("g")))
	}, answers{"new"}},
}

// pieceAt is what lies in f from off on.
func pieceAt(f *os.File, off int64) string {
	buf := make([]byte, 4)
	n, err := unix.Pread(int(f.Fd()), buf, off)
	if err != nil {
		return failure(err)
	}
	return word(buf[:n])
}

// through is what comes out of a pipe.
func through(e *edge, fill func(pipe int) (int, error)) string {
	r, w, err := os.Pipe()
	e.must(err)
	defer r.Close()
	defer w.Close()
	n, err := fill(int(w.Fd()))
	if err != nil || n == 0 {
		return outcome(err)
	}
	buf := make([]byte, n)
	_, err = r.Read(buf)
	e.must(err)
	return word(buf)
}

func sizeOf(f *os.File) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return failure(err)
	}
	return fmt.Sprint(st.Size)
}

func nlinkOf(f *os.File) string {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return failure(err)
	}
	return fmt.Sprint(st.Nlink)
}

func same(yes bool) string {
	if yes {
		return "same"
	}
	return "differ"
}

// writeBy writes by a path, and is what f holds after it.
func writeBy(e *edge, path string, flags int) string {
	w, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return failure(err)
	}
	defer w.Close()
	if _, err := w.WriteAt([]byte("NEW."), 0); err != nil {
		return failure(err)
	}
	return show(os.Open(e.path("f")))
}

// whenClosed is the first answer without ESTALE: RELEASE comes late.
func whenClosed(e *edge, do func() string) string {
	var got string
	for range 200 {
		if got = do(); !strings.Contains(got, "ESTALE") && !strings.HasPrefix(got, "old") {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return got
}

// bind mounts f on a file elsewhere and returns its path.
func bind(e *edge) string {
	at := tempDir(e.t) + "/bound"
	write(e.t, at, "")
	e.must(unix.Mount(e.path("f"), at, "", unix.MS_BIND, ""))
	e.t.Cleanup(func() { e.must(unix.Unmount(at, unix.MNT_DETACH)) })
	return at
}

// mapFiles is the path of the mapping mem.
func mapFiles(e *edge, mem []byte) string {
	start := uintptr(unsafe.Pointer(unsafe.SliceData(mem)))
	return fmt.Sprintf("/proc/self/map_files/%x-%x", start, start+uintptr(len(mem)))
}

// replaceProgram writes /bin/false over the program.
func replaceProgram(e *edge) {
	data, err := os.ReadFile("/bin/false")
	e.must(err)
	e.must(os.WriteFile(e.path("p"), data, 0o755))
}

// running runs sleep by a path, which may be that of descriptor 3, files, and
// returns what ends it.
func running(e *edge, path string, files ...*os.File) (stop func()) {
	cmd := exec.Command(path, "60")
	cmd.ExtraFiles = files
	e.must(cmd.Start())
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// watch sets an inotify watch, and returns what tells whether it saw a write.
func watch(e *edge, path string) func() string {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	e.must(err)
	e.t.Cleanup(func() { unix.Close(fd) })
	_, err = unix.InotifyAddWatch(fd, path, unix.IN_MODIFY)
	e.must(err)
	return func() string {
		buf := make([]byte, 4096)
		n, err := unix.Read(fd, buf)
		if err == unix.EAGAIN {
			return "nothing"
		}
		e.must(err)
		if n < unix.SizeofInotifyEvent || binary.NativeEndian.Uint32(buf[4:])&unix.IN_MODIFY == 0 {
			return fmt.Sprintf("%x", buf[:n])
		}
		return "modified"
	}
}
