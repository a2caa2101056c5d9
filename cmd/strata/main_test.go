package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"strata/internal/need"
	"strata/testdata"
)

func TestMain(m *testing.M) {
	// The race detector otherwise lets every process wait for a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	testscript.Main(m, map[string]func(){"strata": main, "mount.fuse.strata": main})
}

// TestScripts runs testdata/*.txtar: what people type, and what they see. Each
// has a store and registries of its own; the condition [fuse] tells whether it
// can mount.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("STRATA_ROOT", filepath.Join(env.WorkDir, "store"))
			env.Setenv("STRATA_RUN", filepath.Join(env.WorkDir, "run"))
			env.Setenv("GORACE", os.Getenv("GORACE"))
			giveRegistries(env)
			env.Defer(func() { clearMounts(t, env.WorkDir) })
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "fuse" {
				return false, fmt.Errorf("condition %s is not known", cond)
			}
			var p probe
			need.Root(&p)
			need.Fuse(&p)
			return !p.missing, p.failed
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"mkimage": mkimage},
	})
}

// probe is a need.TB that only finds out.
type probe struct {
	missing bool
	failed  error
}

func (p *probe) Helper() {}

func (p *probe) Skipf(string, ...any) { p.missing = true }

func (p *probe) Fatalf(format string, args ...any) {
	p.missing, p.failed = true, fmt.Errorf(format, args...)
}

// mkimage NAME|DIR OUT writes an OCI image layout, as a tar if OUT ends so: of
// the images of package testdata called NAME, or of those that the file
// DIR/images describes, the other files in DIR being its sections.
func mkimage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mkimage NAME|DIR OUT")
	}
	var images []*testdata.Image
	dir := ts.MkAbs(args[0])
	text, err := os.ReadFile(filepath.Join(dir, "images"))
	if os.IsNotExist(err) {
		images, err = testdata.Load(args[0])
	} else {
		archive := txtar.Archive{Comment: text}
		ts.Check(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || path == filepath.Join(dir, "images") {
				return err
			}
			name, _ := filepath.Rel(dir, path)
			data, err := os.ReadFile(path)
			archive.Files = append(archive.Files, txtar.File{Name: name, Data: data})
			return err
		}))
		images, err = testdata.Parse(args[0], txtar.Format(&archive))
	}
	ts.Check(err)
	out := ts.MkAbs(args[1])
	if !strings.HasSuffix(out, ".tar") {
		ts.Check(testdata.WriteLayout(out, images))
		return
	}
	f, err := os.Create(out)
	ts.Check(err)
	defer f.Close()
	ts.Check(testdata.WriteArchive(f, images))
}

// clearMounts fails the test if a script has left a mount behind.
func clearMounts(t *testing.T, dir string) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if at := strings.Fields(s.Text())[4]; strings.HasPrefix(at, dir+"/") {
			t.Errorf("a mount is left behind at %s", at)
			unix.Unmount(at, unix.MNT_DETACH)
		}
	}
}
