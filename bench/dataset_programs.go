package bench

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// repository makes a git repository with one commit of everything in its working
// tree. Numbers of inodes and times of their changes differ from contender to
// contender; the repository's config tells git not to look at them, as it would
// otherwise read every file again.
func (m *maker) repository(files int) {
	for i := range files {
		m.text(fmt.Sprintf("src/part-%d/section-%d/file-%d.c", i/200, i/20, i), strings.Repeat(fmt.Sprintf("int value_%d = %d;\n", i, i), 10+i%90))
	}
	m.do(func() error { return settle(m.dir) })
	for _, args := range [][]string{
		{"init", "-q"},
		{"config", "core.checkStat", "minimal"},
		{"config", "core.trustctime", "false"},
		{"config", "user.name", "bench"},
		{"config", "user.email", "bench@localhost"},
		{"add", "."},
		{"commit", "-q", "-m", "all of it"},
		{"gc", "-q"},
	} {
		m.do(func() error {
			_, err := finish(m.ctx, gitCommand(exec.CommandContext(m.ctx, "git", append([]string{"-C", m.dir}, args...)...)))
			return err
		})
	}
}

// gitCommand keeps the user's own configuration out.
func gitCommand(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
	return cmd
}

// goModule makes a module of packages that a main program uses, and builds it, so
// that the build cache in the tree knows the standard library.
func (m *maker) goModule(packages int) {
	m.old = "src" // the go command touches what is old in its cache
	m.text("src/go.mod", "module example.com/built\n\ngo 1.21\n")
	var imports, calls strings.Builder
	for p := range packages {
		for f := range 5 {
			var body strings.Builder
			fmt.Fprintf(&body, "package p%d\n\nimport (\n\t\"fmt\"\n\t\"strings\"\n)\n", p)
			for k := range 20 {
				fmt.Fprintf(&body, "\nfunc F%d_%d(s string) string { return strings.Repeat(fmt.Sprint(s, %d), %d) }\n", f, k, f*k, k)
			}
			m.text(fmt.Sprintf("src/p%d/f%d.go", p, f), body.String())
		}
		fmt.Fprintf(&imports, "\t\"example.com/built/p%d\"\n", p)
		fmt.Fprintf(&calls, "\tprintln(p%d.F0_1(\"x\"))\n", p)
	}
	m.text("src/main.go", "package main\n\nimport (\n"+imports.String()+")\n\nfunc main() {\n"+calls.String()+"}\n")
	m.do(func() error {
		home, err := os.MkdirTemp(filepath.Dir(m.dir), "home-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(home)
		_, err = finish(m.ctx, goBuild(exec.CommandContext(m.ctx, "go"), m.dir, home))
		return err
	})
}

// goBuild makes cmd build the module in a tree, with the cache that is there and
// nothing from anywhere else.
func goBuild(cmd *exec.Cmd, tree, home string) *exec.Cmd {
	cmd.Args = []string{"go", "build", "-trimpath", "-o", filepath.Join(tree, "built"), "."}
	cmd.Dir = filepath.Join(tree, "src")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GOPATH=" + filepath.Join(home, "go"), "GOCACHE=" + filepath.Join(tree, "cache"),
		"GOFLAGS=-mod=mod", "GOPROXY=off", "GOTOOLCHAIN=local", "GOENV=off", "GOWORK=off", "CGO_ENABLED=0", "GOTELEMETRY=off",
	}
	return cmd
}
