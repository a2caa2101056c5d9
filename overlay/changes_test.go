package overlay

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strata/internal/histories"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// listChanges asks for the changes of a fixture's upper.
func listChanges(x *fixture) []Change {
	x.t.Helper()
	o := x.options()
	up, err := UpperTree(x.upper, x.format)
	x.must(err)
	defer up.Close()
	list, err := Changes(o.Lower, up)
	x.must(err)
	return list
}

var nlinks = regexp.MustCompile(` nlink \d+`)

// naiveChanges compares two full dumps.
func naiveChanges(before, after histories.Tree) []Change {
	kinds := map[string]ChangeKind{}
	gone := func(p string) bool { // below a directory that is deleted or replaced
		for up := path.Dir(p); up != "."; up = path.Dir(up) {
			if a, ok := after[up]; !ok || !a.IsDir() {
				return true
			}
		}
		return false
	}
	looks := func(d histories.Node) string { return nlinks.ReplaceAllString(d.Line, "") + fmt.Sprint(d.Mtime) }
	for p, b := range before {
		a, ok := after[p]
		switch {
		case ok && looks(a) != looks(b):
			kinds[p] = Changed
		case !ok && !gone(p):
			kinds[p] = Deleted
		}
	}
	for p := range after {
		if _, ok := before[p]; !ok {
			kinds[p] = Added
		}
	}
	for p := range maps.Clone(kinds) {
		for up := path.Dir(p); up != "."; up = path.Dir(up) {
			if _, ok := kinds[up]; !ok {
				kinds[up] = Changed
			}
		}
	}
	delete(kinds, "")
	var list []Change
	for p, kind := range kinds {
		d := after[p]
		if kind == Deleted {
			d = before[p]
		}
		c := Change{Kind: kind, Path: "/" + p, Type: d.Mode & tree.ModeType}
		if d.IsRegular() {
			c.Size = d.Size
		}
		list = append(list, c)
	}
	return list
}

// parentsFirst is the order of Changes: by name within each directory.
func parentsFirst(a, b Change) int {
	return slices.Compare(strings.Split(a.Path, "/"), strings.Split(b.Path, "/"))
}

// TestChangesOfHistories: walking the upper and comparing two full trees name the
// same changes.
func TestChangesOfHistories(t *testing.T) {
	bothFormats(t, func(t *testing.T, format Format) {
		for range count("STRATA_HISTORIES", 12) {
			seed := rand.Uint64()
			top := tempDir(t)
			layers, _ := makeLayers(t, top)
			x := newFixtureAt(t, top, format, layers...)
			before := x.dump()
			r := rand.New(rand.NewPCG(seed, 0))
			for range 5 + r.IntN(120) {
				_ = x.do(histories.DrawNameStep(r.IntN))
			}
			want := naiveChanges(before, x.dump())
			slices.SortFunc(want, parentsFirst)
			got := listChanges(x)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d: the upper says\n%v\ntwo dumps say\n%v", seed, lines(got), lines(want))
				for _, c := range got {
					if !slices.Contains(want, c) {
						t.Logf("only the upper says %v %s: %s -> %s", c.Kind, c.Path, before[c.Path[1:]].Line, x.dump()[c.Path[1:]].Line)
					}
				}
				for _, c := range want {
					if !slices.Contains(got, c) {
						t.Logf("only the dumps say %v %s: %s -> %s", c.Kind, c.Path, before[c.Path[1:]].Line, x.dump()[c.Path[1:]].Line)
					}
				}
			}
			x.close()
			if t.Failed() {
				return
			}
		}
	})
}

func lines(list []Change) string {
	var b strings.Builder
	for _, c := range list {
		fmt.Fprintf(&b, "%v %s %o %d\n", c.Kind, c.Path, c.Type, c.Size)
	}
	return b.String()
}

// TestChanges has docker's conventions: directories above a change are changed, a
// deleted directory is one line, nothing is said of what was opened only.
func TestChanges(t *testing.T) {
	lower := `
		mkdir -p etc/sub opt/a/b tmp; echo p > etc/passwd; echo q > etc/sub/q; echo o > opt/a/b/o; echo z > opt/z
		ln -s passwd etc/link; echo one > hard1; ln hard1 hard2; setfattr -n user.x -v 1 etc/passwd
	`
	tests := []struct {
		name string
		do   func(x *fixture)
		want string
	}{
		{"nothing", func(x *fixture) {}, ""},
		{"opened for writing and left alone", func(x *fixture) {
			x.must(x.on("etc/passwd", func(id ID) error {
				h, err := x.Open(context.Background(), id, unix.O_RDWR)
				if err != nil {
					return err
				}
				return h.Close()
			}))
			x.must(x.chmod("etc/sub/q", x.stat("etc/sub/q").Mode))
			x.must(x.setattr("etc/link", SetAttr{UID: new(uint32)}))
			x.must(x.chmod("opt/a/b", x.stat("opt/a/b").Mode))
		}, ""},
		{"written", func(x *fixture) { x.must(x.write("etc/passwd", "longer than before", 0)) }, "C /etc\nC /etc/passwd\n"},
		{"same bytes, other time", func(x *fixture) { x.must(x.write("etc/passwd", "p\n", 0)) }, "C /etc\nC /etc/passwd\n"},
		{"mode", func(x *fixture) { x.must(x.chmod("etc/sub/q", 0o600)) }, "C /etc\nC /etc/sub\nC /etc/sub/q\n"},
		{"mode of a directory", func(x *fixture) { x.must(x.chmod("opt/a", 0o700)) }, "C /opt\nC /opt/a\n"},
		{"xattr", func(x *fixture) {
			x.must(x.on("etc/passwd", func(id ID) error {
				return x.Setxattr(context.Background(), id, "user.x", []byte("2"), 0)
			}))
		}, "C /etc\nC /etc/passwd\n"},
		{"added", func(x *fixture) {
			x.must(x.mkdir("opt/new"))
			x.must(x.create("opt/new/f", "x"))
		}, "C /opt\nA /opt/new\nA /opt/new/f\n"},
		{"deleted", func(x *fixture) { x.must(x.in("opt/z", x.Unlink)) }, "C /opt\nD /opt/z\n"},
		{"deleted directory", func(x *fixture) { x.removeAll("opt") }, "D /opt\n"},
		{"added and deleted", func(x *fixture) {
			a := x.stat("opt")
			x.must(x.create("opt/f", "x"))
			x.must(x.in("opt/f", x.Unlink))
			x.must(x.setattr("opt", SetAttr{Mtime: &a.Mtime}))
		}, ""},
		{"directory made anew", func(x *fixture) {
			x.removeAll("opt")
			x.must(x.mkdir("opt"))
			x.must(x.create("opt/z", "z\n"))
		}, "C /opt\nD /opt/a\nC /opt/z\n"},
		{"file in the place of a directory", func(x *fixture) {
			x.removeAll("opt")
			x.must(x.create("opt", "x"))
		}, "C /opt\n"},
		{"directory in the place of a file", func(x *fixture) {
			x.must(x.in("opt/z", x.Unlink))
			x.must(x.mkdir("opt/z"))
			x.must(x.create("opt/z/in", "x"))
		}, "C /opt\nC /opt/z\nA /opt/z/in\n"},
		{"moved", func(x *fixture) { x.must(x.rename("opt/z", "tmp/z", 0)) }, "C /opt\nD /opt/z\nC /tmp\nA /tmp/z\n"},
		{"one more name", func(x *fixture) { x.must(x.link("hard1", "tmp/hard3")) }, "C /tmp\nA /tmp/hard3\n"},
		{"one of two names written", func(x *fixture) { x.must(x.write("hard1", "two", 0)) }, "C /hard1\nC /hard2\n"},
		{"names that sort badly", func(x *fixture) {
			x.must(x.mkdir("a"))
			x.must(x.create("a/x", ""))
			x.must(x.create("a-b", ""))
			x.must(x.create("a.b", ""))
		}, "A /a\nA /a/x\nA /a-b\nA /a.b\n"},
	}
	bothFormats(t, func(t *testing.T, format Format) {
		layer := shell(t, lower)
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				x := newFixture(t, format, layer)
				tt.do(x)
				var got strings.Builder
				for _, c := range listChanges(x) {
					fmt.Fprintf(&got, "%v %s\n", c.Kind, c.Path)
				}
				if got.String() != tt.want {
					t.Errorf("changes are\n%swant\n%s", got.String(), tt.want)
				}
			})
		}
	})
}
