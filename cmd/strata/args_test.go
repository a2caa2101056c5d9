package main

import (
	"io"
	"slices"
	"testing"
)

func TestFlagsFirst(t *testing.T) {
	app := newApp(&program{Env: Env{Stdout: io.Discard, Stderr: io.Discard}})
	for _, c := range []struct {
		name       string
		args, want []string
	}{
		{"nothing", nil, nil},
		{"in order", []string{"--root", "/r", "rm", "-f", "a"}, []string{"--root", "/r", "rm", "-f", "a"}},
		{"flag behind", []string{"rm", "a", "-f", "b"}, []string{"rm", "-f", "a", "b"}},
		{"value behind", []string{"mount", "a", "/d", "-o", "ro"}, []string{"mount", "-o", "ro", "a", "/d"}},
		{"value with equals", []string{"create", "img", "--name=x"}, []string{"create", "--name=x", "img"}},
		{"global flag behind", []string{"ps", "--json", "--root", "/r"}, []string{"--root", "/r", "ps", "--json"}},
		{"after --", []string{"rm", "a", "--", "-f"}, []string{"rm", "a", "--", "-f"}},
		{"help", []string{"help"}, []string{"--help"}},
		{"help on a command", []string{"help", "ps"}, []string{"ps", "--help"}},
		{"help on a command below a command", []string{"help", "bench", "fs"}, []string{"bench", "fs", "--help"}},
		{"command below a command", []string{"--root", "/r", "bench", "fs", "--json", "--only", "x"}, []string{"--root", "/r", "bench", "fs", "--json", "--only", "x"}},
		{"value that is also a command", []string{"bench", "fs", "--only", "fs", "fs"}, []string{"bench", "fs", "--only", "fs", "fs"}},
		{"lone dash", []string{"load", "-", "--json"}, []string{"load", "--json", "-"}},
		{"unknown flag", []string{"ps", "--frob"}, []string{"ps", "--frob"}},
		{"unknown command", []string{"frob", "-x", "y"}, []string{"frob", "-x", "y"}},
		{"value glued on", []string{"overlay", "-olowerdir=/a:/b,ro", "/d"}, []string{"overlay", "-o", "lowerdir=/a:/b,ro", "/d"}},
		{"two names of a flag", []string{"commit", "c", "-c", "USER a", "--change", "USER b", "-c=USER c"}, []string{"commit", "--change", "USER a", "--change", "USER b", "--change=USER c", "c"}},
		{"missing value", []string{"mount", "a", "-o"}, []string{"mount", "-o", "a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := flagsFirst(app, c.args); !slices.Equal(got, c.want) {
				t.Errorf("flagsFirst(%q) = %q, want %q", c.args, got, c.want)
			}
		})
	}
}
