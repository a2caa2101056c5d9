package histories

import "golang.org/x/sys/unix"

func (d *callDraw) name() {
	s := Step{}
	s.At, s.Path = d.path(true)
	kind := d.pick(9)
	if (kind < 4 || kind == 8) && s.At == AtRoot {
		s.Path = drawPath(d.pick) // where there is nothing yet, perhaps
	}
	switch kind {
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
		if len(d.files) > 0 && d.pick(2) == 0 {
			s.At, s.Path = AtRoot, one(d.pick, d.files...)
		}
		if s.ToAt, s.To = d.path(true); s.ToAt == AtRoot {
			s.To = drawPath(d.pick)
		}
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

func (d *callDraw) look() {
	s := Step{}
	s.At, s.Path = d.path(true)
	switch d.pick(8) {
	case 0:
		s.Call, s.Flags = "fstatat", one(d.pick, 0, unix.AT_SYMLINK_NOFOLLOW)
	case 1:
		s.Call, s.Flags = "statx", one(d.pick, 0, unix.AT_SYMLINK_NOFOLLOW)|one(d.pick, 0, unix.AT_STATX_FORCE_SYNC)
	case 2:
		s = Step{Call: "fstat", FD: d.slot()}
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
		s = Step{Call: "fchdir", FD: d.slot()}
	case 1:
		s = Step{Call: "umask", Mode: one[uint32](d.pick, 0o022, 0o002, 0o077, 0)}
	case 2:
		s.At, s.Path = AtCwd, one(d.pick, "..", "d", "e")
	}
	d.add(s)
}
