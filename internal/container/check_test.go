package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck damages a container in every way that can be told.
func TestCheck(t *testing.T) {
	replace := func(old, new string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, configFile))
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(b), old, new, 1)
			if changed == string(b) {
				t.Fatalf("no %s in %s", old, b)
			}
			write(t, filepath.Join(dir, configFile), changed)
		}
	}
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name   string
		do     func(t *testing.T, dir string)
		says   string // of the problem; empty: nothing is wrong
		result string // of the consequence
	}{
		{"nothing", func(*testing.T, string) {}, "", ""},
		{"config flipped in a key", replace(`"layers"`, `"laxers"`), `unknown field "laxers"`, "gc does not run"},
		{"config flipped in the chain", replace(`"chain": "sha256:`, `"chain": "sha257:`), "its layers make chain", "gc does not run"},
		{"config flipped in the format", replace(`"format": "`, `"format": "x`), "is unknown: want kernel or user", "cannot be mounted"},
		{"config flipped in the id", replace(`"id": "`, `"id": "0`), "which is not the name of its directory", "cannot be mounted"},
		{"config truncated", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, configFile), 100); err != nil {
				t.Fatal(err)
			}
		}, "unexpected end of JSON", "gc does not run; what it has written is in "},
		{"config empty", func(t *testing.T, dir string) { write(t, filepath.Join(dir, configFile), "") }, "unexpected end of JSON", "gc does not run"},
		{"config missing", remove(configFile), "has no config.json", "no command knows it; what it has written is in "},
		{"config a directory", func(t *testing.T, dir string) {
			remove(configFile)(t, dir)
			if err := os.Mkdir(filepath.Join(dir, configFile), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is a directory", "gc does not run"},
		{"upper missing", remove("upper"), "no such file", "cannot be mounted"},
		{"work missing", remove("work"), "no such file", "cannot be mounted"},
		{"upper a file", func(t *testing.T, dir string) {
			remove("upper")(t, dir)
			write(t, filepath.Join(dir, "upper"), "")
		}, "is no directory", "cannot be mounted"},
		{"a stray file beside", func(t *testing.T, dir string) { write(t, filepath.Join(filepath.Dir(dir), "x"), "") }, "is no container", "gc does not run"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			ct := w.create(t, "web")
			test.do(t, ct.dir)
			damages, err := ct.all.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if test.says == "" {
				if len(damages) > 0 {
					t.Errorf("told %v", damages)
				}
				return
			}
			if len(damages) != 1 || !strings.Contains(damages[0].Err.Error(), test.says) || !strings.Contains(damages[0].Consequence, test.result) || damages[0].Left == nil {
				t.Errorf("told %+v", damages)
			}
		})
	}
}
