package container

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []mountEntry
	for s := bufio.NewScanner(f); ; {
		if !s.Scan() {
			return list, s.Err()
		}
		// ID PARENT MAJOR:MINOR ROOT DIR OPTIONS [TAG...] - TYPE SOURCE SUPEROPTIONS
		before, after, _ := strings.Cut(s.Text(), " - ")
		b, a := strings.Fields(before), strings.Fields(after)
		if len(b) < 6 || len(a) < 1 {
			return nil, fmt.Errorf("%s: line %q is not understood", file, s.Text())
		}
		list = append(list, mountEntry{id: b[0], parent: b[1], dir: unescapeMount(b[4]), fsType: a[0]})
	}
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
