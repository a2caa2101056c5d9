package fusefs

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"strata/internal/need"
	"strata/overlay"
	"strata/overlay/tree"
)

// A process that uses its own mount must not wait for itself. With one processor it
// would do so for ever, so another process tries that, with GOMAXPROCS=1.
func TestAProcessMayUseItsOwnMount(t *testing.T) {
	const inChild = "FUSEFS_TEST_OWN_MOUNT"
	need.Root(t)
	need.Fuse(t)
	if dir := os.Getenv(inChild); dir != "" {
		useOwnMount(t, dir)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	base := t.TempDir()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", inChild+"="+base)
	if out, err := cmd.CombinedOutput(); err != nil {
		exec.Command("umount", "-l", "-f", base+"/merged").Run()
		t.Errorf("%v\n%s", err, out)
	}
}

func useOwnMount(t *testing.T, base string) {
	if n := runtime.GOMAXPROCS(0); n != 1 {
		t.Fatalf("GOMAXPROCS is %d", n)
	}
	for _, dir := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(base+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, base+"/lower/f", "lower")
	h, err := tree.OpenHostDir(base+"/lower", tree.HostDirOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ofs, err := overlay.Open(overlay.Options{Lower: tree.Stack(h), Upper: base + "/upper", Work: base + "/work"})
	if err != nil {
		t.Fatal(err)
	}
	defer ofs.Close()
	s, err := Mount(base+"/merged", ofs, Options{})
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, base+"/merged/f", "lower")
	write(t, base+"/merged/g", "upper")
	wantContent(t, base+"/merged/g", "upper")
	if err := s.Unmount(); err != nil {
		t.Error(err)
	}
}
