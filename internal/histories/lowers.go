package histories

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Lowers are the layers below a history, base first.
type Lowers []Layer

// Layer is what a layer holds; parents of its entries are made as needed.
type Layer []Entry

// Entry is one name in a layer.
type Entry struct {
	Path   string
	Kind   EntryKind
	Size   int    // of a file
	Fill   string // its one letter
	To     string // a symlink's target; the path of which this is a hard link
	Owner  [2]int // user and group
	Mode   uint32 // 0: whatever it is made with
	Xattrs map[string]string
}

// EntryKind says what stands at a name.
type EntryKind byte

const (
	File     EntryKind = 'f'
	HardLink EntryKind = 'l'
	Symlink  EntryKind = 's'
	FIFO     EntryKind = 'p'
	Dir      EntryKind = 'd'
	Opaque   EntryKind = 'o'
	Whiteout EntryKind = 'w'
)

// lowerTime is when everything in a lower was changed last.
var lowerTime = unix.Timespec{Sec: 981173106, Nsec: 789000000} // 2001-02-03 04:05:06.789

// drawLowers draws one to eight layers full of whiteouts, opaque directories and hard
// links. With users, some of it belongs to them and some may be used by all.
func drawLowers(pick Pick, users bool) Lowers {
	var all Lowers
	below := map[string]bool{} // what the layers below merge to
	for i := range 1 + pick(8) {
		d := layerDraw{pick: pick, users: users, below: below, is: map[string]EntryKind{}}
		if users {
			d.layer = append(d.layer, Entry{Path: ".", Kind: Dir, Mode: 0o777})
		}
		for range 4 + pick(14) {
			d.entry(i > 0)
		}
		all = append(all, d.layer)
		for p := range below {
			for up := p; up != "."; up = filepath.Dir(up) {
				if k := d.is[up]; k == Whiteout || k == File || k == Opaque && up != p {
					delete(below, p)
				}
			}
		}
		for p, k := range d.is {
			if k != Whiteout {
				below[p] = true
			}
		}
	}
	return all
}

type layerDraw struct {
	pick  Pick
	users bool
	below map[string]bool
	layer Layer
	is    map[string]EntryKind // what the layer has at a path
	files []string
}

func (d *layerDraw) entry(over bool) {
	pick, is := d.pick, d.is
	p := drawPath(pick)
	var parents []string
	fits := is[p] == 0
	for up := filepath.Dir(p); up != "."; up = filepath.Dir(up) {
		parents = append(parents, up)
		fits = fits && (is[up] == 0 || is[up] == Dir || is[up] == Opaque)
	}
	if !fits {
		return
	}
	for _, up := range parents {
		if is[up] == 0 {
			is[up] = Dir
		}
	}
	e := Entry{Path: p, Kind: Dir}
	is[p] = File // or what else hides a directory
	switch k := pick(12); {
	case k < 4:
		e.Kind, e.Size, e.Fill = File, 1+pick(6000), string(rune('A'+pick(26)))
		d.files = append(d.files, p)
	case (k == 4 || k == 5) && len(d.files) > 0:
		e.Kind, e.To = HardLink, one(pick, d.files...)
		d.layer = append(d.layer, e)
		return
	case k == 6:
		e.Kind, e.To = Symlink, "/dev/null"
		if d.users {
			e.To = one(pick, linkTargets...)
		}
	case k == 7:
		e.Kind = FIFO
	case k >= 8 && k < 10 && d.below[p] && !slices.ContainsFunc(parents, func(up string) bool { return is[up] == Opaque }):
		// Where there is nothing to hide, overlayfs would list it.
		e.Kind, is[p] = Whiteout, Whiteout
		d.layer = append(d.layer, e)
		return
	case k == 10 && over:
		e.Kind, is[p] = Opaque, Opaque
	default:
		is[p] = Dir
	}
	if pick(3) == 0 {
		e.Owner = [2]int{pick(3), pick(3)}
	}
	directory := e.Kind == Dir || e.Kind == Opaque
	if directory && pick(4) == 0 {
		e.Mode, e.Xattrs = one[uint32](pick, 0o2775, 0o1777, 0o700), map[string]string{"user.one": "1"}
	}
	if d.users {
		d.forUsers(&e, directory)
	}
	d.layer = append(d.layer, e)
}

// forUsers gives an entry to a user, or to all.
func (d *layerDraw) forUsers(e *Entry, directory bool) {
	pick := d.pick
	if pick(2) == 0 {
		e.Owner = one(pick, [2]int{1000, 1000}, [2]int{1001, 2000}, [2]int{0, 2000})
	}
	if pick(2) == 0 && e.Kind != Symlink {
		e.Mode = one[uint32](pick, 0o666, 0o660, 0o4755, 0o2755, 0o6777)
		if directory {
			e.Mode = one[uint32](pick, 0o777, 0o770, 0o2775, 0o1777, 0o3777)
		}
	}
}

// Make writes the layers below top and returns their directories, base first.
func (l Lowers) Make(top string) (dirs []string, err error) {
	for i, layer := range l {
		dir := filepath.Join(top, layerName(i))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
		for _, e := range layer {
			if err := e.make(dir); err != nil {
				return nil, fmt.Errorf("%s: %c %q: %w", dir, e.Kind, e.Path, err)
			}
		}
		if err := age(dir); err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

func layerName(i int) string { return fmt.Sprintf("layer%d", i) }

func (e Entry) make(dir string) error {
	at := filepath.Join(dir, e.Path)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	var err error
	switch e.Kind {
	case File:
		err = os.WriteFile(at, []byte(strings.Repeat(e.Fill, e.Size)), 0o644)
	case HardLink:
		return os.Link(filepath.Join(dir, e.To), at)
	case Symlink:
		err = os.Symlink(e.To, at)
	case FIFO:
		err = unix.Mknod(at, unix.S_IFIFO|0o644, 0)
	case Whiteout:
		return unix.Mknod(at, unix.S_IFCHR, 0)
	default:
		err = os.MkdirAll(at, 0o755)
	}
	if err != nil {
		return err
	}
	if err := unix.Lchown(at, e.Owner[0], e.Owner[1]); err != nil {
		return err
	}
	for name, value := range e.xattrs() {
		if err := unix.Lsetxattr(at, name, []byte(value), 0); err != nil {
			return err
		}
	}
	if e.Mode != 0 {
		return unix.Chmod(at, e.Mode)
	}
	return nil
}

func (e Entry) xattrs() map[string]string {
	if e.Kind != Opaque {
		return e.Xattrs
	}
	all := map[string]string{"trusted.overlay.opaque": "y"}
	for name, value := range e.Xattrs {
		all[name] = value
	}
	return all
}

// age gives lowerTime to all that is in a directory, and to itself.
func age(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{lowerTime, lowerTime}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// script is for sh what Make does, in the working directory.
func (l Lowers) script() string {
	var b strings.Builder
	for i, layer := range l {
		fmt.Fprintf(&b, "mkdir %s\n", layerName(i))
		for _, e := range layer {
			q := quoted(layerName(i) + "/" + e.Path)
			fmt.Fprintf(&b, "mkdir -p %s; ", quoted(layerName(i)+"/"+filepath.Dir(e.Path)))
			switch e.Kind {
			case File:
				fmt.Fprintf(&b, "printf %%%ds | tr ' ' %s > %s", e.Size, e.Fill, q)
			case HardLink:
				fmt.Fprintf(&b, "ln %s %s\n", quoted(layerName(i)+"/"+e.To), q)
				continue
			case Symlink:
				fmt.Fprintf(&b, "ln -s %s %s", quoted(e.To), q)
			case FIFO:
				fmt.Fprintf(&b, "mkfifo %s", q)
			case Whiteout:
				fmt.Fprintf(&b, "mknod %s c 0 0\n", q)
				continue
			default:
				fmt.Fprintf(&b, "mkdir -p %s", q)
			}
			fmt.Fprintf(&b, "; chown -h %d:%d %s", e.Owner[0], e.Owner[1], q)
			for name, value := range e.xattrs() {
				fmt.Fprintf(&b, "; setfattr -h -n %s -v %s %s", name, value, q)
			}
			if e.Mode != 0 {
				fmt.Fprintf(&b, "; chmod %o %s", e.Mode, q)
			}
			b.WriteString("\n")
		}
	}
	b.WriteString("find layer* -exec touch -h -d '2001-02-03 04:05:06.789 UTC' {} +\n")
	return b.String()
}
