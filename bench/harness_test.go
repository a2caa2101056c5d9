package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"strata/testdata"
)

// built makes the command, once.
var built = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(binDir, "strata")
	if out, err := exec.Command("go", "build", "-o", bin, "strata/cmd/strata").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return bin, nil
})

var binDir string // until the end of all tests

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "strata-bench-test-*")
	if err != nil {
		panic(err)
	}
	binDir = dir
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// build returns the path of the command.
func build(tb testing.TB) string {
	tb.Helper()
	bin, err := built()
	if err != nil {
		tb.Fatal(err)
	}
	return bin
}

// strata returns what runs the command on a store of its own and gives what it
// prints; a failure is the benchmark's.
func strata(b *testing.B) func(args ...string) string {
	b.Helper()
	bin := build(b)
	root := filepath.Join(b.TempDir(), "store")
	return func(args ...string) string {
		b.Helper()
		return run(b, bin, append([]string{"--root", root}, args...)...)
	}
}

func run(b *testing.B, name string, args ...string) string {
	b.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = errors.New(err.Error() + ": " + string(exit.Stderr))
		}
		b.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// images returns a folder that has an OCI layout called family with the images
// debian:12 and deep:1: the real ones, or others of that shape.
func images(b *testing.B) string {
	b.Helper()
	if dir := os.Getenv("STRATA_IMAGES"); dir != "" {
		return dir
	}
	b.Log("STRATA_IMAGES is not set: measuring images that were made up")
	made, err := testdata.Parse("family", []byte(madeUp()))
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	if err := testdata.WriteLayout(filepath.Join(dir, "family"), made); err != nil {
		b.Fatal(err)
	}
	return dir
}

// madeUp describes a base with 6,000 files and 60 layers that each change a bit
// of it.
func madeUp() string {
	var s strings.Builder
	s.WriteString("image debian:12\nlayer base a base\n")
	for i := range 6000 {
		size := "2K"
		if i%10 == 0 {
			size = "150K"
		}
		s.WriteString("file usr/" + digits(i%200) + "/" + digits(i) + " size=" + size + "\n")
	}
	s.WriteString("image deep:1 from debian:12\n")
	for i := range 60 {
		s.WriteString("layer l" + digits(i) + " a change\nfile opt/" + digits(i%7) + "/" + digits(i) + " size=1K\n")
	}
	return s.String()
}

func digits(i int) string { return fmt.Sprintf("n%04d", i) }

// median returns the middle of some durations, in seconds.
func median(d []time.Duration) float64 {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2].Seconds()
}
