package need

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder is a TB that notes how a test ended.
type recorder struct{ skipped, failed string }

func (r *recorder) Helper() {}

func (r *recorder) Skipf(f string, args ...any) {
	r.skipped = fmt.Sprintf(f, args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(f string, args ...any) {
	r.failed = fmt.Sprintf(f, args...)
	runtime.Goexit()
}

// record runs a test to its end.
func record(test func(TB)) *recorder {
	r, done := &recorder{}, make(chan struct{})
	go func() {
		defer close(done)
		test(r)
	}()
	<-done
	return r
}

func TestMissingSkips(t *testing.T) {
	t.Setenv("STRATA_CI", "")
	r := record(func(t TB) { Tool(t, "no-such-program-anywhere") })
	if !strings.Contains(r.skipped, "no-such-program-anywhere") || r.failed != "" {
		t.Errorf("a missing program: skipped %q, failed %q; want it skipped and named", r.skipped, r.failed)
	}
}

func TestMissingFailsInCI(t *testing.T) {
	t.Setenv("STRATA_CI", "1")
	t.Setenv("STRATA_IMAGES", "")
	r := record(func(t TB) { Images(t) })
	if !strings.Contains(r.failed, "STRATA_IMAGES") || r.skipped != "" {
		t.Errorf("missing images: skipped %q, failed %q; want it failed and named", r.skipped, r.failed)
	}
}

// Where CI says that everything is there, the probes must agree.
func TestEverythingInCI(t *testing.T) {
	Root(t)
	Fuse(t)
	Overlayfs(t)
}
