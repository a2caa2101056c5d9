package main

import (
	"slices"
	"strings"
	"testing"
)

func TestHelperArgs(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"strata ps -n", "ps -n"},
		{"/usr/bin/strata", ""},
		{"/sbin/mount.fuse.strata none /mnt -o lowerdir=/a", "overlay none /mnt -o lowerdir=/a"},
		{"mount.strata none /mnt -s -n -v -N 7 -o ro -t fuse.strata", "overlay none /mnt -o ro"},
		{"mount.strata", "overlay"},
	} {
		t.Run(c.line, func(t *testing.T) {
			words := strings.Fields(c.line)
			if got := helperArgs(words[0], words[1:]); !slices.Equal(got, strings.Fields(c.want)) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
