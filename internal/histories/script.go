package histories

import (
	_ "embed"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// prelude has a function for each call.
//
//go:embed script.py
var prelude string

// String is the step as the script has it.
func (s Step) String() string {
	return fmt.Sprintf("%d: %s", s.Proc, s.python())
}

// python is a call of one of the prelude's functions.
func (s Step) python() string {
	var args []string
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if name == "Proc" || name == "Call" || v.Field(i).IsZero() {
			continue
		}
		var text string
		switch x := v.Field(i).Interface().(type) {
		case string:
			text = pythonBytes(x)
		case unix.Timespec:
			text = fmt.Sprintf("(%d, %d)", x.Sec, x.Nsec)
		case uint32:
			text = fmt.Sprintf("0o%o", x)
		default:
			text = fmt.Sprint(x)
		}
		args = append(args, strings.ToLower(name)+"="+text)
	}
	return strings.ReplaceAll(s.Call, " ", "_") + "(" + strings.Join(args, ", ") + ")"
}

// pythonBytes is a literal without line breaks.
func pythonBytes(s string) string {
	var b strings.Builder
	b.WriteString(`b"`)
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String() + `"`
}

// History is what is played: the same in all worlds.
type History struct {
	Lowers  Lowers
	Steps   []Step
	Mounted bool // by Users, each with the world as its root; else by root alone
	NoIndex bool // there is no hard link in the lowers, so the kernel needs no index
}

// Script is the history for sh. It is run as root in an empty directory; the calls are
// made by python3, for sh has no words for most of them. Its one argument says on what:
// strata, plain or kernel.
func (h History) Script() string {
	var b strings.Builder
	layers := make([]string, len(h.Lowers))
	for i := range layers {
		layers[i] = layerName(i)
	}
	slices.Reverse(layers)
	topmost := strings.Join(append(layers, "none"), ":")
	rootMode := uint32(0o755)
	if h.Mounted {
		rootMode = 0o777
	}
	fmt.Fprintf(&b, `#!/bin/sh
# In an empty directory, as root: sh THIS [strata|plain|kernel]
set -eu
umask 022
%smkdir none upper work merged
chmod %o upper
touch -d '2001-02-03 04:05:06.789 UTC' upper
case ${1:-strata} in
strata) strata overlay -o lowerdir=%[3]s,upperdir=upper,workdir=work merged ;;
kernel) mount -t overlay overlay -o redirect_dir=on,metacopy=on,index=on,lowerdir=%[3]s,upperdir=upper,workdir=work merged ;;
plain)
	mount -t overlay overlay -o ro,lowerdir=%[3]s merged
	cp -a merged plain
	umount merged
	rmdir merged
	mv plain merged
	;;
esac
python3 - merged <<'END'
`, h.Lowers.script(), rootMode, topmost)
	b.WriteString(prelude)
	users := Users[:1]
	chroot := "False"
	if h.Mounted {
		users, chroot = Users, "True"
	}
	fmt.Fprintf(&b, "\nCHROOT = %s\nUSERS = [", chroot)
	for _, u := range users {
		groups := make([]string, len(u.Groups))
		for i, g := range u.Groups {
			groups[i] = fmt.Sprint(g)
		}
		fmt.Fprintf(&b, "(%d, %d, [%s], 0o%o), ", u.UID, u.GID, strings.Join(groups, ", "), u.Umask)
	}
	fmt.Fprintf(&b, "]\nPROGRAM = %s\nhistory(sys.argv[1], [\n", pythonBytes(string(program)))
	for _, s := range h.Steps {
		fmt.Fprintf(&b, "    (%d, r'''%s'''),\n", s.Proc, s.python())
	}
	b.WriteString("])\nEND\nfind merged -printf '%P\\t%M %U:%G %s %n\\n' | sort\n")
	return b.String()
}
