package histories

import (
	"golang.org/x/sys/unix"
)

// linkTargets are what symlinks say in mounted histories, where each process has the
// world as its root.
var linkTargets = []string{"f", "d", "../f", "a/d", "/b", "/a/d/f", "e/../g", ".", "nowhere", "x/"}

// callDraw draws what several processes do through a mount.
type callDraw struct {
	pick Pick
	proc int
	out  []Step
}

// DrawCalls draws one step of one process, or a few that belong together.
func DrawCalls(pick Pick) []Step {
	d := &callDraw{pick: pick, proc: one(pick, 0, 0, 1, 1, 2)}
	total := 0
	for _, k := range callKinds {
		total += k.weight
	}
	n := pick(total)
	for _, k := range callKinds {
		if n -= k.weight; n < 0 {
			k.draw(d)
			return d.out
		}
	}
	panic("internal error: the weights do not add up")
}

// callKinds are what there is to draw, and how often it comes.
var callKinds = []struct {
	weight int
	draw   func(d *callDraw)
}{
	{12, (*callDraw).open},
	{4, (*callDraw).shut},
	{12, (*callDraw).data},
	{4, (*callDraw).space},
	{14, (*callDraw).name},
	{6, (*callDraw).move},
	{10, (*callDraw).attributes},
	{8, (*callDraw).xattrs},
	{8, (*callDraw).look},
	{4, (*callDraw).where},
	{2, (*callDraw).tmpfile},
	{2, (*callDraw).program},
}

func (d *callDraw) add(s Step) {
	s.Proc = d.proc
	d.out = append(d.out, s)
}

// path draws where a path begins, and the path.
func (d *callDraw) path(slots bool) (at int, path string) {
	switch n := d.pick(9); {
	case n > 2:
		return AtRoot, drawPath(d.pick)
	case n == 2 && slots:
		at = 1 + d.pick(Slots)
	default:
		at = AtCwd
	}
	switch name := drawName(d.pick); d.pick(7) {
	case 0:
		return at, "../" + name
	case 1:
		return at, name + "/" + drawName(d.pick)
	case 2:
		return at, one(d.pick, ".", "..", "./"+name, name+"/")
	default:
		return at, name
	}
}

func (d *callDraw) letter() string { return string(rune('a' + d.pick(26))) }

func (d *callDraw) mode() uint32 {
	return one[uint32](d.pick, 0o644, 0o600, 0o666, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1777, 0o2775, 0)
}

func (d *callDraw) open() {
	s := Step{Call: "openat", FD: d.pick(Slots), Mode: d.mode() &^ 0o7000}
	s.At, s.Path = d.path(true)
	s.Flags = one(d.pick, unix.O_RDONLY, unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR)
	for _, f := range []struct{ flag, of int }{
		{unix.O_CREAT, 3}, {unix.O_EXCL, 6}, {unix.O_TRUNC, 6}, {unix.O_APPEND, 6},
		{unix.O_NOFOLLOW, 6}, {unix.O_DIRECTORY, 9}, {unix.O_PATH, 15},
	} {
		if d.pick(f.of) == 0 {
			s.Flags |= f.flag
		}
	}
	d.add(s)
}

func (d *callDraw) shut() {
	s := Step{Call: "close", FD: d.pick(Slots)}
	if d.pick(4) == 0 {
		s.Call, s.ToFD, s.Flags = "open a descriptor", d.pick(Slots), one(d.pick, unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY|unix.O_TRUNC)
	}
	d.add(s)
}

func (d *callDraw) data() {
	s := Step{FD: d.pick(Slots), Off: int64(d.pick(9000)), Len: int64(1 + d.pick(9000))}
	switch d.pick(8) {
	case 0, 1:
		s.Call = "pread"
	case 2:
		s.Call, s.Off = "read", 0
	case 3, 4:
		s.Call, s.Fill = "pwrite", d.letter()
	case 5:
		s.Call, s.Fill, s.Off = "write", d.letter(), 0
	case 6:
		s.Call, s.Fill = "mmap", d.letter()
	case 7:
		s.Call, s.Off, s.Len = "mmap", 0, 0
	}
	d.add(s)
	if d.pick(8) == 0 {
		d.add(Step{Call: one(d.pick, "fsync", "fdatasync"), FD: s.FD})
	}
}

func (d *callDraw) space() {
	s := Step{FD: d.pick(Slots), Off: int64(d.pick(9000)), Len: int64(1 + d.pick(9000))}
	switch d.pick(6) {
	case 0:
		s.Call, s.Off, s.Len = "ftruncate", 0, int64(d.pick(12000))
	case 1:
		s.Call, s.Off, s.Len = "truncate", 0, int64(d.pick(12000))
		s.FD, s.At = 0, AtRoot
		if s.Path = drawPath(d.pick); d.pick(4) == 0 {
			s.At, s.Path = AtCwd, drawName(d.pick)
		}
	case 2, 3:
		s.Call = "fallocate"
		s.Mode = one[uint32](d.pick, 0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
		if d.pick(6) == 0 {
			s.Mode = one[uint32](d.pick, unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE)
		}
	case 4:
		s.Call, s.Flags, s.Len = "lseek", one(d.pick, unix.SEEK_DATA, unix.SEEK_HOLE, unix.SEEK_SET, unix.SEEK_END), 0
	case 5:
		s.Call, s.ToOff, s.ToFD = "copy_file_range", int64(d.pick(9000)), (s.FD+1+d.pick(Slots-1))%Slots
	}
	d.add(s)
}

func (d *callDraw) name() {
	s := Step{}
	s.At, s.Path = d.path(true)
	switch d.pick(9) {
	case 0, 1:
		s.Call, s.Mode = "mkdirat", d.mode()
	case 2:
		s.Call, s.To = "symlinkat", one(d.pick, linkTargets...)
	case 3:
		s.Call = "mknodat"
		s.Mode = d.mode()&0o777 | one[uint32](d.pick, unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK)
		if t := s.Mode & unix.S_IFMT; t == unix.S_IFCHR {
			s.Dev = int(unix.Mkdev(1, 3))
		} else if t == unix.S_IFBLK {
			s.Dev = int(unix.Mkdev(259, 1048575))
		}
	case 4, 5:
		s.Call = "unlinkat"
	case 6:
		s.Call, s.Flags = "unlinkat", unix.AT_REMOVEDIR
	case 7:
		s.Call, s.Flags = "linkat", one(d.pick, 0, 0, unix.AT_SYMLINK_FOLLOW)
		s.ToAt, s.To = d.path(true)
	case 8:
		if s.Call = "bind"; s.At > 0 {
			s.At = AtRoot
		}
	}
	d.add(s)
}

func (d *callDraw) move() {
	s := Step{Call: "renameat2"}
	s.At, s.Path = d.path(true)
	s.ToAt, s.To = d.path(true)
	s.Flags = one(d.pick, 0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE)
	d.add(s)
}

func (d *callDraw) attributes() {
	s := Step{FD: d.pick(Slots)}
	owner := one(d.pick, [2]int{0, 0}, [2]int{1000, 1000}, [2]int{1001, 2000}, [2]int{-1, 2000}, [2]int{1000, -1})
	at, path := d.path(true)
	switch d.pick(8) {
	case 0, 1:
		s.Call, s.Mode, s.At, s.Path, s.FD = "fchmodat", d.mode(), at, path, 0
	case 2:
		s.Call, s.Mode = "fchmod", d.mode()
	case 3, 4:
		s.Call, s.UID, s.GID, s.At, s.Path, s.FD = "fchownat", owner[0], owner[1], at, path, 0
		s.Flags = one(d.pick, 0, unix.AT_SYMLINK_NOFOLLOW)
	case 5:
		s.Call, s.UID, s.GID = "fchown", owner[0], owner[1]
	case 6:
		s.Call, s.At, s.Path, s.FD = "utimensat", at, path, 0
		s.Atime, s.Mtime = d.time(0), d.time(1)
		s.Flags = one(d.pick, 0, unix.AT_SYMLINK_NOFOLLOW)
	case 7:
		s.Call = "futimens"
		s.Atime, s.Mtime = d.time(0), d.time(1)
	}
	d.add(s)
}

func (d *callDraw) time(i int) unix.Timespec {
	switch d.pick(4) {
	case 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case 1:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return drawPast(d.pick, i)
}

// capNetRaw is a value of security.capability: version 2, effective, CAP_NET_RAW.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

func (d *callDraw) acl() string {
	may := func() uint16 { return uint16(d.pick(8)) }
	if d.pick(3) == 0 {
		return acl(aclEntry{aclUserObj, may(), 0}, aclEntry{aclGroupObj, may(), 0}, aclEntry{aclOther, may(), 0})
	}
	return acl(aclEntry{aclUserObj, 7, 0}, aclEntry{aclUser, may(), 1000}, aclEntry{aclGroupObj, may(), 0},
		aclEntry{aclGroup, may(), 2000}, aclEntry{aclMask, may(), 0}, aclEntry{aclOther, may(), 0})
}

func (d *callDraw) xattrs() {
	name := one(d.pick, "user.one", "user.two", "trusted.one", "trusted.overlay.opaque", "user.overlay.redirect", "trusted.overlay.overlay.x",
		"user.containers.override_stat", "security.x", "security.capability", aclAccess, aclAccess, aclDefault, aclDefault)
	value := d.letter()
	switch name {
	case aclAccess, aclDefault:
		value = d.acl()
	case "security.capability":
		value = capNetRaw
	}
	s := Step{Name: name, At: one(d.pick, AtRoot, AtRoot, AtCwd)}
	if s.Path = drawName(d.pick); s.At == AtRoot {
		s.Path = drawPath(d.pick)
	}
	open := d.pick(3) == 0
	if open {
		s.At, s.Path, s.FD = 0, "", d.pick(Slots)
	}
	byPath := map[string]string{"fsetxattr": "lsetxattr", "fgetxattr": "lgetxattr", "fremovexattr": "lremovexattr"}
	switch d.pick(7) {
	case 0, 1, 2:
		s.Call, s.Value, s.Flags = "fsetxattr", value, one(d.pick, 0, 0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE)
	case 3, 4:
		s.Call, s.Len = "fgetxattr", one[int64](d.pick, 0, 1, 4096, 4096)
	case 5:
		s.Call = "fremovexattr"
	case 6:
		if open {
			s.FD, s.Path = 0, drawPath(d.pick)
		}
		s.Call, s.Name = "llistxattr", ""
		d.add(s)
		return
	}
	if !open {
		s.Call = byPath[s.Call]
	}
	d.add(s)
}

func (d *callDraw) look() {
	s := Step{}
	s.At, s.Path = d.path(true)
	switch d.pick(8) {
	case 0:
		s.Call, s.Flags = "fstatat", one(d.pick, 0, unix.AT_SYMLINK_NOFOLLOW)
	case 1:
		s.Call, s.Flags = "statx", one(d.pick, 0, unix.AT_SYMLINK_NOFOLLOW)|one(d.pick, 0, unix.AT_STATX_FORCE_SYNC)
	case 2:
		s = Step{Call: "fstat", FD: d.pick(Slots)}
	case 3:
		s.Call, s.Mode = "faccessat2", uint32(d.pick(8))
		s.Flags = one(d.pick, 0, unix.AT_EACCESS, unix.AT_SYMLINK_NOFOLLOW)
	case 4:
		s.Call = "readlinkat"
	default:
		s.Call, s.Len, s.Mode = "getdents", one[int64](d.pick, 300, 600, 4096), uint32(d.pick(2))
		if s.At == AtRoot {
			s.Path = drawDir(d.pick)
			if d.pick(6) == 0 {
				s.Path = "."
			}
		}
	}
	d.add(s)
}

func (d *callDraw) where() {
	s := Step{Call: "chdir", At: AtRoot, Path: drawDir(d.pick)}
	switch d.pick(6) {
	case 0:
		s = Step{Call: "fchdir", FD: d.pick(Slots)}
	case 1:
		s = Step{Call: "umask", Mode: one[uint32](d.pick, 0o022, 0o002, 0o077, 0)}
	case 2:
		s.At, s.Path = AtCwd, one(d.pick, "..", "d", "e")
	}
	d.add(s)
}

// tmpfile makes a file without a name, writes to it and gives it one.
func (d *callDraw) tmpfile() {
	fd := d.pick(Slots)
	s := Step{Call: "openat", At: AtRoot, Path: drawDir(d.pick), FD: fd, Flags: unix.O_TMPFILE | unix.O_RDWR, Mode: 0o640}
	if d.pick(4) == 0 {
		s.Flags |= unix.O_EXCL
	}
	d.add(s)
	d.add(Step{Call: "pwrite", FD: fd, Fill: d.letter(), Len: int64(1 + d.pick(5000))})
	for range 1 + d.pick(2) {
		l := Step{Call: "link a descriptor", FD: fd, Flags: one(d.pick, 0, unix.AT_EMPTY_PATH)}
		l.ToAt, l.To = d.path(false)
		d.add(l)
	}
}

// program writes a program and runs it, perhaps as somebody else.
func (d *callDraw) program() {
	fd, path := d.pick(Slots), drawPath(d.pick)
	d.add(Step{Call: "openat", Path: path, FD: fd, Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o755})
	d.add(Step{Call: "write program", FD: fd})
	if d.pick(3) > 0 {
		d.add(Step{Call: "close", FD: fd})
	}
	if d.pick(2) == 0 {
		d.add(Step{Call: "fchmodat", Path: path, Mode: one[uint32](d.pick, 0o4755, 0o6755, 0o644)})
	}
	for range 2 {
		d.proc = d.pick(len(Users))
		d.add(Step{Call: "execve", Path: path})
	}
}
