package overlay

import (
	"bufio"
	"math/rand/v2"
	"os"
	"strata/internal/histories"
	"strings"
	"testing"
	"time"
)

// TestCrash kills a process that changes an upper, at any moment, again and again on
// the same upper. Whatever was going on, each inode is whole (the data is the
// lower's), each file has the names that it says, nothing is left in the work
// directory, and the kernel sees the same.
func TestCrash(t *testing.T) {
	needRoot(t)
	top := tempDir(t)
	layers, _ := makeLayers(t, top)
	base := layers[:1] // the one with hard links
	guardLowers(t, base...)
	x := newFixtureAt(t, top, FormatKernel, base...)
	whole := map[string]bool{bodyOf(described(x.stat("f"), "", nil).Line): true} // of an empty file
	for _, d := range x.dump() {
		if d.IsRegular() {
			whole[bodyOf(d.Line)] = true
		}
	}
	for range 12 {
		x.close()
		seed, delay := rand.Uint64(), time.Duration(rand.IntN(40_000))*time.Microsecond
		cmd := child("crash", top, itoa(int(seed>>1)), base[0])
		stdout, err := cmd.StdoutPipe()
		x.must(err)
		x.must(cmd.Start())
		if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "open\n" {
			t.Fatalf("the child says %q, %v", line, err)
		}
		time.Sleep(delay)
		x.must(cmd.Process.Kill())
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the child ended by itself: %v", err)
		}
		x.open()
		if left, err := os.ReadDir(x.work + "/work"); err != nil || len(left) > 0 {
			t.Errorf("left in the work directory: %v, %v", left, err)
		}
		dump := x.dump()
		for path, d := range dump {
			if d.IsRegular() && !whole[bodyOf(d.Line)] {
				t.Errorf("%s is torn: %s", path, d.Line)
			}
		}
		report(t, histories.CheckLinks("after the crash", dump))
		x.close()
		compare(t, "the kernel's view", dump, kernelView(t, x), true)
		if t.Failed() {
			t.Fatalf("seed %d, killed after %v", seed>>1, delay)
		}
		x.open()
	}
}

// bodyOf is what a dumped line says about the contents.
func bodyOf(line string) string {
	_, body, _ := strings.Cut(line, " body ")
	body, _, _ = strings.Cut(body, " ")
	return body
}
