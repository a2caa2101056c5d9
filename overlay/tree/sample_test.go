package tree

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var hexLine = regexp.MustCompile(`^([0-9a-f]{8})  ((?:[0-9a-f]{2} +)+) *\|.*\|$`)

// dumpHex returns b as hexdump -C shows it, without the last line: sixteen
// bytes a line, and a star for lines that repeat the one before.
func dumpHex(b []byte) []string {
	var lines []string
	previous := ""
	for line := range strings.Lines(hex.Dump(b)) {
		line = strings.TrimSpace(line)
		bytes := line[len("00000000"):]
		switch {
		case bytes != previous:
			lines = append(lines, line)
		case lines[len(lines)-1] != "*":
			lines = append(lines, "*")
		}
		previous = bytes
	}
	return lines
}

// parseHex is the reverse; a star is filled up to the next line's place.
func parseHex(tb testing.TB, lines []string) []byte {
	tb.Helper()
	var b []byte
	for _, line := range lines {
		if line == "*" {
			continue
		}
		m := hexLine.FindStringSubmatch(line)
		if m == nil {
			tb.Fatalf("no line of a hex dump: %q", line)
		}
		at, err := strconv.ParseUint(m[1], 16, 31)
		if err != nil {
			tb.Fatal(err)
		}
		for len(b) < int(at) {
			b = append(b, b[len(b)-16:]...)
		}
		part, err := hex.DecodeString(strings.ReplaceAll(m[2], " ", ""))
		if err != nil {
			tb.Fatal(err)
		}
		b = append(b, part...)
	}
	return b
}

// The worked example of doc.go is what Write makes.
func TestDocShowsWhatWriteMakes(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "//"))
		if line == "*" || hexLine.MatchString(line) {
			got = append(got, line)
		}
	}
	want := dumpHex(encodeTree(t, exampleTree()))
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("doc.go has\n%s\nWrite makes\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A sample of every version that was ever written stays in testdata and can be
// read: tree-vN.hex is the file, tree-vN.txt what it shows. Neither is ever
// changed; what changes the bytes that Write makes is a new version with a
// sample of its own.
func TestSamplesOfAllVersionsCanBeRead(t *testing.T) {
	for version := 1; version <= fileVersion; version++ {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			name := "testdata/tree-v" + strconv.Itoa(version)
			dump, err := os.ReadFile(name + ".hex")
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(name + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			data := parseHex(t, strings.Split(strings.TrimSpace(string(dump)), "\n"))
			f := mustOpenBytes(t, data)
			if got := listTree(t, f); got != string(want) {
				t.Errorf("%s.hex shows\n%s\nwant\n%s", name, got, want)
			}
			if err := f.Check(); err != nil {
				t.Error(err)
			}
			if version == fileVersion && !bytes.Equal(encodeTree(t, richTree()), data) {
				t.Errorf("Write makes other bytes than %s.hex of the same tree", name)
			}
		})
	}
}
