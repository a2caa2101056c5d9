package main

import "testing"

func TestShownText(t *testing.T) {
	for in, want := range map[string]string{
		"/etc/a b":        "/etc/a b",
		"/etc/ü/日本":       "/etc/ü/日本",
		"/two\nlines":     `"/two\nlines"`,
		"/red\x1b[31m":    `"/red\x1b[31m"`,
		"/no\xffutf8":     `"/no\xffutf8"`,
		"/over\u202eride": `"/over\u202eride"`,
	} {
		if got := shownText(in); got != want {
			t.Errorf("%q is shown as %s, want %s", in, got, want)
		}
	}
}
