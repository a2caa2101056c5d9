package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"strata/internal/need"
)

// demoWays are the machines on which the demo has to do its work.
var demoWays = []struct {
	name    string
	need    func(need.TB)
	mounted bool
	script  string // runs "$@" there; the directory $tmp is everybody's
}{
	{
		name:    "mounted",
		need:    need.Fuse,
		mounted: true,
		script:  `exec "$@"`,
	},
	{
		name:   "no dev fuse",
		need:   need.Root,
		script: `exec unshare --mount sh -ec 'mount --bind /dev/null /dev/fuse; exec "$@"' sh "$@"`,
	},
	{
		name:   "user without dev fuse",
		need:   need.Root,
		script: `exec unshare --mount sh -ec 'mount --bind /dev/null /dev/fuse; exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"' sh "$@"`,
	},
	{
		name:    "user with dev fuse",
		need:    func(t need.TB) { need.Root(t); need.Fuse(t); need.Tool(t, "fusermount3") },
		mounted: true,
		script: `mknod -m 666 "$tmp/fuse" c 10 229
			exec unshare --mount sh -ec 'mount --bind "$tmp/fuse" /dev/fuse; exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"' sh "$@"`,
	},
}

// demoRun is a demo that has run.
type demoRun struct {
	tmp            string // its TMPDIR
	stdout, stderr string
}

// demoCommandIn prepares strata demo with the given flags. Whoever runs it may
// use all that it needs.
func demoCommandIn(t *testing.T, script string, flags ...string) (*exec.Cmd, *demoRun) {
	t.Helper()
	base, err := os.MkdirTemp("", "strata-test-demo-*") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		clearMounts(t, base)
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	r := &demoRun{tmp: filepath.Join(base, "tmp")}
	if err := os.Mkdir(r.tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{base, r.tmp} {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(base, "strata")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", append([]string{"-ec", script, "sh", program, "demo"}, flags...)...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "TMPDIR="+r.tmp, "tmp="+base)
	return cmd, r
}

func runDemo(t *testing.T, script string, flags ...string) *demoRun {
	t.Helper()
	cmd, r := demoCommandIn(t, script, flags...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r.stdout, r.stderr = stdout.String(), stderr.String()
	if err != nil {
		t.Fatalf("demo %v: %v\n%s%s", flags, err, r.stdout, r.stderr)
	}
	if r.stderr != "" {
		t.Errorf("demo %v says on stderr: %s", flags, r.stderr)
	}
	return r
}

// kept is the directory that a demo with --keep has left.
func (r *demoRun) kept(t *testing.T) string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(r.tmp, "strata-demo-*"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("the demo has left %q, want one directory (%v)", dirs, err)
	}
	return dirs[0]
}

// du is what du(1) says.
func du(t *testing.T, dir string) int64 {
	t.Helper()
	out, err := exec.Command(need.Tool(t, "du"), "-s", "--block-size=1", dir).Output()
	if err != nil {
		t.Fatalf("du %s: %v", dir, err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDemoFiguresAreThoseOfDu(t *testing.T) {
	for _, way := range demoWays {
		t.Run(way.name, func(t *testing.T) {
			way.need(t)
			r := runDemo(t, way.script, "--keep", "--json")
			var got demoJSON
			if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
				t.Fatal(err)
			}
			dir := r.kept(t)
			if got.Dir != dir {
				t.Errorf("kept in %s, want %s", got.Dir, dir)
			}
			if got.Mounted != way.mounted {
				t.Errorf("mounted: %v (%s), want %v", got.Mounted, got.Reason, way.mounted)
			}
			if len(got.Containers) != len(demoContainers) {
				t.Errorf("%d containers, want %d", len(got.Containers), len(demoContainers))
			}
			store, copies := filepath.Join(dir, "store"), filepath.Join(dir, "copies")
			layers, all := du(t, store), int64(0)
			for _, c := range got.Containers {
				own, full := du(t, filepath.Join(store, "containers", c.ID)), du(t, filepath.Join(copies, c.Name))
				if c.OwnBytes != own || c.CopyBytes != full {
					t.Errorf("%s: own %d, copy %d; du says %d, %d", c.Name, c.OwnBytes, c.CopyBytes, own, full)
				}
				layers -= own
				all += full
			}
			if store := du(t, store); got.StoreBytes != store || got.LayersBytes != layers || got.CopiesBytes != all {
				t.Errorf("store %d, layers %d, copies %d; du says %d, %d, %d",
					got.StoreBytes, got.LayersBytes, got.CopiesBytes, store, layers, all)
			}
			if got.StoreBytes*2 > got.CopiesBytes {
				t.Errorf("layers take %d bytes and full copies %d: there is nothing to show", got.StoreBytes, got.CopiesBytes)
			}
		})
	}
}

// The table that people see, too.
func TestDemoTableIsThatOfDu(t *testing.T) {
	r := runDemo(t, `exec "$@"`, "--keep")
	dir := r.kept(t)
	store, copies := filepath.Join(dir, "store"), filepath.Join(dir, "copies")
	var sum int64
	want := map[string][]string{}
	configs, err := filepath.Glob(filepath.Join(store, "containers", "*", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	layers := du(t, store)
	for _, file := range configs {
		var config struct{ Name string }
		data, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(data, &config)
		}
		if err != nil {
			t.Fatal(err)
		}
		full, own := du(t, filepath.Join(copies, config.Name)), du(t, filepath.Dir(file))
		want[config.Name] = []string{size(full), size(own)}
		sum += full
		layers -= own
	}
	want["layers"] = []string{size(layers)}
	want["together"] = []string{size(sum), size(du(t, store))}
	_, table, found := strings.Cut(r.stdout, "FULL COPY")
	if !found || len(configs) != len(demoContainers) {
		t.Fatalf("no table, or %d containers in the store:\n%s", len(configs), r.stdout)
	}
	for name, figures := range want {
		line := regexp.MustCompile(`(?m)^ *` + name + ` .*$`).FindString(table)
		fields := strings.Fields(line)
		if len(fields) <= len(figures) || strings.Join(fields[1:1+len(figures)], " ") != strings.Join(figures, " ") {
			t.Errorf("the table says %q; du says %s %v", line, name, figures)
		}
	}
}

// What the story claims happens, however it is done.
func TestDemoStory(t *testing.T) {
	for _, way := range demoWays {
		t.Run(way.name, func(t *testing.T) {
			way.need(t)
			r := runDemo(t, way.script)
			for _, want := range []string{
				`\$ strata load demo.oci`,
				`Loaded image: demo/web:1 \(2 layers of 3 new`,
				`(?m)^    D /etc/os-release$`,
				`(?m)^    A /var/log/access.log$`,
				`\./etc/httpd +(trusted|user)\.overlay\.opaque=y: an opaque directory`,
				`\./etc/os-release +.*: a whiteout`,
				`/srv/www/index.html comes from the upper`,
				`/etc/httpd/modules.conf does not exist, because of the upper`,
			} {
				if !regexp.MustCompile(want).MatchString(r.stdout) {
					t.Errorf("the story does not say %q", want)
				}
			}
			if says := strings.Contains(r.stdout, "Nothing can be mounted here"); says == way.mounted {
				t.Errorf("it says that nothing can be mounted: %v", says)
			}
			if left, _ := os.ReadDir(r.tmp); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if t.Failed() {
				t.Log(r.stdout)
			}
		})
	}
}

// With and without a mount, the containers see the same.
func TestDemoSeesTheSameWithoutMount(t *testing.T) {
	var first map[string]string
	for _, way := range demoWays[:2] {
		way.need(t)
		seen := contents(t, filepath.Join(runDemo(t, way.script, "--keep").kept(t), "copies"))
		if seen["web-1/etc/httpd/httpd.conf"] == "" || seen["web-1/etc/os-release"] != "" || seen["web-1/etc/httpd/modules.conf"] != "" {
			t.Errorf("%s: the changes of web-1 are not seen: %v", way.name, seen)
		}
		if first == nil {
			first = seen
		}
		if len(seen) != len(first) {
			t.Errorf("%s: %d names are seen, %d before", way.name, len(seen), len(first))
		}
		for name, digest := range seen {
			if digest != first[name] {
				t.Errorf("%s: %s is %s, and was %s", way.name, name, digest, first[name])
			}
		}
	}
}

// contents maps what is below dir to its type and what is in it.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, file)
		what := d.Type().String()
		switch d.Type() {
		case 0:
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			what += fmt.Sprintf("%x", sha256.Sum256(data))
		case fs.ModeSymlink:
			target, err := os.Readlink(file)
			if err != nil {
				return err
			}
			what += target
		}
		all[name] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDemoInterrupted(t *testing.T) {
	need.Fuse(t)
	// From before anything was made to after everything was mounted.
	for _, after := range []time.Duration{20, 100, 200, 300, 400} {
		cmd, r := demoCommandIn(t, `exec "$@"`)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after * time.Millisecond)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		err := cmd.Wait()
		t.Logf("after %d ms: %v", after, err)
		clearMounts(t, filepath.Dir(r.tmp))
		if left, _ := os.ReadDir(r.tmp); len(left) > 0 {
			t.Errorf("interrupted after %d ms it leaves %v", after, left)
		}
	}
}
