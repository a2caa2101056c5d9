package main

import "testing"

func TestSplitName(t *testing.T) {
	there := map[string]bool{"debian:12": true, "localhost:5000/img:1": true, "web": true}
	for _, tt := range []struct {
		arg, name, path string
		ok              bool
	}{
		{"web", "web", "", false},
		{"web:/etc", "web", "/etc", true},
		{"web:etc", "web", "etc", true},
		{"web:", "web", "", true},
		{"debian:12", "debian:12", "", false},
		{"debian:12:/a:b", "debian:12", "/a:b", true},
		{"debian:12:etc", "debian:12", "etc", true},
		{"localhost:5000/img:1", "localhost:5000/img:1", "", false},
		{"localhost:5000/img:1:/x", "localhost:5000/img:1", "/x", true},
	} {
		name, path, ok := splitName(tt.arg, func(name string) bool { return there[name] })
		if name != tt.name || path != tt.path || ok != tt.ok {
			t.Errorf("splitName(%q) = %q, %q, %v", tt.arg, name, path, ok)
		}
	}
}

func TestModeString(t *testing.T) {
	for mode, want := range map[uint32]string{
		0o040755: "drwxr-xr-x", 0o100644: "-rw-r--r--", 0o120777: "lrwxrwxrwx", 0o041777: "drwxrwxrwt", 0o041776: "drwxrwxrwT",
		0o104755: "-rwsr-xr-x", 0o104644: "-rwSr--r--", 0o102755: "-rwxr-sr-x", 0o102745: "-rwxr-Sr-x", 0o020600: "crw-------",
		0o060660: "brw-rw----", 0o010000: "p---------", 0o140777: "srwxrwxrwx",
	} {
		if got := modeString(mode); got != want {
			t.Errorf("%o is %s, want %s", mode, got, want)
		}
	}
}
