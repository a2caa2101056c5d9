package histories

import (
	"golang.org/x/sys/unix"
)

// linkTargets are what symlinks say in mounted histories, where each process has the
// world as its root.
var linkTargets = []string{"f", "d", "../f", "a/d", "/b", "/a/d/f", "e/../g", ".", "nowhere", "x/"}

// callDraw draws what several processes do through a mount. It guesses what there is,
// or most calls would fail.
type callDraw struct {
	pick  Pick
	proc  int
	out   []Step
	known []string      // paths at which there may be something
	files []string      // of these, files
	slots [][Slots]bool // by process: which may be open
}

// Calls draws steps of that many processes, over lowers that may be nil.
func Calls(pick Pick, processes int, lowers Lowers) func() []Step {
	d := &callDraw{pick: pick, slots: make([][Slots]bool, processes)}
	for _, layer := range lowers {
		for _, e := range layer {
			if e.Kind != Whiteout {
				d.known = append(d.known, e.Path)
			}
			if e.Kind == File || e.Kind == HardLink {
				d.files = append(d.files, e.Path)
			}
		}
	}
	return func() []Step {
		d.out, d.proc = nil, min(one(pick, 0, 0, 1, 1, 2, 3), processes-1)
		return d.draw()
	}
}

// draw draws one step, or a few that belong together.
func (d *callDraw) draw() []Step {
	total := 0
	for _, k := range callKinds {
		total += k.weight
	}
	n := d.pick(total)
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
	{3, (*callDraw).shut},
	{20, (*callDraw).data},
	{10, (*callDraw).space},
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
	switch s.Call {
	case "openat":
		d.slots[d.proc][s.FD] = true
	case "open a descriptor":
		d.slots[d.proc][s.ToFD] = true
	case "close":
		d.slots[d.proc][s.FD] = false
	}
	if makes := s.Call == "openat" || s.Call == "mkdirat" || s.Call == "mknodat" || s.Call == "symlinkat"; makes && s.At == AtRoot {
		d.known = append(d.known, s.Path)
	}
	if s.To != "" && s.ToAt == AtRoot && s.Call != "symlinkat" {
		d.known = append(d.known, s.To)
	}
}

// slot draws one that is open, more often than not; if there is none it opens one.
func (d *callDraw) slot() int {
	fd := d.pick(Slots)
	if d.slots[d.proc] == [Slots]bool{} {
		d.openFile(fd)
		return fd
	}
	for range Slots {
		if d.slots[d.proc][fd] || d.pick(12) == 0 {
			break
		}
		fd = (fd + 1) % Slots
	}
	return fd
}

// there draws a path from the root at which there is something, more often than not.
func (d *callDraw) there() string {
	if len(d.known) > 0 && d.pick(2) == 0 {
		return one(d.pick, d.known...)
	}
	return drawPath(d.pick)
}

// path draws where a path begins, and the path.
func (d *callDraw) path(slots bool) (at int, path string) {
	switch n := d.pick(9); {
	case n > 2:
		return AtRoot, d.there()
	case n == 2 && slots:
		at = 1 + d.slot()
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
	if d.pick(2) == 0 {
		d.openFile(d.pick(Slots))
		return
	}
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

// openFile opens what is likely to be a file.
func (d *callDraw) openFile(fd int) {
	s := Step{Call: "openat", FD: fd, Path: drawName(d.pick), Mode: one[uint32](d.pick, 0o666, 0o644, 0o6777)}
	s.Flags = one(d.pick, unix.O_RDONLY, unix.O_RDWR|unix.O_CREAT, unix.O_RDWR|unix.O_CREAT, unix.O_RDWR|unix.O_APPEND)
	if len(d.files) > 0 && d.pick(3) > 0 {
		s.Path = one(d.pick, d.files...)
	}
	d.add(s)
}

func (d *callDraw) shut() {
	s := Step{Call: "close", FD: d.slot()}
	if d.pick(4) == 0 {
		s.Call, s.ToFD, s.Flags = "open a descriptor", d.pick(Slots), one(d.pick, unix.O_RDONLY, unix.O_RDWR, unix.O_WRONLY|unix.O_TRUNC)
	}
	d.add(s)
}

func (d *callDraw) data() {
	s := Step{FD: d.slot(), Off: int64(d.pick(9000)), Len: int64(1 + d.pick(9000))}
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
	s := Step{FD: d.slot(), Off: int64(d.pick(9000)), Len: int64(1 + d.pick(9000))}
	switch d.pick(6) {
	case 0:
		s.Call, s.Off, s.Len = "ftruncate", 0, int64(d.pick(12000))
	case 1:
		s.Call, s.Off, s.Len = "truncate", 0, int64(d.pick(12000))
		s.FD, s.At = 0, AtRoot
		if s.Path = d.there(); d.pick(4) == 0 {
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
		s.Call, s.ToOff, s.ToFD = "copy_file_range", int64(d.pick(9000)), d.slot()
		if s.ToFD == s.FD {
			s.ToFD = (s.FD + 1) % Slots
		}
		if !d.slots[d.proc][s.ToFD] {
			d.openFile(s.ToFD)
		}
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
	if d.pick(2) == 0 {
		path = drawName(d.pick)
	}
	d.add(Step{Call: "openat", Path: path, FD: fd, Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o755})
	d.add(Step{Call: "write program", FD: fd})
	if d.pick(3) > 0 {
		d.add(Step{Call: "close", FD: fd})
	}
	if d.pick(2) == 0 {
		d.add(Step{Call: "fchmodat", Path: path, Mode: one[uint32](d.pick, 0o4755, 0o6755, 0o644)})
	}
	for range 2 {
		d.proc = d.pick(len(d.slots))
		d.add(Step{Call: "execve", Path: path})
	}
}
