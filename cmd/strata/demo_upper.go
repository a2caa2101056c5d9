package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// showUpper lists the upper of the first container as the host's filesystem
// has it, with the marks in it.
func (d *demo) showUpper(context.Context) error {
	ct := d.containers[0]
	upper := ct.UpperDir()
	d.say(`

3. What stands in an upper

Layers are never written to, so an upper cannot remove anything from them. It
has marks instead: a whiteout hides one name of the layers below, and an opaque
directory hides all that they have in it. This is %s's upper, as it is on disk:
`, ct.Name)
	short := strings.Replace(upper, string(ct.ID), ct.ID.Short()+"...", 1)
	return d.show("cd "+short+"; find .", func() error {
		return filepath.WalkDir(upper, func(file string, e fs.DirEntry, err error) error {
			if err != nil || file == upper {
				return err
			}
			name, err := filepath.Rel(upper, file)
			if err != nil {
				return err
			}
			what, err := markOf(file)
			if err != nil {
				return err
			}
			return d.println(trimRight(fmt.Sprintf("%-26s %s", "./"+name, what)))
		})
	})
}

// markOf tells what a file of an upper means, from what lstat(2) and
// getxattr(2) say.
func markOf(file string) (string, error) {
	var st unix.Stat_t
	if err := unix.Lstat(file, &st); err != nil {
		return "", &os.PathError{Op: "lstat", Path: file, Err: err}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 {
		return "character device 0:0: a whiteout", nil
	}
	for _, namespace := range []string{"trusted.", "user."} {
		for _, mark := range []struct{ name, means string }{
			{"overlay.opaque", "an opaque directory"},
			{"overlay.whiteout", "a whiteout"},
		} {
			var value [16]byte
			n, err := unix.Lgetxattr(file, namespace+mark.name, value[:])
			switch {
			case err == nil:
				return fmt.Sprintf("%s%s=%s: %s", namespace, mark.name, value[:n], mark.means), nil
			case !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM):
				return "", &os.PathError{Op: "getxattr " + namespace + mark.name, Path: file, Err: err}
			}
		}
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return "", nil
	}
	return fmt.Sprintf("%d bytes", st.Size), nil
}

// explainPaths asks where one path comes from that the container sees, and why
// it does not see another.
func (d *demo) explainPaths(context.Context) error {
	ct := d.containers[0]
	d.say(`

4. Where does a file come from, and why is one not there?

Every layer is asked, the topmost first; the first word counts. => marks it.
`)
	for _, name := range []string{"/srv/www/index.html", "/etc/httpd/modules.conf"} {
		err := d.show("strata explain "+ct.Name+" "+name, func() error {
			s, err := d.findSubject(ct.Name)
			if err != nil {
				return err
			}
			layers, err := s.open(d.store, true)
			if err != nil {
				return err
			}
			defer layers.Close()
			words, err := tree.Explain(layers.trees, name)
			if err != nil {
				return err
			}
			return d.printExplained(s, name, nil, words)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
