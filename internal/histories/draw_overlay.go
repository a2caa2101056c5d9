package histories

import (
	"strings"

	"golang.org/x/sys/unix"
)

var past = [2]unix.Timespec{{Sec: 1e9, Nsec: 123456789}, {Sec: 1e9 + 7, Nsec: 987654321}}

// DrawNameStep draws a step of what an overlay can be told to do with names, and that
// leaves nothing open.
func DrawNameStep(pick Pick) Step {
	s := Step{Path: drawPath(pick), To: drawPath(pick)}
	s.Mode = one[uint32](pick, 0o644, 0o600, 0o4755, 0o2711, 0o1777)
	s.UID = one(pick, 0, 1, 1000)
	s.GID = s.UID
	s.Fill, s.Len = string(rune('a'+pick(26))), int64(1+pick(3000))
	only := func(call string, keep func(to *Step)) Step {
		to := Step{Call: call, Path: s.Path}
		keep(&to)
		return to
	}
	switch pick(15) {
	case 0:
		return only("make file", func(to *Step) {
			to.Fill, to.Len, to.UID, to.GID, to.Mode = s.Fill, s.Len, s.UID, s.GID, s.Mode
		})
	case 1:
		return only("make directory", func(to *Step) { to.UID, to.GID, to.Mode = s.UID, s.GID, s.Mode })
	case 2:
		// Through a symlink a path of the plain directory then fails as ours does.
		return only("symlinkat", func(to *Step) { to.To = "/dev/" + strings.Repeat("./", pick(4)) + "null" })
	case 3:
		return only("make node", func(to *Step) {
			to.Mode = one[uint32](pick, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK) | 0o640
			to.Dev = int(unix.Mkdev(5, 1))
		})
	case 4, 5:
		return only("unlinkat", func(*Step) {})
	case 6:
		return only("unlinkat", func(to *Step) { to.Flags = unix.AT_REMOVEDIR })
	case 7:
		return only("linkat", func(to *Step) { to.To = s.To })
	case 8, 9:
		return only("renameat2", func(to *Step) {
			to.To, to.Flags = s.To, one(pick, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE)
		})
	case 10:
		return only("overwrite", func(to *Step) { to.Fill, to.Len = s.Fill, s.Len })
	case 11:
		return only("overwrite", func(to *Step) { to.Fill, to.Len, to.Flags = s.Fill, s.Len, unix.O_TRUNC })
	case 12:
		return only("resize", func(to *Step) { to.Len = int64(pick(5000)) })
	case 13:
		return only("set attributes", func(to *Step) {
			to.UID, to.GID, to.Mode, to.Atime, to.Mtime = s.UID, s.GID, s.Mode, past[0], past[1]
		})
	}
	name := one(pick, "user.one", "user.two", "trusted.overlay.opaque", "trusted.overlay.overlay.x", "security.x")
	if pick(3) == 0 {
		return only("remove an xattr", func(to *Step) { to.Name = name })
	}
	return only("set an xattr", func(to *Step) { to.Name, to.Value = name, s.Fill })
}

// ChangesData tells whether such a step makes or changes the contents of a file.
func (s Step) ChangesData() bool {
	return s.Call == "make file" || s.Call == "overwrite" || s.Call == "resize"
}

// DrawOverlayStep draws one of these steps, or one that has to do with files which
// stay open.
func DrawOverlayStep(pick Pick) Step {
	s := Step{FD: pick(Slots)}
	off, n := int64(pick(9000)), int64(1+pick(9000))
	switch pick(24) {
	case 0, 1, 2:
		s.Call, s.Path, s.Flags = "open file", drawPath(pick), one(pick, unix.O_RDONLY, unix.O_RDWR, unix.O_RDWR|unix.O_TRUNC)
	case 3:
		s.Call = "close"
	case 4:
		s.Call, s.Off, s.Len = "pread", off, n
	case 5, 6:
		s.Call, s.Off, s.Len, s.Fill = "pwrite", off, n, string(rune('a'+pick(26)))
	case 7:
		s.Call, s.Off, s.Len = "fallocate", off, n
		s.Mode = one[uint32](pick, 0, unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
	case 8:
		s.Call, s.Off, s.Flags = "lseek", off, one(pick, unix.SEEK_DATA, unix.SEEK_HOLE)
	case 9:
		s.Call, s.Off, s.ToOff, s.Len = "copy_file_range", off, int64(pick(9000)), n
		s.ToFD = (s.FD + 1 + pick(Slots-1)) % Slots
	case 10:
		s = Step{Call: "set times", Path: drawPath(pick)}
		s.Atime, s.Mtime = drawPast(pick, 0), drawPast(pick, 1)
		if pick(2) == 0 {
			s.Atime.Nsec = unix.UTIME_OMIT
		} else if pick(2) == 0 {
			s.Mtime.Nsec = unix.UTIME_OMIT
		}
	default:
		return DrawNameStep(pick)
	}
	return s
}

func drawPast(pick Pick, i int) unix.Timespec {
	return unix.Timespec{Sec: past[i].Sec, Nsec: int64(pick(1e9))}
}
