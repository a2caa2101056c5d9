package overlay

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// quiet is a testing.TB that remembers what failed and does not fail.
type quiet struct {
	testing.TB
	said     []string
	cleanups []func()
}

type giveUp struct{}

func (q *quiet) Helper()                        {}
func (q *quiet) Logf(format string, a ...any)   {}
func (q *quiet) Log(a ...any)                   {}
func (q *quiet) Cleanup(fn func())              { q.cleanups = append(q.cleanups, fn) }
func (q *quiet) Failed() bool                   { return len(q.said) > 0 }
func (q *quiet) Error(a ...any)                 { q.said = append(q.said, fmt.Sprint(a...)) }
func (q *quiet) Errorf(format string, a ...any) { q.said = append(q.said, fmt.Sprintf(format, a...)) }
func (q *quiet) Fatal(a ...any)                 { q.Error(a...); panic(giveUp{}) }
func (q *quiet) Fatalf(f string, a ...any)      { q.Errorf(f, a...); panic(giveUp{}) }

func (q *quiet) TempDir() string {
	dir, err := os.MkdirTemp("", "strata-overlay-test-")
	if err != nil {
		q.TB.Fatal(err)
	}
	q.Cleanup(func() { os.Remove(dir) }) // mount points only: never what is in them
	return dir
}

// replay is one history in three worlds.
type replay struct {
	format Format
	disk   bool // not in memory
	file   bool // the lower is one tree file, as of an image, and no plain directories
	whole  bool // with NoMetacopy
	layers []string
	script string
	steps  []step
	met    map[int]int // how often each difference was met
}

func drawReplay(seed uint64, format Format, steps int) *replay {
	r := rand.New(rand.NewPCG(seed, 1))
	p := &replay{format: format, met: map[int]int{}}
	p.script, p.layers = layersScript(r.IntN)
	for range steps {
		p.steps = append(p.steps, stepFor(r.IntN))
	}
	return p
}

// run plays these steps and tells what was wrong.
func (p *replay) run(t *testing.T, steps []step) (wrong []string) {
	q := &quiet{TB: t}
	defer func() {
		if e := recover(); e != nil {
			if _, ok := e.(giveUp); !ok {
				q.said = append(q.said, fmt.Sprintf("panic: %v\n%s", e, debug.Stack()))
			}
		}
		for _, fn := range slices.Backward(q.cleanups) {
			fn()
		}
		wrong = q.said
	}()
	top, err := os.MkdirTemp(map[bool]string{false: inMemory()}[p.disk], "strata-overlay-test-")
	if err != nil {
		t.Fatal(err)
	}
	q.Cleanup(func() { os.RemoveAll(top) })
	p.play(q, top, steps)
	return nil
}

func (p *replay) play(q *quiet, top string, steps []step) {
	run(q, top, p.script+"mkdir none plain merged kupper kwork\n")
	layers := make([]string, len(p.layers))
	for i, l := range p.layers {
		layers[i] = top + "/" + l
	}
	guardLowers(q, layers...)
	merged := top + "/merged"
	down := func() {
		if err := unix.Unmount(merged, 0); err != nil && err != unix.EINVAL {
			q.Errorf("unmount: %v", err)
			unix.Unmount(merged, unix.MNT_DETACH) // or its removal would reach into it
		}
	}
	topmost := slices.Clone(layers)
	slices.Reverse(topmost)
	lowers := strings.Join(append(topmost, top+"/none"), ":")
	if err := unix.Mount("overlay", merged, "overlay", unix.MS_RDONLY, "lowerdir="+lowers); err != nil {
		q.Fatalf("mount overlay: %v", err)
	}
	out, err := exec.Command("cp", "-a", merged+"/.", top+"/plain").CombinedOutput()
	down()
	if err != nil {
		q.Fatalf("cp: %v\n%s", err, out)
	}
	// index=on keeps hard links together, as a plain directory and we do.
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s/kupper,workdir=%s/kwork,redirect_dir=on,metacopy=on,index=on", lowers, top, top)
	if err := unix.Mount("overlay", merged, "overlay", 0, opts); err != nil {
		q.Fatalf("mount overlay -o %s: %v", opts, err)
	}
	q.Cleanup(down)

	x := newFixtureAt(q, top, p.format, layers...)
	reopen := x.reopen
	if p.file {
		writeTreeFile(q, top, layers...)
		reopen = func() {
			x.close()
			lower, err := openTreeFile(top)
			if err != nil {
				q.Fatal(err)
			}
			q.Cleanup(func() { x.close(); lower.Close() })
			x.openWith(func(o *Options) { o.Lower = lower })
		}
		reopen()
	}
	x.noMetacopy = p.whole
	ours, plain, kernel := &world{x: x}, &world{root: top + "/plain"}, &world{root: merged}
	q.Cleanup(kernel.closeAll) // before it is unmounted
	q.Cleanup(plain.closeAll)
	for i, s := range steps {
		stale := slices.ContainsFunc(ours.files[:], func(f openFile) bool { return f.stale() })
		if stale && s.kind == "copy range" {
			continue // it might carry what only a stale descriptor shows to another file
		}
		got, err := s.do(ours)
		e := errnoOf(err)
		want, err := s.do(plain)
		w := errnoOf(err)
		loose := stale && (s.kind == "read" || s.kind == "seek") // differences: descriptor
		if (e != w || got != want) && !loose {
			q.Fatalf("step %d: %s: %s %.40q, a plain directory says %s %.40q", i, s.name, nameOf(e), got, nameOf(w), want)
		}
		if kernel == nil {
			continue
		}
		_, err = s.do(kernel)
		if k := errnoOf(err); k != w {
			d := slices.IndexFunc(differences, func(d difference) bool {
				return d.kind == s.kind && d.errnos == [2]syscall.Errno{w, k}
			})
			if d < 0 {
				q.Fatalf("step %d: %s: %s, overlayfs says %s", i, s.name, nameOf(w), nameOf(k))
			}
			p.met[d]++
			kernel.closeAll()
			kernel = nil
		}
	}
	ours.closeAll()
	want := dumpDir(q, top+"/plain")
	before := x.dump()
	nlinks := func(dump map[string]dumped) map[string]dumped { return dump }
	if !p.file {
		nlinks = withoutNlink
	}
	compare(q, "merged", nlinks(want), nlinks(before), false)
	wantForgotten(x)
	reopen()
	after := x.dump()
	compare(q, "after remount", nlinks(before), nlinks(after), true)
	for path, b := range before {
		if b.inode != after[path].inode {
			q.Errorf("%q was inode %s and is %s after remount", path, b.inode, after[path].inode)
		}
	}
	x.close()
	if p.format == FormatKernel {
		compare(q, "kernel's view of the upper", withoutNlink(want), withoutNlink(kernelView(q, x)), false)
	}
}

// withoutNlink leaves out how many names a file has: of one that was not copied up
// overlayfs, and a lower of plain directories, count those that are hidden, too.
func withoutNlink(dump map[string]dumped) map[string]dumped {
	out := map[string]dumped{}
	for path, d := range dump {
		d.line = nlinkInLine.ReplaceAllString(d.line, "")
		out[path] = d
	}
	return out
}

var nlinkInLine = regexp.MustCompile(` nlink \d+`)

// shrink drops steps for as long as it fails.
func (p *replay) shrink(t *testing.T, wrong []string) ([]step, []string) {
	steps := p.steps
	for size := len(steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(steps); {
			fewer := slices.Concat(steps[:at], steps[at+size:])
			if w := p.run(t, fewer); len(w) > 0 {
				steps, wrong = fewer, w
			} else {
				at += size
			}
		}
	}
	return steps, wrong
}

// asScript prints the history for sh: it is run in an empty directory, and what it
// does there in "merged" is to be compared with the same in a copy.
func (p *replay) asScript(steps []step) string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n" + p.script + "mkdir upper work merged\n")
	layers := slices.Clone(p.layers)
	slices.Reverse(layers)
	fmt.Fprintf(&b, "strata overlay -o lowerdir=%s,upperdir=upper,workdir=work merged && cd merged\n", strings.Join(layers, ":"))
	for _, s := range steps {
		b.WriteString(s.name + "\n")
	}
	return b.String()
}

// TestWorlds plays histories, with files that stay open from step to step, over one to
// eight lowers. STRATA_HISTORIES says how many, STRATA_SEED which is the first.
func TestWorlds(t *testing.T) {
	needRoot(t)
	seed := uint64(count("STRATA_SEED", int(rand.Uint64()>>1)))
	t.Logf("first seed %d", seed)
	met := map[int]int{}
	for i := range uint64(count("STRATA_HISTORIES", 100)) {
		format := FormatKernel
		if i%4 == 3 {
			format = FormatUser
		}
		p := drawReplay(seed+i, format, 120)
		p.disk, p.file, p.whole = i%50 == 49, i%2 == 0, i%9 == 8
		wrong := p.run(t, p.steps)
		for d, n := range p.met {
			met[d] += n
		}
		if len(wrong) == 0 {
			continue
		}
		steps, wrong := p.shrink(t, wrong)
		t.Fatalf("seed %d (STRATA_SEED=%d STRATA_HISTORIES=1), format %s:\n%s\n\n%s", seed+i, seed+i, format, strings.Join(wrong, "\n"), p.asScript(steps))
	}
	for i, d := range differences {
		if d.kind != "" {
			t.Logf("met %d times: %s", met[i], d.what)
		}
	}
}
