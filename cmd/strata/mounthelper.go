package main

import (
	"path/filepath"
	"strings"
)

// helperArgs lets the program be installed as /sbin/mount.fuse.strata, which
// mount(8) runs for "mount -t fuse.strata":
//
//	mount.fuse.strata SOURCE DIR [-snv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]
//
// It returns the command line that means the same to us: overlay SOURCE DIR -o
// OPTIONS. Called by any other name, args stay as they are.
func helperArgs(name string, args []string) []string {
	if !strings.HasPrefix(filepath.Base(name), "mount.") {
		return args
	}
	ours := []string{"overlay"}
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; arg {
		case "-s", "-n", "-v":
		case "-N", "-t":
			i++
		default:
			ours = append(ours, arg)
		}
	}
	return ours
}
