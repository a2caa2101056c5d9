package bench

import (
	"encoding/json"
	"strings"
	"testing"
)

// reportOf makes a report of medians: workload, contender, value.
func reportOf(floor float64, medians map[string]map[string]float64) *FSReport {
	f := &FSReport{Floor: floor}
	for _, name := range []string{Plain, Overlayfs, FuseOverlayfs, Strata, StrataImage} {
		f.Contenders = append(f.Contenders, ContenderReport{Name: name})
	}
	for _, w := range Workloads() {
		m, ok := medians[w.Name]
		if !ok {
			continue
		}
		r := WorkloadReport{Name: w.Name, Group: w.Group, Unit: w.Unit, Figure: w.Figure != nil, Requests: w.Requests, Bytes: 100e6}
		for _, c := range f.Contenders {
			result := Result{Contender: c.Name}
			if v, ok := m[c.Name]; ok {
				result.Values = []float64{v}
			} else {
				result.LeftOut = "was not asked"
			}
			r.Results = append(r.Results, result)
		}
		f.Workloads = append(f.Workloads, r)
	}
	f.finish()
	return f
}

func TestTargets(t *testing.T) {
	f := reportOf(10e-6, map[string]map[string]float64{
		"create":          {Overlayfs: 10e-6, FuseOverlayfs: 60e-6, Strata: 45e-6},
		"read-seq":        {Overlayfs: 100e-6, FuseOverlayfs: 150e-6, Strata: 110e-6},
		"mount":           {Overlayfs: 1e-4, FuseOverlayfs: 3e-3, Strata: 8e-3, StrataImage: 12e-3},
		"memory":          {FuseOverlayfs: 3e6, Strata: 8e6},
		"pagecache":       {Overlayfs: 0, FuseOverlayfs: 100e6, Strata: 1e6, StrataImage: 90e6},
		"missing-cold-1":  {Overlayfs: 10e-6, Strata: 20e-6, StrataImage: 20e-6},
		"missing-cold-60": {Overlayfs: 100e-6, Strata: 100e-6, StrataImage: 21e-6},
	})
	type key struct{ workload, contender, wanted string }
	got := map[key]TargetReport{}
	for _, g := range f.Targets {
		got[key{g.Workload, g.Contender, g.Wanted}] = g
	}
	for _, c := range []struct {
		key
		met         bool
		value       string
		floor, over string
	}{
		{key{"create", Strata, "at most 4.00 of overlayfs"}, false, "4.50x", "2.00x", "2.25x"},
		{key{"create", Strata, "at most 0.67 of fuse-overlayfs"}, false, "0.75x", "0.33x", "2.25x"},
		{key{"read-seq", Strata, "at most 1.15 of overlayfs"}, true, "1.10x", "", ""},
		{key{"read-seq", Strata, "at most 0.77 of fuse-overlayfs"}, true, "0.73x", "", ""},
		{key{"mount", Strata, "at most 10.0ms"}, true, "8.00ms", "", ""},
		{key{"mount", StrataImage, "at most 10.0ms"}, false, "12.0ms", "", ""},
		{key{"memory", Strata, "at most 20.0MB"}, true, "8.00MB", "", ""},
		{key{"memory", Strata, "at most 1.00 of fuse-overlayfs"}, false, "2.67x", "", ""},
		{key{"pagecache", Strata, "none"}, true, "1.00MB", "", ""},
		{key{"pagecache", StrataImage, "none"}, false, "90.0MB", "", ""},
		{key{"missing-cold-60", StrataImage, "as at 1 layer"}, true, "1.05x", "", ""},
		{key{"missing-cold-60", Strata, "grows less than overlayfs"}, true, "5.00x", "", ""},
	} {
		g, ok := got[c.key]
		if !ok {
			t.Errorf("%v is not among the targets", c.key)
			continue
		}
		floor := ""
		if g.Floor > 0 {
			floor = g.Show(g.Floor)
		}
		if g.Met != c.met || g.Show(g.Value) != c.value || floor != c.floor || Times(g.Above) != c.over {
			t.Errorf("%v: met %v, %s, floor %s, %s above; want %v, %s, floor %s, %s above",
				c.key, g.Met, g.Show(g.Value), floor, Times(g.Above), c.met, c.value, c.floor, c.over)
		}
	}
	if _, ok := got[key{"missing-cold-60", Strata, "as at 1 layer"}]; ok {
		t.Error("plain directories are not stacked beforehand, and nobody wants that of them")
	}
}

// Every target is about a workload that there is, so that a renamed one is not
// forgotten here.
func TestTargetsAreAboutWorkloads(t *testing.T) {
	names := map[string]bool{}
	for _, w := range Workloads() {
		if names[w.Name] {
			t.Errorf("two workloads are called %s", w.Name)
		}
		names[w.Name] = true
		if (w.Work == nil) == (w.Figure == nil) {
			t.Errorf("%s: wants either Work or Figure", w.Name)
		}
	}
	for _, g := range fsTargets {
		if !names[g.workload] {
			t.Errorf("target %s: there is no workload called %s", g.work, g.workload)
		}
	}
}

func TestPageStandsAlone(t *testing.T) {
	f := reportOf(10e-6, map[string]map[string]float64{
		"create": {Plain: 5e-6, Overlayfs: 10e-6, FuseOverlayfs: 60e-6, Strata: 45e-6},
		"memory": {FuseOverlayfs: 3e6, Strata: 8e6},
	})
	f.Contenders = append(f.Contenders, ContenderReport{Name: "unionfs-fuse", Missing: "<not> installed"})
	var page strings.Builder
	if err := f.WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	html := strings.ReplaceAll(page.String(), `xmlns="http://www.w3.org/2000/svg"`, "")
	for _, not := range []string{"http:", "https:", "<script", "@import", "src=", "<not>"} {
		if strings.Contains(html, not) {
			t.Errorf("the page has %q in it", not)
		}
	}
	for _, want := range []string{"<svg", `class="s-strata"`, "45.0µs", "4.50x", "not met", "8.00MB", "&lt;not&gt; installed", "prefers-color-scheme: dark"} {
		if !strings.Contains(html, want) {
			t.Errorf("the page does not have %q in it", want)
		}
	}
}

// What is read back from JSON says the same.
func TestReportInJSON(t *testing.T) {
	f := reportOf(10e-6, map[string]map[string]float64{"create": {Overlayfs: 10e-6, Strata: 45e-6}})
	data, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), ":null") {
		t.Errorf("a list is null in %s", data)
	}
	var back FSReport
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if m, ok := back.median("create", Strata); !ok || m != 45e-6 || len(back.Targets) != len(f.Targets) {
		t.Errorf("read back: median %v, %d targets, want 45e-6 and %d", m, len(back.Targets), len(f.Targets))
	}
}
