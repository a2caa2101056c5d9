package container

import (
	"slices"
	"strings"
)

// LowerDirs are directories that lie over each other, topmost first, as in
// lowerdir=. Trees are stacked base first; TopmostFirst and BaseFirst go from
// one order to the other.
type LowerDirs []string

// TopmostFirst takes directories in the order of an image's layers.
func TopmostFirst(baseFirst []string) LowerDirs { return reversed(baseFirst) }

// BaseFirst gives them in the order of an image's layers.
func (d LowerDirs) BaseFirst() []string { return reversed(d) }

func reversed(dirs []string) []string {
	dirs = slices.Clone(dirs)
	slices.Reverse(dirs)
	return dirs
}

// String is the mount option, with backslashes where overlayfs wants them.
func (d LowerDirs) String() string {
	escape := strings.NewReplacer("\\", "\\\\", ":", "\\:", ",", "\\,")
	dirs := make([]string, len(d))
	for i, dir := range d {
		dirs[i] = escape.Replace(dir)
	}
	return "lowerdir=" + strings.Join(dirs, ":")
}
