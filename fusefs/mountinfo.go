package fusefs

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// mountEntry is one line of /proc/self/mountinfo, as far as we need it.
type mountEntry struct {
	id, parent string
	dir        string
	fsType     string
}

// mounts returns the mounts that this process sees, in the order in which they
// were made.
func mounts() ([]mountEntry, error) {
	const file = "/proc/self/mountinfo"
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	list, err := parseMounts(string(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return list, nil
}

// Mountpoints returns where this process sees a mount of whatever kind, in the
// order in which the mounts were made.
func Mountpoints() ([]string, error) {
	list, err := mounts()
	dirs := make([]string, len(list))
	for i, m := range list {
		dirs[i] = m.dir
	}
	return dirs, err
}

// parseMounts reads mountinfo. Only blanks and newlines divide it, and lines may
// be of any length: names hold whatever else there is, and an overlayfs lists
// all its lower directories.
func parseMounts(info string) ([]mountEntry, error) {
	var list []mountEntry
	for line := range strings.Lines(info) {
		// ID PARENT MAJOR:MINOR ROOT DIR OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS
		before, after, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		b := strings.Split(before, " ")
		kind, _, ok := strings.Cut(after, " ")
		if len(b) < 6 || !ok {
			return nil, fmt.Errorf("line %q is not understood", line)
		}
		list = append(list, mountEntry{id: b[0], parent: b[1], dir: unescapeMount(b[4]), fsType: kind})
	}
	return list, nil
}

// unescapeMount undoes the octal escapes that the kernel uses for blanks and
// backslashes in mountinfo.
func unescapeMount(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// topMount returns the mount that one sees at dir, nil if dir is no mount
// point.
func topMount(list []mountEntry, dir string) *mountEntry {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].dir == dir {
			return &list[i]
		}
	}
	return nil
}

// At tells whether one sees a mount of strata at dir, and whether somebody serves
// it. It does not wait for who serves a mount of another kind.
func At(dir string) (mounted, served bool, err error) {
	list, err := mounts()
	if err != nil {
		return false, false, err
	}
	if m := topMount(list, dir); m == nil || m.fsType != "fuse."+fsType {
		return false, false, nil
	}
	// The kernel answers for a server that is gone, ECONNABORTED to who has
	// asked just before.
	err = unix.Statfs(dir, &unix.Statfs_t{})
	return true, err != unix.ENOTCONN && err != unix.ECONNABORTED, nil
}

// within tells whether path is dir or below it. Both are absolute and clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
