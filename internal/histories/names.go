package histories

import (
	"path/filepath"
	"strings"
)

// Pick draws a number below n.
type Pick func(n int) int

// one draws one of several.
func one[T any](pick Pick, from ...T) T { return from[pick(len(from))] }

// The names of a small world, so that they clash; a few are deep or odd.
var (
	dirNames = []string{"", "a", "b", "a/d", "b/d", "a/d/e", "n"}
	names    = []string{"f", "g", "h", "d", "e", "x"}
	oddDirs  = []string{"a/d/e/d", "a/d/e/d/e", "n/d", "b/d/e", longName, "n/" + longName}
	oddNames = []string{longName, longName[:254] + "\xfe", "\xff\xfe not UTF-8", " '\\ \n", "..."}
	longName = strings.Repeat("long", 63) + "l\xf6n" // 255 bytes, not UTF-8
)

// drawPath draws a path from the root.
func drawPath(pick Pick) string {
	dirs := dirNames
	if pick(8) == 0 {
		dirs = oddDirs
	}
	return filepath.Join(one(pick, dirs...), drawName(pick))
}

func drawName(pick Pick) string {
	if pick(12) == 0 {
		return one(pick, oddNames...)
	}
	return one(pick, names...)
}

// drawDir draws a path at which there may be a directory.
func drawDir(pick Pick) string {
	if d := one(pick, dirNames...); d != "" && pick(4) > 0 {
		return d
	}
	return drawPath(pick)
}

// quoted makes a word for sh of a name.
func quoted(name string) string {
	if name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune("/-_.", r) && (r < '0' || r > 'z') }) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}
