package histories

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

// Open files and what is in them.
func init() {
	register(map[string]call{
		"openat": (*Process).openat,
		"open a descriptor": func(p *Process, s Step) (string, error) { // again, through /proc/self/fd
			fd, err := unix.Openat(p.proc, p.self(s.FD), s.Flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err == nil {
				p.put(s.ToFD, fd)
			}
			return "", err
		},
		"close": func(p *Process, s Step) (string, error) {
			fd := p.files[s.FD]
			p.files[s.FD] = -1
			return "", unix.Close(fd)
		},
		"pread": func(p *Process, s Step) (string, error) {
			buf := make([]byte, s.Len)
			n, err := unix.Pread(p.files[s.FD], buf, s.Off)
			return Contents(buf[:max(n, 0)]), err
		},
		"read": func(p *Process, s Step) (string, error) {
			buf := make([]byte, s.Len)
			n, err := unix.Read(p.files[s.FD], buf)
			return Contents(buf[:max(n, 0)]), err
		},
		"pwrite": func(p *Process, s Step) (string, error) {
			n, err := unix.Pwrite(p.files[s.FD], s.Data(), s.Off)
			return fmt.Sprint(n), err
		},
		"write": func(p *Process, s Step) (string, error) {
			n, err := unix.Write(p.files[s.FD], s.Data())
			return fmt.Sprint(n), err
		},
		"lseek":     (*Process).lseek,
		"ftruncate": func(p *Process, s Step) (string, error) { return "", unix.Ftruncate(p.files[s.FD], s.Len) },
		"truncate":  func(p *Process, s Step) (string, error) { return "", unix.Truncate(p.pathAt(s.At, s.Path), s.Len) },
		"fallocate": func(p *Process, s Step) (string, error) {
			return "", unix.Fallocate(p.files[s.FD], s.Mode, s.Off, s.Len)
		},
		"copy_file_range": func(p *Process, s Step) (string, error) {
			from, to := s.Off, s.ToOff
			n, err := unix.CopyFileRange(p.files[s.FD], &from, p.files[s.ToFD], &to, int(s.Len), 0)
			return fmt.Sprint(n), err
		},
		"fsync":     func(p *Process, s Step) (string, error) { return "", unix.Fsync(p.files[s.FD]) },
		"fdatasync": func(p *Process, s Step) (string, error) { return "", unix.Fdatasync(p.files[s.FD]) },
		"mmap":      (*Process).mmap,
		"write program": func(p *Process, s Step) (string, error) {
			n, err := unix.Pwrite(p.files[s.FD], program, 0)
			return fmt.Sprint(n), err
		},
		"execve": (*Process).execve,
	})
}

// Contents says what was read without printing all of it.
func Contents(b []byte) string {
	if len(b) <= 8 {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%d bytes %q...%q %.4x", len(b), b[:4], b[len(b)-4:], sha256.Sum256(b))
}

// openat never waits for a FIFO.
func (p *Process) openat(s Step) (string, error) {
	fd, err := unix.Openat(p.at(s.At), s.Path, s.Flags|unix.O_CLOEXEC|unix.O_NONBLOCK, s.Mode)
	if err == nil {
		p.put(s.FD, fd)
	}
	return "", err
}

func (p *Process) lseek(s Step) (string, error) {
	fd := p.files[s.FD]
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "a directory", err // where every filesystem has places of its own
	}
	n, err := unix.Seek(fd, s.Off, s.Flags)
	if s.Flags != unix.SEEK_DATA && s.Flags != unix.SEEK_HOLE || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Sprint(n), err
	}
	if _, err := unix.Seek(fd, s.Off, unix.SEEK_SET); err != nil {
		return "", err
	}
	return Sparse(s, n, err, st.Size, func(b []byte) error {
		_, err := unix.Pread(fd, b, s.Off)
		if err == unix.EBADF { // for writing only
			return nil
		}
		return err
	})
}

// Sparse judges what lseek answered to SEEK_DATA or SEEK_HOLE. Which zeros are a hole is
// every filesystem's own business, and to tmpfs those are none that somebody has read;
// but what is skipped must be zeros.
func Sparse(s Step, n int64, err error, size int64, read func(from []byte) error) (string, error) {
	switch {
	case s.Off >= size:
		return "", err
	case err == unix.ENXIO && s.Flags == unix.SEEK_DATA:
		n = size
	case err != nil:
		return "", err
	}
	if n < s.Off || n > size {
		return fmt.Sprintf("%d is nowhere", n), nil
	}
	if s.Flags == unix.SEEK_HOLE {
		return "somewhere", nil
	}
	hole := make([]byte, n-s.Off)
	if err := read(hole); err != nil {
		return "", err
	}
	if len(bytes.TrimLeft(hole, "\x00")) > 0 {
		return fmt.Sprintf("%d skips data", n), nil
	}
	return "somewhere", nil
}

// mmap stores through a shared mapping, or reads through one if there is nothing to
// store, as far as fstat says that the file goes.
func (p *Process) mmap(s Step) (text string, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			text = fmt.Sprint("SIGBUS: ", fault)
		}
	}()
	fd := p.files[s.FD]
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == 0 || st.Mode&unix.S_IFMT == unix.S_IFCHR {
		return "nothing there", nil
	}
	prot := unix.PROT_READ
	if s.Fill != "" {
		prot |= unix.PROT_WRITE
	}
	m, err := unix.Mmap(fd, 0, int(max(st.Size, 1)), prot, unix.MAP_SHARED)
	if err != nil {
		return "", err
	}
	defer unix.Munmap(m)
	if s.Fill == "" {
		return Contents(m), nil
	}
	from := min(int(s.Off), len(m))
	n := copy(m[from:], s.Data())
	return fmt.Sprint(n), unix.Msync(m, unix.MS_SYNC)
}

// program is the smallest ELF file for amd64 that ends with the effective user id as
// its status, which shows what set-id bits did. To other machines it is no program.
var program = []byte{
	0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	2, 0, 62, 0, 1, 0, 0, 0, 0x78, 0, 0x40, 0, 0, 0, 0, 0, // executable, entry 0x400078
	64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // program headers at 64
	0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0,
	1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // load, read and execute, from 0
	0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, // to 0x400000
	0x88, 0, 0, 0, 0, 0, 0, 0, 0x88, 0, 0, 0, 0, 0, 0, 0,
	0, 0x10, 0, 0, 0, 0, 0, 0,
	0xb8, 107, 0, 0, 0, // mov eax, geteuid
	0x0f, 0x05, // syscall
	0x89, 0xc7, // mov edi, eax
	0xb8, 60, 0, 0, 0, // mov eax, exit
	0x0f, 0x05, // syscall
}

// execve runs a file and waits for it.
func (p *Process) execve(s Step) (string, error) {
	pid, err := syscall.ForkExec(p.pathAt(s.At, s.Path), []string{"program"}, &syscall.ProcAttr{Env: []string{}})
	if err != nil {
		return "", err
	}
	var status syscall.WaitStatus
	for {
		if _, err = syscall.Wait4(pid, &status, 0, nil); err != syscall.EINTR {
			break
		}
	}
	if status.Signaled() {
		return "killed by " + status.Signal().String(), err
	}
	return fmt.Sprintf("ended with %d", status.ExitStatus()), err
}
