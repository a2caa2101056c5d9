package histories

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Lockstep takes a history through several worlds, one step after the other in all of
// them, and tells where they do not agree.
type Lockstep struct {
	Plain  Oracle
	Ours   World
	Kernel World // nil: is left out

	// OldData says that who has a lower file open goes on reading that after
	// somebody wrote to it: see the differences.
	OldData bool

	// Passthrough says that the kernel may have two inodes of one file, so that some
	// things must be found again by name: see the differences.
	Passthrough bool

	// HiddenLinks says that names which are hidden count as links, as they do
	// where lowers are plain directories: see the differences.
	HiddenLinks bool

	Met   map[int]int // how often each of Differences was met
	Steps int         // how many were made

	// Broken says that the kernel's world may have lost something: overlayfs was
	// told to change what is removed, see the differences.
	Broken bool

	Trees []Tree // at the end: plain, ours, and the kernel's if it is still there
	Log   func(format string, a ...any)

	files   map[slot]opened
	lower   map[uint64]bool // the inodes that were there at first
	written map[uint64]bool // those that were open for writing since
}

// Oracle is a world that says what is right.
type Oracle interface {
	World

	// Where tells the inode of the file that a step would be about, 0 if there is
	// none.
	Where(Step) uint64
}

type slot struct{ proc, fd int }

// opened is what is known of an open file: the inode is that of the plain directory.
type opened struct {
	ino    uint64
	writes bool
	early  bool // on a lower file that nobody had written to
}

// Play makes the steps. The kernel's world is given up at the first known difference,
// for its tree then goes another way.
func (l *Lockstep) Play(steps []Step) (wrong []string) {
	start, err := l.Plain.Tree()
	if err != nil {
		return []string{err.Error()}
	}
	l.files, l.lower, l.written = map[slot]opened{}, map[uint64]bool{}, map[uint64]bool{}
	for _, n := range start {
		l.lower[n.Ino] = true
	}
	if l.Met == nil {
		l.Met = map[int]int{}
	}
	for i, s := range steps {
		if l.leaveOut(s) {
			continue
		}
		l.Steps++
		want := l.Plain.Do(s)
		if l.Log != nil {
			l.Log("step %d: %s: %v", i, s, want)
		}
		if want.Errno == Bad {
			return []string{fmt.Sprintf("step %d: %s: %v", i, s, want)}
		}
		if s.Call == "fallocate" && want.Errno == unix.EOPNOTSUPP {
			continue // others take set-id bits away before they refuse, see the differences
		}
		if l.Passthrough && changesAttributes[s.Call] && s.Path == "" && l.shared(s) {
			l.Ours.Do(Step{Proc: s.Proc, Call: "fstat", FD: s.FD}) // see the differences
		}
		got := l.Ours.Do(s)
		if l.Passthrough && s.Call == "open a descriptor" && got.Errno == unix.ESTALE && want.Errno == 0 {
			l.undo(s)
			continue
		}
		if l.loose(s, want) {
			got = want
		}
		want.Text, _, _ = strings.Cut(want.Text, Torn)
		if (got.Errno != want.Errno || got.Text != want.Text) && l.refreshed(s, got) {
			got = l.Ours.Do(s)
		}
		if got.Errno != want.Errno || l.text(got) != l.text(want) {
			return []string{fmt.Sprintf("step %d: %s: %v, a plain directory says %v", i, s, got, want)}
		}
		l.note(s, want)
		if want.Removed && l.Kernel != nil {
			l.Broken = true
			if err := l.Kernel.End(); err != nil {
				return []string{err.Error()}
			}
			l.Kernel = nil
		}
		if l.Kernel == nil {
			continue
		}
		if k := l.Kernel.Do(s); k.Errno != want.Errno {
			d := slices.IndexFunc(Differences, func(d Difference) bool {
				return slices.Contains(d.Calls, s.Call) && d.Errnos == [2]syscall.Errno{want.Errno, k.Errno}
			})
			if d < 0 {
				return []string{fmt.Sprintf("step %d: %s: %v, overlayfs says %v", i, s, want, k)}
			}
			l.Met[d]++
			if err := l.Kernel.End(); err != nil {
				return []string{err.Error()}
			}
			l.Kernel = nil
		}
	}
	return l.compare()
}

// compare ends the history and compares the trees.
func (l *Lockstep) compare() (wrong []string) {
	worlds := []World{l.Plain, l.Ours}
	if l.Kernel != nil {
		worlds = append(worlds, l.Kernel)
	}
	l.Trees = make([]Tree, len(worlds))
	trees := l.Trees
	for i, w := range worlds {
		err := w.End()
		if err == nil {
			trees[i], err = w.Tree()
		}
		if err != nil {
			return []string{[]string{"plain: ", "merged: ", "overlayfs: "}[i] + err.Error()}
		}
	}
	plain, ours := trees[0], trees[1]
	if l.HiddenLinks {
		plain, ours = plain.WithoutNlink(), ours.WithoutNlink()
	} else {
		wrong = CheckLinks("merged", ours)
	}
	wrong = append(wrong, CheckInodes("merged", ours)...)
	wrong = append(wrong, Compare("merged", plain, ours, When)...)
	if l.Kernel != nil {
		wrong = append(wrong, Compare("overlayfs", trees[0].WithoutNlink(), trees[2].WithoutNlink(), NoTimes)...)
	}
	return wrong
}

var nlinkInText = regexp.MustCompile(` nlink \d+`)

func (l *Lockstep) text(a Answer) string {
	if l.HiddenLinks {
		return nlinkInText.ReplaceAllString(a.Text, "")
	}
	return a.Text
}

// note remembers what a step opened or wrote to.
func (l *Lockstep) note(s Step, a Answer) {
	if a.Errno != 0 {
		return
	}
	at := slot{s.Proc, s.FD}
	old := false // leads to the inode that the lower file had
	switch s.Call {
	case "openat", "open file":
	case "open a descriptor":
		old = l.files[at].early
		at.fd = s.ToFD
	case "close":
		delete(l.files, at)
		return
	case "truncate", "overwrite", "resize":
		l.written[a.Ino] = true
		return
	default:
		return
	}
	o := opened{ino: a.Ino}
	if s.Flags&unix.O_PATH == 0 {
		o.writes = s.Flags&unix.O_ACCMODE != unix.O_RDONLY || s.Flags&unix.O_TRUNC != 0
	}
	if o.writes {
		l.written[o.ino] = true
	}
	o.early = l.lower[o.ino] && !o.writes && (old || !l.written[o.ino])
	l.files[at] = o
}

// shared tells whether the file of a slot is open in another one, too: then it may have
// two inodes, and the kernel asks who owns it only where somebody looks.
func (l *Lockstep) shared(s Step) bool {
	at := slot{s.Proc, s.FD}
	for other, o := range l.files {
		if other != at && o.ino == l.files[at].ino {
			return true
		}
	}
	return false
}

// stale tells whether a slot may show what a lower file was before it was written to.
func (l *Lockstep) stale(proc, fd int) bool {
	o := l.files[slot{proc, fd}]
	return l.OldData && o.early && l.written[o.ino]
}

// undo closes what only other worlds than ours could open.
func (l *Lockstep) undo(s Step) {
	shut := Step{Proc: s.Proc, Call: "close", FD: s.ToFD}
	l.Plain.Do(shut)
	l.Ours.Do(shut) // what was open there before
	if l.Kernel != nil {
		l.Kernel.Do(shut)
	}
	delete(l.files, slot{s.Proc, s.ToFD})
}

// refreshed has the kernel ask for attributes that it went on with and that may have
// changed, and tells whether to try again: see the differences.
func (l *Lockstep) refreshed(s Step, got Answer) bool {
	link := s.Call == "link a descriptor" && got.Errno == unix.EPERM
	if !link && (s.Call != "copy_file_range" || !l.Passthrough) {
		return false
	}
	return l.Ours.Do(Step{Proc: s.Proc, Call: "fstat", FD: s.FD}).Errno == 0
}

// loose tells whether the answer to a step may be another one.
func (l *Lockstep) loose(s Step, want Answer) bool {
	switch s.Call {
	case "pread", "read", "lseek", "mmap":
		return l.stale(s.Proc, s.FD)
	case "execve":
		return l.Passthrough && want.Errno == unix.ETXTBSY
	}
	return false
}

// leaveOut tells whether a step would take the worlds different ways, for a reason
// that is known.
func (l *Lockstep) leaveOut(s Step) bool {
	switch s.Call {
	case "copy_file_range":
		return l.stale(s.Proc, s.FD)
	case "fchmodat", "fchmod", "lsetxattr", "fsetxattr":
		if !l.Passthrough || s.Mode&0o6000 == 0 && s.Name != "security.capability" {
			return false
		}
		ino := l.Plain.Where(s)
		for _, o := range l.files {
			if ino != 0 && o.ino == ino && o.writes {
				return true
			}
		}
	case "open a descriptor":
		return l.Passthrough && s.Flags&unix.O_TRUNC != 0
	}
	return false
}
