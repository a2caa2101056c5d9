package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"strata/internal/need"
)

const readmeFile = "../../README.md"

// blocks returns the fenced blocks of the README that are marked as kind.
func blocks(t *testing.T, kind string) []string {
	t.Helper()
	data, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, m := range regexp.MustCompile("(?ms)^```(.*?)\n(.*?)^```$").FindAllStringSubmatch(string(data), -1) {
		if m[1] == kind {
			all = append(all, m[2])
		}
	}
	return all
}

// typed is one command line of the README with what it prints.
type typed struct{ line, prints string }

// session returns what the README types, in order.
func session(t *testing.T) []typed {
	t.Helper()
	var all []typed
	for _, block := range blocks(t, "console") {
		for line := range strings.Lines(block) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				all = append(all, typed{line: strings.TrimSpace(command)})
			} else if len(all) > 0 {
				all[len(all)-1].prints += line
			}
		}
	}
	if len(all) < 10 {
		t.Fatalf("only %d commands were found in the README", len(all))
	}
	return all
}

// What the README types does what it says, as one session in one directory.
func TestReadmeSession(t *testing.T) {
	need.Root(t)
	need.Fuse(t)
	need.Tool(t, "skopeo")
	dir, err := os.MkdirTemp("", "strata-test-readme-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		clearMounts(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	home, bin := filepath.Join(dir, "home"), filepath.Join(dir, "bin")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.Mkdir(home, 0o755), os.Mkdir(bin, 0o755), os.Symlink(exe, filepath.Join(bin, "strata"))} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const mark = "--- what follows is of the next command ---"
	commands := session(t)
	var script strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&script, "%s\necho '%s'\n", c.line, mark)
	}
	cmd := exec.Command("/bin/sh", "-e")
	cmd.Dir = home
	cmd.Stdin = strings.NewReader(script.String())
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "LC_ALL=C",
		"STRATA_ROOT="+filepath.Join(dir, "store"), "STRATA_RUN="+filepath.Join(dir, "run"))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v after:\n%s", err, out.String())
	}
	for i, got := range strings.Split(strings.TrimSuffix(out.String(), mark+"\n"), mark+"\n") {
		got = strings.ReplaceAll(got, home, "/home/ada")
		if want := commands[i].prints; steady(got) != steady(want) {
			t.Errorf("%s prints\n%s\nThe README says\n%s", commands[i].line, got, want)
		}
	}
}

// steady replaces what is different each time, or on each filesystem: random
// ids, times, and how many blocks something takes.
func steady(out string) string {
	for _, r := range []struct{ what, by string }{
		{`\b[0-9a-f]{12}\b|\b[0-9a-f]{64}\b`, "ID"},
		{`(\d+ \w+|Less than a \w+|About an? \w+) ago`, "AGO"},
		{`\b[\d.]+[kMG]?B\b`, "SIZE"},
		{`(?m) +`, " "},
		{`(?m) +$`, ""},
	} {
		out = regexp.MustCompile(r.what).ReplaceAllString(out, r.by)
	}
	return out
}

// The two commands that do everything on a fresh machine.
func TestReadmeSetUp(t *testing.T) {
	want := "go run ./cmd/strata demo\ngo test ./...\n"
	if got := blocks(t, "sh"); len(got) != 1 || got[0] != want {
		t.Errorf("the README's set-up is %q, want %q", got, want)
	}
}

// The picture is the demo's.
func TestReadmePicture(t *testing.T) {
	if got, want := blocks(t, ""), strings.TrimPrefix(demoPicture, "\n"); len(got) != 1 || got[0] != want {
		t.Errorf("the README's picture is\n%s\nthe demo's is\n%s", strings.Join(got, "\n"), want)
	}
}

func TestReadmeLinks(t *testing.T) {
	data, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\]\(([^):]+)\)`).FindAllStringSubmatch(string(data), -1) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(readmeFile), m[1])); err != nil {
			t.Errorf("the README links to what is not there: %v", err)
		}
	}
}

// Every command that the README names in passing is one.
func TestReadmeCommands(t *testing.T) {
	data, err := os.ReadFile(readmeFile)
	if err != nil {
		t.Fatal(err)
	}
	app := newApp(&program{})
	for _, code := range regexp.MustCompile("`[^`\n]+`").FindAllString(string(data), -1) {
		for _, m := range regexp.MustCompile(`\bstrata ([a-z]+)`).FindAllStringSubmatch(code, -1) {
			if app.Command(m[1]) == nil {
				t.Errorf("the README names the command %s, which does not exist", m[1])
			}
		}
	}
	for _, c := range app.Commands {
		if !c.Hidden && c.Name != "help" && !strings.Contains(string(data), "strata "+c.Name) && !strings.Contains(string(data), "`"+c.Name+"`") {
			t.Errorf("the README does not mention the command %s", c.Name)
		}
	}
}
