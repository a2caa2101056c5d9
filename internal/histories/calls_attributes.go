package histories

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Attributes: modes, owners, times, xattrs and ACLs.
func init() {
	register(map[string]call{
		"fchmodat": func(p *Process, s Step) (string, error) { return "", unix.Fchmodat(p.at(s.At), s.Path, s.Mode, 0) },
		"fchmod":   func(p *Process, s Step) (string, error) { return "", unix.Fchmod(p.files[s.FD], s.Mode) },
		"fchownat": func(p *Process, s Step) (string, error) {
			return "", unix.Fchownat(p.at(s.At), s.Path, s.UID, s.GID, s.Flags)
		},
		"fchown": func(p *Process, s Step) (string, error) { return "", unix.Fchown(p.files[s.FD], s.UID, s.GID) },
		"utimensat": func(p *Process, s Step) (string, error) {
			return "", unix.UtimesNanoAt(p.at(s.At), s.Path, []unix.Timespec{s.Atime, s.Mtime}, s.Flags)
		},
		"futimens": func(p *Process, s Step) (string, error) {
			ts := [2]unix.Timespec{s.Atime, s.Mtime}
			_, _, e := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(p.files[s.FD]), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
			return "", errnoOf(e)
		},
		"faccessat2": func(p *Process, s Step) (string, error) { // the wrapper decides some of it by itself
			path, err := unix.BytePtrFromString(s.Path)
			if err != nil {
				return "", err
			}
			_, _, e := unix.Syscall6(unix.SYS_FACCESSAT2, uintptr(p.at(s.At)), uintptr(unsafe.Pointer(path)), uintptr(s.Mode), uintptr(s.Flags), 0, 0)
			return "", errnoOf(e)
		},
		"statx": (*Process).statx,
		"fstat": func(p *Process, s Step) (string, error) {
			var st unix.Stat_t
			err := unix.Fstat(p.files[s.FD], &st)
			return looks(&st), err
		},
		"fstatat": func(p *Process, s Step) (string, error) {
			var st unix.Stat_t
			err := unix.Fstatat(p.at(s.At), s.Path, &st, s.Flags)
			return looks(&st), err
		},
		// One thing that fstatat says, for the differences.
		"nlink": func(p *Process, s Step) (string, error) {
			st, err := p.lstat(s)
			return fmt.Sprint(st.Nlink), err
		},
		"mtime": func(p *Process, s Step) (string, error) {
			st, err := p.lstat(s)
			return timeOf(st.Mtim).When(), err
		},
		"mode": func(p *Process, s Step) (string, error) {
			st, err := p.lstat(s)
			return fmt.Sprintf("mode %o", st.Mode), err
		},
		"lsetxattr": func(p *Process, s Step) (string, error) {
			return "", unix.Lsetxattr(p.pathAt(s.At, s.Path), s.Name, []byte(s.Value), s.Flags)
		},
		"fsetxattr": func(p *Process, s Step) (string, error) {
			return "", unix.Fsetxattr(p.files[s.FD], s.Name, []byte(s.Value), s.Flags)
		},
		"lgetxattr": func(p *Process, s Step) (string, error) {
			buf := make([]byte, s.Len)
			n, err := unix.Lgetxattr(p.pathAt(s.At, s.Path), s.Name, buf)
			return fmt.Sprintf("%d %q", n, buf[:min(max(n, 0), len(buf))]), err
		},
		"fgetxattr": func(p *Process, s Step) (string, error) {
			buf := make([]byte, s.Len)
			n, err := unix.Fgetxattr(p.files[s.FD], s.Name, buf)
			return fmt.Sprintf("%d %q", n, buf[:min(max(n, 0), len(buf))]), err
		},
		"llistxattr": func(p *Process, s Step) (string, error) {
			buf := make([]byte, 4096)
			n, err := unix.Llistxattr(p.pathAt(s.At, s.Path), buf)
			return sorted(strings.Split(string(buf[:max(n, 0)]), "\x00")), err
		},
		"lremovexattr": func(p *Process, s Step) (string, error) { return "", unix.Lremovexattr(p.pathAt(s.At, s.Path), s.Name) },
		"fremovexattr": func(p *Process, s Step) (string, error) { return "", unix.Fremovexattr(p.files[s.FD], s.Name) },
	})
}

func (p *Process) lstat(s Step) (st unix.Stat_t, err error) {
	err = unix.Fstatat(p.at(s.At), s.Path, &st, unix.AT_SYMLINK_NOFOLLOW)
	return st, err
}

func (p *Process) statx(s Step) (string, error) {
	var st unix.Statx_t
	err := unix.Statx(p.at(s.At), s.Path, s.Flags, unix.STATX_BASIC_STATS, &st)
	text := fmt.Sprintf("mode %o owner %d:%d", st.Mode, st.Uid, st.Gid)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		text += fmt.Sprintf(" size %d nlink %d", st.Size, st.Nlink)
	}
	return text, err
}

// The tags of ACL entries, and acl puts them into the form that setfacl(1) hands to
// the kernel: who is a tag and an id, may is rwx.
const (
	aclUserObj  = 1
	aclUser     = 2
	aclGroupObj = 4
	aclGroup    = 8
	aclMask     = 16
	aclOther    = 32
)

type aclEntry struct {
	tag, may uint16
	id       uint32
}

func acl(entries ...aclEntry) string {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range entries {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.may)
		if e.tag != aclUser && e.tag != aclGroup {
			e.id = 1<<32 - 1
		}
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return string(b)
}
