package bench

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// output runs a program to its end and returns what it prints. When ctx is done
// it is killed, with all that it has started.
func output(ctx context.Context, name string, args ...string) (string, error) {
	return finish(ctx, exec.CommandContext(ctx, name, args...))
}

// finish is output for a command that has been set up otherwise.
func finish(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	cmd.Stderr = &stderr
	group(cmd)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Args[0]), err, lastLine(stderr.String()))
	}
	return stdout.String(), nil
}

// group gives a command a process group of its own, so that an interrupt typed at
// the terminal reaches it through us, in order, and nothing of it is left.
func group(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cmd.Cancel != nil {
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = 10 * time.Second
	}
}

// lastLine is where programs say what went wrong.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// versionOf asks a program for its version, which stands behind a mark in what it
// prints.
func versionOf(program, mark string) string {
	out, err := exec.Command(program, "--version").CombinedOutput()
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(out), mark)
	return rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789."))]
}

// installed tells whether a program is there.
func installed(name, debian string) error {
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("%s is not installed (Debian has it in the package %s)", name, debian)
	}
	return nil
}
