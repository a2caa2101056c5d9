package overlay

import (
	"testing"

	"strata/internal/histories"
)

// TestDifferences shows each line of the table as far as no mount is involved, and
// prints it.
func TestDifferences(t *testing.T) {
	needRoot(t)
	t.Logf("%-80s %-8s %-9s %-10s %s", "", "plain", "overlayfs", "in-process", "because")
	for _, d := range histories.Differences {
		if d.InProcess == "" {
			continue
		}
		a, err := histories.NewArena(tempDir(t), histories.DifferencesLowers)
		if err != nil {
			t.Fatal(err)
		}
		x := &fixture{t: t, layers: a.Layers, format: FormatKernel, upper: a.Dir("upper"), work: a.Dir("work")}
		x.open()
		plain, kernel, err := a.ProbeHost(d, &histories.Directory{}, &histories.Directory{})
		x.must(err)
		ours, err := d.Ask(&inProcess{x: x})
		x.must(err)
		x.close()
		if err := a.Remove(); err != nil {
			t.Error(err)
		}
		got := [3]string{plain, kernel, ours}
		if want := [3]string{d.Plain, d.Kernel, d.InProcess}; got != want {
			t.Errorf("%s: plain, overlayfs, in-process: %q, the table says %q", d.What, got, want)
		}
		t.Logf("%-80s %-8s %-9s %-10s %s", d.What, d.Plain, d.Kernel, d.InProcess, d.Why)
	}
}
