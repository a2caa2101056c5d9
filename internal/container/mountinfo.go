package container

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// fsType is what the kernel calls our mounts.
const fsType = "fuse.strata"

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

// deadMountAt tells whether one sees a mount of ours at dir that nobody serves
// any more. A record of who has died does not tell that: another mount may have
// taken the place since.
func deadMountAt(dir string) (bool, error) {
	list, err := mounts()
	if err != nil {
		return false, err
	}
	if m := topMount(list, dir); m == nil || m.fsType != fsType {
		return false, nil
	}
	// The kernel answers for a server that is gone, ECONNABORTED to who has
	// asked just before.
	err = unix.Statfs(dir, &unix.Statfs_t{})
	return err == unix.ENOTCONN || err == unix.ECONNABORTED, nil
}

// resolveDir gives the name under which mountinfo would list dir. Its last
// element is not looked at, because that blocks or fails on a dead mount; only
// if it is a symbolic link is it followed.
func resolveDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	at := filepath.Join(parent, filepath.Base(dir))
	if target, err := os.Readlink(at); err == nil && target != "" {
		return filepath.EvalSymlinks(at)
	}
	return at, nil
}
