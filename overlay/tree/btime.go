package tree

import "golang.org/x/sys/unix"

// Born is a Tree that can tell when some of its inodes were made. A tree file
// cannot: tar has no such time.
type Born interface {
	// Btime returns false where it is not known.
	Btime(id ID) (Time, bool)
}

// Btime asks t, if it is one that can tell.
func Btime(t Tree, id ID) (Time, bool) {
	if b, ok := t.(Born); ok {
		return b.Btime(id)
	}
	return Time{}, false
}

func (s *Stacked) Btime(id ID) (Time, bool) {
	p, err := s.part(id)
	if err != nil || p.id == None {
		return Time{}, false
	}
	return Btime(s.layers[p.layer], p.id)
}

func (h *HostDir) Btime(id ID) (Time, bool) {
	n, err := h.node(id)
	if err != nil {
		return Time{}, false
	}
	dir, at, err := h.place(n)
	if err != nil {
		return Time{}, false
	}
	defer h.fds.release(dir)
	return HostBtime(dir.fd, at)
}

// HostBtime returns when what dir has at name was made: dir itself if name is empty.
// False where its filesystem does not say.
func HostBtime(dir int, name string) (Time, bool) {
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err != nil || st.Mask&unix.STATX_BTIME == 0 {
		return Time{}, false
	}
	return Time{Sec: st.Btime.Sec, Nsec: st.Btime.Nsec}, true
}
