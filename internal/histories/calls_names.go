package histories

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Names: making, moving, removing and listing them.
func init() {
	register(map[string]call{
		"mkdirat":   func(p *Process, s Step) (string, error) { return "", unix.Mkdirat(p.at(s.At), s.Path, s.Mode) },
		"symlinkat": func(p *Process, s Step) (string, error) { return "", unix.Symlinkat(s.To, p.at(s.At), s.Path) },
		"mknodat": func(p *Process, s Step) (string, error) {
			return "", unix.Mknodat(p.at(s.At), s.Path, s.Mode, s.Dev)
		},
		"unlinkat": func(p *Process, s Step) (string, error) { return "", unix.Unlinkat(p.at(s.At), s.Path, s.Flags) },
		"renameat2": func(p *Process, s Step) (string, error) {
			return "", unix.Renameat2(p.at(s.At), s.Path, p.at(s.ToAt), s.To, uint(s.Flags))
		},
		"linkat": func(p *Process, s Step) (string, error) {
			return "", unix.Linkat(p.at(s.At), s.Path, p.at(s.ToAt), s.To, s.Flags)
		},
		"link a descriptor": func(p *Process, s Step) (string, error) { // by linkat with AT_EMPTY_PATH, or else /proc
			if s.Flags&unix.AT_EMPTY_PATH != 0 {
				return "", unix.Linkat(p.files[s.FD], "", p.at(s.ToAt), s.To, s.Flags)
			}
			return "", unix.Linkat(p.proc, p.self(s.FD), p.at(s.ToAt), s.To, unix.AT_SYMLINK_FOLLOW)
		},
		"readlinkat": func(p *Process, s Step) (string, error) {
			buf := make([]byte, unix.PathMax)
			n, err := unix.Readlinkat(p.at(s.At), s.Path, buf)
			return fmt.Sprintf("%q", buf[:max(n, 0)]), err
		},
		"chdir":    func(p *Process, s Step) (string, error) { return "", unix.Chdir(p.pathAt(s.At, s.Path)) },
		"fchdir":   func(p *Process, s Step) (string, error) { return "", unix.Fchdir(p.files[s.FD]) },
		"umask":    func(p *Process, s Step) (string, error) { return fmt.Sprintf("%o", unix.Umask(int(s.Mode))), nil },
		"bind":     (*Process).bind,
		"getdents": (*Process).getdents,
	})
}

// bind makes a socket with a name, and lets it go.
func (p *Process) bind(s Step) (string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	path := p.pathAt(s.At, s.Path)
	if len(path) > 107 {
		return "", unix.EINVAL
	}
	return "", unix.Bind(fd, &unix.SockaddrUnix{Name: path})
}

// dirent is what getdents(2) says of a name; next is where the following one is.
type dirent struct {
	name string
	ino  uint64
	next int64
	typ  byte
}

// readSome is one getdents(2).
func readSome(fd int, room int) ([]dirent, error) {
	buf := make([]byte, room)
	n, err := unix.Getdents(fd, buf)
	if err != nil {
		return nil, err
	}
	var list []dirent
	for buf = buf[:n]; len(buf) > 0; {
		size := binary.NativeEndian.Uint16(buf[16:])
		name, _, _ := strings.Cut(string(buf[19:size]), "\x00")
		list = append(list, dirent{name, binary.NativeEndian.Uint64(buf), int64(binary.NativeEndian.Uint64(buf[8:])), buf[18]})
		buf = buf[size:]
	}
	return list, nil
}

// getdents lists a directory bit by bit. With a Mode it makes names on the way and
// removes them again, and goes back to where it was: what stays must come once.
func (p *Process) getdents(s Step) (string, error) {
	fd, err := unix.Openat(p.at(s.At), s.Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	passing := func(i int) string { return fmt.Sprintf(".passing%d", i) }
	if s.Mode != 0 {
		for i := range 3 {
			if err := unix.Mknodat(fd, passing(i), unix.S_IFREG|0o600, 0); err != nil {
				return "", err
			}
		}
	}
	change := func(i int) error {
		if s.Mode == 0 {
			return nil
		}
		if err := unix.Unlinkat(fd, passing(i), 0); err != nil {
			return err
		}
		if i > 2 {
			return nil
		}
		return unix.Mknodat(fd, passing(i+3), unix.S_IFREG|0o600, 0)
	}
	seen := map[string]int{}
	changed := 0
	for {
		some, err := readSome(fd, int(s.Len))
		if err != nil {
			return "", err
		}
		if len(some) == 0 {
			break
		}
		if changed < 6 {
			if err := change(changed); err != nil {
				return "", err
			}
			changed++
		}
		if len(some) > 1 { // back to after the first
			if _, err := unix.Seek(fd, some[0].next, unix.SEEK_SET); err != nil {
				return "", err
			}
			some = some[:1]
		}
		for _, e := range some {
			seen[e.name]++
		}
	}
	for i := changed; s.Mode != 0 && i < 6; i++ {
		if err := change(i); err != nil {
			return "", err
		}
	}
	return p.listed(fd, seen)
}

// Torn begins what a listing says that was not as it should be. Of the worlds that are
// to be compared with it is not asked: tmpfs forgets names when one goes back in a
// directory in which some were renamed.
const Torn = "; torn: "

// listed compares what was seen bit by bit with the whole list.
func (p *Process) listed(fd int, seen map[string]int) (string, error) {
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return "", err
	}
	var names, torn []string
	for {
		some, err := readSome(fd, 1<<16)
		if err != nil {
			return "", err
		}
		if len(some) == 0 {
			break
		}
		for _, e := range some {
			names = append(names, fmt.Sprintf("%q", e.name))
			if seen[e.name] != 1 {
				torn = append(torn, fmt.Sprintf("%q came %d times", e.name, seen[e.name]))
			}
			delete(seen, e.name)
		}
	}
	for name := range seen {
		if !strings.HasPrefix(name, ".passing") {
			torn = append(torn, fmt.Sprintf("%q came and is not there", name))
		}
	}
	if len(torn) > 0 {
		return sorted(names) + Torn + sorted(torn), nil
	}
	return sorted(names), nil
}
