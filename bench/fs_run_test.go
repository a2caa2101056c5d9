package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"strata/fusefs"
	"strata/internal/need"
	"strata/testdata"
)

// tiny is little enough for all workloads of all contenders to take seconds.
func tiny() Sizes {
	return Sizes{Names: 120, Layered: 120, Many: 120, Tracked: 20, Packages: 1, Batch: 10, FileBytes: 4 << 20, BigBytes: 4 << 20}
}

// tinyRun measures in directories that must be empty again afterwards.
func tinyRun(t *testing.T, o FSOptions) (*FSReport, error) {
	t.Helper()
	need.Root(t)
	need.Fuse(t)
	need.Overlayfs(t)
	o.Dir, o.Upper = t.TempDir(), t.TempDir()
	o.Rounds, o.Least, o.KeepCaches = 1, 1, true
	if o.Sizes == (Sizes{}) {
		o.Sizes = tiny()
	}
	if o.Strata.Path == "" {
		o.Strata.Path = build(t)
	}
	report, err := RunFS(t.Context(), o)
	wantNothingLeft(t, o.Dir, o.Upper)
	return report, err
}

// wantNothingLeft fails the test if a run has left files, mounts or processes.
func wantNothingLeft(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			t.Errorf("%s is left in %s", e.Name(), dir)
		}
		if list, err := mountsBelow(dir); err != nil || len(list) > 0 {
			t.Errorf("mounts are left: %v, %v", list, err)
		}
		for _, line := range commandLines(t) {
			if strings.Contains(line, dir) {
				t.Errorf("a process is left: %s", line)
			}
		}
	}
}

// commandLines are those of all processes but this one.
func commandLines(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil && file != fmt.Sprintf("/proc/%d/cmdline", os.Getpid()) {
			lines = append(lines, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return lines
}

// allButBuild leaves out what another test does: the Go command must first build
// the standard library.
const allButBuild = `^([^g]|git)`

func TestEveryWorkload(t *testing.T) {
	for _, program := range []string{"fuse-overlayfs", "git"} {
		need.Tool(t, program)
	}
	report, err := tinyRun(t, FSOptions{Only: allButBuild, Contenders: []string{Plain, Overlayfs, FuseOverlayfs, Strata, StrataImage}})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Workloads) != len(Workloads())-1 {
		t.Errorf("%d workloads were measured, there are %d besides go-build", len(report.Workloads), len(Workloads())-1)
	}
	for _, c := range report.Contenders {
		if c.Missing != "" {
			t.Errorf("%s is missing: %s", c.Name, c.Missing)
		}
	}
	for _, w := range report.Workloads {
		if w.Missing != "" {
			t.Errorf("%s is missing: %s", w.Name, w.Missing)
		}
		for _, r := range w.Results {
			switch {
			case r.Failed != "":
				t.Errorf("%s through %s: %s", w.Name, r.Contender, r.Failed)
			case r.LeftOut != "":
				if !mayBeLeftOut(w.Name, r.Contender) {
					t.Errorf("%s through %s is left out: %s", w.Name, r.Contender, r.LeftOut)
				}
			case len(r.Values) != 1 || r.Values[0] <= 0 || r.Summary == nil || r.Summary.Median != r.Values[0]:
				t.Errorf("%s through %s: values %v, summary %+v", w.Name, r.Contender, r.Values, r.Summary)
			case r.Values[0] > 60 && w.Unit != "B":
				t.Errorf("%s through %s: %v seconds for one operation", w.Name, r.Contender, r.Values[0])
			case r.Contender == Overlayfs && r.Ratios[Overlayfs] != 1:
				t.Errorf("%s: overlayfs is %v times itself", w.Name, r.Ratios[Overlayfs])
			}
		}
	}
	if report.Floor <= 0 {
		t.Errorf("a FUSE request takes %v seconds", report.Floor)
	}
	if len(report.Targets) == 0 {
		t.Error("nothing was held against the targets")
	}
}

// mayBeLeftOut are the cells in which there is nothing to measure.
func mayBeLeftOut(workload, contender string) bool {
	switch workload {
	case "mount":
		return contender == Plain
	case "memory":
		return contender == Plain || contender == Overlayfs
	case "pagecache":
		return true // the caches are kept
	}
	return false
}

func TestGoBuild(t *testing.T) {
	need.Tool(t, "go")
	report, err := tinyRun(t, FSOptions{Only: "^go-build$", Contenders: []string{Strata}})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Workloads[0].Results {
		if r.Failed != "" || len(r.Values) != 1 {
			t.Errorf("%s: %d values, %s", r.Contender, len(r.Values), r.Failed)
		}
	}
}

// An image has whiteouts and opaque directories, and everybody who understands
// them sees the same names.
func TestImage(t *testing.T) {
	need.Root(t)
	images, err := testdata.Load("tour")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	layout, root := filepath.Join(dir, "layout"), filepath.Join(dir, "store")
	if err := testdata.WriteLayout(layout, images); err != nil {
		t.Fatal(err)
	}
	o := FSOptions{Only: "^(find-warm|mount)$", Strata: Command{Path: build(t)}, Contenders: []string{Plain, Overlayfs, FuseOverlayfs, Strata, StrataImage}}
	need.Tool(t, "fuse-overlayfs")
	command := ContenderOptions{Strata: o.Strata, Dir: dir}
	if _, err := finish(t.Context(), command.command(t.Context(), "--root", root, "load", "-q", layout)); err != nil {
		t.Fatal(err)
	}
	names, err := finish(t.Context(), command.command(t.Context(), "--root", root, "images"))
	if err != nil {
		t.Fatal(err)
	}
	deepest := strings.Fields(strings.Split(names, "\n")[len(strings.Split(names, "\n"))-2])
	o.Image = &StoredImage{Root: root, Reference: deepest[0] + ":" + deepest[1]}
	report, err := tinyRun(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if w := report.Workloads[0]; w.Layers < 2 || w.Names == 0 {
		t.Errorf("the image has %d layers and %d names", w.Layers, w.Names)
	}
	for _, w := range report.Workloads {
		for _, r := range w.Results {
			if r.Failed != "" {
				t.Errorf("%s through %s: %s", w.Name, r.Contender, r.Failed)
			}
		}
	}
	left, err := finish(t.Context(), command.command(t.Context(), "--root", root, "ps", "--json"))
	if err != nil || strings.TrimSpace(left) != "[]" {
		t.Errorf("containers are left in the store: %s, %v", left, err)
	}
}

// An interrupt may come at any time, and leaves nothing.
func TestInterrupt(t *testing.T) {
	need.Root(t)
	need.Fuse(t)
	need.Overlayfs(t)
	need.Tool(t, "fuse-overlayfs")
	strata := Command{Path: build(t)}
	for _, at := range []struct {
		workload, contender string
		preparing           bool
		after               time.Duration
	}{
		{"find-warm", Strata, true, 0},
		{"find-warm", Strata, false, 0},
		{"find-warm", Strata, false, 15 * time.Millisecond},
		{"untar", Overlayfs, false, 5 * time.Millisecond},
		{"untar", FuseOverlayfs, false, 20 * time.Millisecond},
		{"memory", StrataImage, false, 10 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(at.workload, " ", at.contender, " ", at.after), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o := FSOptions{
				Only: "^" + at.workload + "$", Contenders: []string{at.contender}, Rounds: 100, Least: time.Hour, KeepCaches: true,
				Sizes: tiny(), Strata: strata, Dir: t.TempDir(), Upper: t.TempDir(),
				Progress: func(s Step) {
					if preparing := s.Total == 0; preparing == at.preparing {
						time.AfterFunc(at.after, cancel)
					}
				},
			}
			if _, err := RunFS(ctx, o); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "was killed") {
				t.Errorf("RunFS ended with %v", err)
			}
			wantNothingLeft(t, o.Dir, o.Upper)
		})
	}
}

func TestSelect(t *testing.T) {
	all := Contenders(ContenderOptions{})
	names := func(list []Contender) (names []string) {
		for _, c := range list {
			names = append(names, c.Name())
		}
		return names
	}
	chosen, err := Select(all, []string{Strata, Plain})
	if err != nil || !slices.Equal(names(chosen), []string{Plain, Strata}) {
		t.Errorf("chosen: %v, %v", names(chosen), err)
	}
	if _, err := Select(all, []string{"nobody", Plain}); err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a name that nobody has: %v", err)
	}
	if chosen, err := Select(all, nil); err != nil || len(chosen) != len(all)-1 {
		t.Errorf("without names: %v, %v", names(chosen), err)
	}
}

// A contender writes into its upper only, and what it shows is a copy on write.
func TestContenders(t *testing.T) {
	need.Overlayfs(t)
	need.Fuse(t)
	for _, program := range []string{"fuse-overlayfs", "unionfs-fuse"} {
		need.Tool(t, program)
	}
	dir := t.TempDir()
	trees := &dataSets{dir: filepath.Join(dir, "trees"), sizes: tiny(), made: map[string]*Data{}}
	if err := os.Mkdir(trees.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := trees.get(t.Context(), dataLayers20)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range Contenders(ContenderOptions{Strata: Command{Path: build(t)}, Dir: dir}) {
		t.Run(c.Name(), func(t *testing.T) {
			if err := c.Missing(); err != nil {
				t.Fatal(err)
			}
			scratch := filepath.Join(dir, fmt.Sprint("s", i))
			if err := os.Mkdir(scratch, 0o755); err != nil {
				t.Fatal(err)
			}
			v, err := c.Mount(t.Context(), data.place(scratch, true))
			if err != nil {
				t.Fatal(err)
			}
			end := sync.OnceValue(v.Close)
			defer end()
			seen := &Data{Merged: v.Dir}
			if err := seen.list(); err != nil {
				t.Fatal(err)
			}
			for _, names := range [][]string{seen.All, data.All} {
				slices.Sort(names)
			}
			if !slices.Equal(seen.All, data.All) {
				t.Errorf("sees %d names, there are %d", len(seen.All), len(data.All))
			}
			file := data.Files[0]
			if err := os.WriteFile(filepath.Join(v.Dir, file), []byte("changed"), 0o644); err != nil {
				t.Error(err)
			}
			if got, err := os.ReadFile(filepath.Join(v.Dir, file)); string(got) != "changed" {
				t.Errorf("read back: %q, %v", got, err)
			}
			if got, err := os.ReadFile(filepath.Join(data.Merged, file)); strings.HasPrefix(string(got), "changed") {
				t.Errorf("the tree below was changed: %q, %v", got, err)
			}
			for _, pid := range v.Servers {
				if n, err := private(pid); err != nil || n <= 0 {
					t.Errorf("server %d: %d bytes of private memory, %v", pid, n, err)
				}
			}
			if err := end(); err != nil {
				t.Error(err)
			}
			for _, pid := range v.Servers {
				if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
					t.Errorf("process %d goes on", pid)
				}
			}
		})
	}
	if list, err := fusefs.Mountpoints(); err != nil || slices.ContainsFunc(list, func(at string) bool { return strings.HasPrefix(at, dir+"/") }) {
		t.Errorf("mounts are left: %v", err)
	}
}
