package fusefs

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A file that is kept open must be let go as soon as its name shows another one.
func TestKeptFilesAreCurrent(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(path string) error
		want   string
	}{
		{"nothing", func(string) error { return nil }, "lower"},
		{"chmod", func(p string) error { return os.Chmod(p, 0o600) }, "lower"},
		{"append", func(p string) error {
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString(" and upper")
			return err
		}, "lower and upper"},
		{"truncate", func(p string) error { return os.Truncate(p, 3) }, "low"},
		{"open with O_TRUNC", func(p string) error { return os.WriteFile(p, []byte("new"), 0o644) }, "new"},
		{"read only with O_TRUNC", func(p string) error {
			fd, err := unix.Open(p, unix.O_RDONLY|unix.O_TRUNC, 0)
			if err != nil {
				return err
			}
			return unix.Close(fd)
		}, ""},
		{"by another name", func(p string) error { return os.WriteFile(p+"-link", []byte("link"), 0o644) }, "link"},
		{"replaced", func(p string) error {
			if err := os.WriteFile(p+".new", []byte("replaced"), 0o644); err != nil {
				return err
			}
			return os.Rename(p+".new", p)
		}, "replaced"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMount(t, Options{}, func(lower string) {
				write(t, lower+"/f", "lower")
				if err := os.Link(lower+"/f", lower+"/f-link"); err != nil {
					t.Fatal(err)
				}
			})
			m.requirePassthrough()
			for range 3 {
				wantContent(t, m.path("f"), "lower")
			}
			if n := settled(-1, func() int { return -m.counts().Kept }); n != -1 {
				t.Fatalf("%d files are kept", -n)
			}
			if err := c.change(m.path("f")); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				wantContent(t, m.path("f"), c.want)
			}
			f, err := os.OpenFile(m.path("f"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString("xyz"); err != nil {
				t.Error(err)
			}
			f.Close()
			want := "xyz"
			if len(c.want) > 3 {
				want += c.want[3:]
			}
			wantContent(t, m.path("f"), want)
		})
	}
}

func TestKeptFilesAreFew(t *testing.T) {
	const files = 3 * maxKept
	m := newMount(t, Options{}, func(lower string) {
		for i := range files {
			write(t, fmt.Sprint(lower, "/", i), strings.Repeat("x", i))
		}
	})
	m.requirePassthrough()
	before := m.counts().FDs
	for range 2 {
		for i := range files {
			wantContent(t, m.path(fmt.Sprint(i)), strings.Repeat("x", i))
		}
	}
	if n := settled(-maxKept, func() int { return -m.counts().Kept }); n != -maxKept {
		t.Errorf("%d files are kept", -n)
	}
	if now := m.counts(); now.FDs-before > maxKept+20 || now.Nodes > 0 && settled(0, func() int { return m.counts().Nodes }) > 0 {
		t.Errorf("%d descriptors before, now %+v", before, now)
	}
	if l := m.unmount(); l.Error != "" || len(l.FDs) > len(l.FDsBefore) {
		t.Errorf("after unmount: %+v", l)
	}
}
