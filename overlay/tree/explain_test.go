package tree

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestExplain(t *testing.T) {
	file := func(p string) layerOp { return layerOp{do: "file", path: p, target: "x"} }
	dir := func(p string) layerOp { return layerOp{do: "dir", path: p} }
	whiteout := func(p string) layerOp { return layerOp{do: "whiteout", path: p} }
	opaque := func(p string) layerOp { return layerOp{do: "opaque", path: p} }
	tests := []struct {
		name   string
		layers [][]layerOp
		path   string
		want   string // a line a word
	}{
		{"nobody knows it", [][]layerOp{{file("x")}}, "a", ""},
		{"one layer", [][]layerOp{{file("a")}}, "a",
			"0 adds /a, regular file, 1 bytes: wins"},
		{"any spelling of the path", [][]layerOp{{file("d/a")}}, "//d/./x/../a/",
			"0 adds /d/a, regular file, 1 bytes: wins"},
		{"replaced", [][]layerOp{{file("a")}, {}, {file("a")}}, "a",
			"2 replaces /a, regular file, 1 bytes: wins\n0 adds /a, regular file, 1 bytes: hidden by 2"},
		{"whited out", [][]layerOp{{file("a")}, {whiteout("a")}}, "a",
			"1 whiteout /a: wins\n0 adds /a, regular file, 1 bytes: hidden by 1"},
		{"whited out and back", [][]layerOp{{file("a")}, {whiteout("a")}, {file("a")}}, "a",
			"2 adds /a, regular file, 1 bytes: wins\n1 whiteout /a: hidden by 2\n0 adds /a, regular file, 1 bytes: hidden by 2"},
		{"merged directory", [][]layerOp{{dir("d")}, {dir("d")}, {file("d/f")}}, "d",
			"2 implicit /d, directory\n1 merges /d, directory: wins\n0 adds /d, directory"},
		{"only implicit", [][]layerOp{{file("d/e")}, {file("d/f")}}, "d",
			"1 implicit /d, directory: wins\n0 implicit /d, directory"},
		{"opaque directory", [][]layerOp{{dir("d")}, {dir("d"), opaque("d")}, {dir("d")}}, "d",
			"2 merges /d, directory: wins\n1 opaque /d, directory\n0 adds /d, directory: hidden by 1"},
		{"opaque directory without attributes", [][]layerOp{{dir("d")}, {opaque("d")}}, "d",
			"1 opaque /d, directory\n0 lends /d, directory: wins"},
		{"directory above is whited out", [][]layerOp{{file("d/f")}, {whiteout("d")}}, "d/f",
			"1 whiteout /d: wins\n0 adds /d/f, regular file, 1 bytes: hidden by 1"},
		{"directory above is opaque", [][]layerOp{{file("d/f")}, {opaque("d"), file("d/f")}}, "d/f",
			"1 adds /d/f, regular file, 1 bytes: wins\n1 opaque /d, directory\n0 adds /d/f, regular file, 1 bytes: hidden by 1"},
		{"root is opaque", [][]layerOp{{file("f")}, {opaque("")}}, "f",
			"1 opaque /, directory: wins\n0 adds /f, regular file, 1 bytes: hidden by 1"},
		{"directory above became a file", [][]layerOp{{file("d/f")}, {file("d")}}, "d/f",
			"1 replaces /d, regular file, 1 bytes: wins\n0 adds /d/f, regular file, 1 bytes: hidden by 1"},
		{"and a directory again", [][]layerOp{{file("d/f")}, {file("d")}, {file("d/f")}}, "d/f",
			"2 adds /d/f, regular file, 1 bytes: wins\n2 replaces /d, directory\n1 replaces /d, regular file, 1 bytes: hidden by 2\n0 adds /d/f, regular file, 1 bytes: hidden by 2"},
		{"below a symlink", [][]layerOp{{file("usr/bin/sh"), {do: "symlink", path: "bin", target: "usr/bin"}}}, "bin/sh",
			`0 adds /bin, symlink to "usr/bin": wins`},
		{"the root", [][]layerOp{{dir("")}, {file("f")}}, "/",
			"1 implicit /, directory\n0 adds /, directory: wins"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var layers []Tree
			for _, ops := range tt.layers {
				b, _ := build(t, ops)
				layers = append(layers, b)
			}
			words, err := Explain(layers, tt.path)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range words {
				line := fmt.Sprintf("%d %s", w.Layer, w)
				if w.Wins {
					line += ": wins"
				}
				if w.HiddenBy != nil {
					line += fmt.Sprintf(": hidden by %d", *w.HiddenBy)
				}
				got = append(got, line)
			}
			if g := strings.Join(got, "\n"); g != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", g, tt.want)
			}
		})
	}
}

func TestWordJSON(t *testing.T) {
	lower, _ := build(t, []layerOp{{do: "file", path: "f", target: "x"}})
	upper, _ := build(t, []layerOp{{do: "whiteout", path: "f"}})
	words, err := Explain([]Tree{lower, upper}, "f")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(words)
	want := `[{"layer":1,"says":"whiteout","path":"f","wins":true},` +
		`{"layer":0,"says":"adds","path":"f","kind":"regular file","mode":33216,"size":1,"wins":false,"hiddenBy":1}]`
	if string(got) != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

// TestExplainEqualsStack: the word that wins is what the stack shows.
func TestExplainEqualsStack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var layers []Tree
		for i := range rapid.IntRange(0, 6).Draw(rt, "layers") {
			b, _ := build(rt, drawLayer(rt, i, false))
			layers = append(layers, b)
		}
		s := Stack(layers...)
		paths := []string{""}
		for i := 0; i < len(paths); i++ {
			p := paths[i]
			if strings.Count(p, "/") < 2 {
				for _, name := range []string{"a", "b", "c", "a-"} {
					paths = append(paths, joinPath(p, name))
				}
			}
			words, err := Explain(layers, p)
			must(rt, err)
			var winner *Word
			for j, w := range words {
				if w.Wins {
					if winner != nil || w.HiddenBy != nil {
						rt.Fatalf("/%s: two words win, or a hidden one: %v", p, words)
					}
					winner = &words[j]
				}
				if w.HiddenBy != nil && *w.HiddenBy <= w.Layer {
					rt.Fatalf("/%s: layer %d is hidden by %d", p, w.Layer, *w.HiddenBy)
				}
				if j > 0 && w.Layer > words[j-1].Layer {
					rt.Fatalf("/%s: not topmost first: %v", p, words)
				}
			}
			e, err := findPath(s, p)
			if err != nil {
				if winner == nil && len(words) > 0 || winner != nil && winner.Path == p && winner.Says != Whiteout {
					rt.Fatalf("/%s is not there, but Explain says %v", p, words)
				}
				continue
			}
			if len(layers) == 0 {
				continue
			}
			a, err := s.Attr(e.ID)
			must(rt, err)
			if winner == nil || winner.Path != p || winner.Layer != int(a.Layer) || winner.Mode != a.Mode {
				rt.Fatalf("/%s is %+v, but Explain says %v", p, a, words)
			}
		}
	})
}
