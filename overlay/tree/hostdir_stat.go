package tree

import "golang.org/x/sys/unix"

// hostStat is what is remembered of a struct stat, packed.
type hostStat struct {
	key                 hostKey
	size                int64
	blocks              uint64
	rdev                uint64
	asec, msec, csec    int64
	ansec, mnsec, cnsec uint32
	mode, hostMode      uint32 // as shown; as the host has it
	uid, gid, nlink     uint32
	whiteout            bool // by an xattr
}

func statOf(st *unix.Stat_t) hostStat {
	return hostStat{
		key:    hostKey{uint64(st.Dev), st.Ino},
		size:   st.Size,
		blocks: uint64(st.Blocks),
		rdev:   uint64(st.Rdev),
		asec:   int64(st.Atim.Sec), ansec: uint32(st.Atim.Nsec),
		msec: int64(st.Mtim.Sec), mnsec: uint32(st.Mtim.Nsec),
		csec: int64(st.Ctim.Sec), cnsec: uint32(st.Ctim.Nsec),
		mode: st.Mode, hostMode: st.Mode,
		uid: st.Uid, gid: st.Gid, nlink: uint32(st.Nlink),
	}
}

func (s *hostStat) attr() Attr {
	a := Attr{
		Mode: s.mode, UID: s.uid, GID: s.gid, Nlink: s.nlink, Blocks: s.blocks,
		Atime: Time{s.asec, s.ansec}, Mtime: Time{s.msec, s.mnsec}, Ctime: Time{s.csec, s.cnsec},
	}
	switch s.mode & ModeType {
	case ModeRegular, ModeSymlink:
		a.Size = s.size
	case ModeChar, ModeBlock:
		a.Rdev = s.rdev
	}
	return a
}

// isWhiteout tells whether it is a whiteout. A device 0:0 that OverrideStat
// makes of a regular file is none.
func (s *hostStat) isWhiteout() bool {
	return s.whiteout || s.hostMode&ModeType == ModeChar && s.rdev == 0
}
