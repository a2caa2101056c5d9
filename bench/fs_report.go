package bench

import (
	"fmt"
	"slices"
	"strings"
)

// FSReport is what bench fs measured, as it is printed in JSON. Durations are
// seconds, sizes bytes.
type FSReport struct {
	Kind          string            `json:"kind"`    // "bench fs"
	Version       int               `json:"version"` // of this form; a newer one may have more fields
	Environment   Environment       `json:"environment"`
	Lower         Disk              `json:"lower"` // where the trees are
	Upper         Disk              `json:"upper"`
	CachesDropped bool              `json:"cachesDropped"` // before what is cold
	Rounds        int               `json:"rounds"`
	Sizes         Sizes             `json:"sizes"`
	Image         string            `json:"image,omitempty"` // whose tree was shown; else one was made up
	Took          float64           `json:"took"`
	Floor         float64           `json:"floor"`                  // one FUSE request to an empty server; 0 if unknown
	FloorMissing  string            `json:"floorMissing,omitempty"` // why it is not known
	Contenders    []ContenderReport `json:"contenders"`
	Workloads     []WorkloadReport  `json:"workloads"`
	Targets       []TargetReport    `json:"targets"`
}

// ContenderReport is who took part, or would have.
type ContenderReport struct {
	Name    string `json:"name"`
	About   string `json:"about"`
	Version string `json:"version,omitempty"` // missing if it is the kernel's
	Missing string `json:"missing,omitempty"` // why it cannot be had here
}

// WorkloadReport is one row.
type WorkloadReport struct {
	Name     string   `json:"name"`
	Group    string   `json:"group"`
	About    string   `json:"about"`
	Unit     string   `json:"unit"`   // of an operation, whose seconds are measured; of the value itself for a figure
	Figure   bool     `json:"figure"` // the value is no time of an operation
	Cold     bool     `json:"cold"`
	Data     string   `json:"data"`
	Layers   int      `json:"layers"`
	Names    int      `json:"names"`
	Bytes    int64    `json:"bytes"`
	Requests float64  `json:"requests"` // that one operation takes at least over FUSE; 0 if unknown
	Missing  string   `json:"missing,omitempty"`
	Results  []Result `json:"results"`
}

// Result is one cell. Without values one of LeftOut and Failed says why.
type Result struct {
	Contender  string             `json:"contender"`
	Values     []float64          `json:"values"` // one for each round
	Operations int                `json:"operations,omitempty"`
	Summary    *Summary           `json:"summary,omitempty"`
	Ratios     map[string]float64 `json:"ratios,omitempty"` // of medians, by baseline
	LeftOut    string             `json:"leftOut,omitempty"`
	Failed     string             `json:"failed,omitempty"`
}

func (r *Result) out() bool { return r.LeftOut != "" || r.Failed != "" }

// begin notes what is known before anything is measured.
func (r *fsRun) begin() (*FSReport, error) {
	report := &FSReport{Kind: "bench fs", Version: 1, Environment: environment(), Rounds: r.o.Rounds, Sizes: r.o.Sizes}
	if r.o.Image != nil {
		report.Image = r.o.Image.Reference
	}
	var err error
	if report.Lower, err = diskOf(r.dir); err != nil {
		return nil, err
	}
	report.Upper, err = diskOf(r.upper)
	// The run's own directories are gone when this is read.
	report.Lower.Dir, report.Upper.Dir = r.o.Dir, r.o.Upper
	return report, err
}

// Baselines are the contenders that ratios are given to.
func Baselines() []string { return []string{Plain, Overlayfs, FuseOverlayfs} }

// finish computes what follows from the values.
func (f *FSReport) finish() {
	for i := range f.Workloads {
		w := &f.Workloads[i]
		for k := range w.Results {
			if r := &w.Results[k]; len(r.Values) > 0 && !r.out() {
				s := Summarize(r.Values)
				r.Summary = &s
			} else if r.Values == nil {
				r.Values = []float64{}
			}
		}
		for k := range w.Results {
			r := &w.Results[k]
			if r.Summary == nil {
				continue
			}
			r.Ratios = map[string]float64{}
			for _, base := range Baselines() {
				if b := w.Result(base); b != nil && b.Summary != nil && b.Summary.Median > 0 {
					r.Ratios[base] = Ratio(r.Summary.Median, b.Summary.Median)
				}
			}
		}
	}
	f.Targets = f.targets()
}

// Result is that of a contender, nil if it took no part.
func (w *WorkloadReport) Result(contender string) *Result {
	for i := range w.Results {
		if w.Results[i].Contender == contender {
			return &w.Results[i]
		}
	}
	return nil
}

// median is the contender's, if it has one.
func (f *FSReport) median(workload, contender string) (float64, bool) {
	for i := range f.Workloads {
		if f.Workloads[i].Name != workload {
			continue
		}
		if r := f.Workloads[i].Result(contender); r != nil && r.Summary != nil {
			return r.Summary.Median, true
		}
	}
	return 0, false
}

// Quantity shows a value for people, in the unit that it was measured in.
func (w *WorkloadReport) Quantity(v float64) string {
	if w.Unit == "B" {
		return Bytes(v)
	}
	return Seconds(v)
}

// Seconds shows a duration with three digits.
func Seconds(v float64) string {
	switch {
	case v < 1e-6:
		return digits3(v*1e9) + "ns"
	case v < 1e-3:
		return digits3(v*1e6) + "µs"
	case v < 1:
		return digits3(v*1e3) + "ms"
	}
	return digits3(v) + "s"
}

// Bytes shows a size with three digits, in powers of 1000.
func Bytes(v float64) string {
	for _, unit := range []string{"B", "kB", "MB"} {
		if v < 999.5 {
			return digits3(v) + unit
		}
		v /= 1000
	}
	return digits3(v) + "GB"
}

func digits3(v float64) string {
	switch {
	case v >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	case v == 0:
		return "0"
	case v >= 0.095:
		return fmt.Sprintf("%.2f", v)
	case v >= 0.0095:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.1g", v)
}

// Times shows a ratio.
func Times(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return digits3(ratio) + "x"
}

// Facts says where and how it was measured, a line each.
func (f *FSReport) Facts() []string {
	e := f.Environment
	lines := []string{
		fmt.Sprintf("%s, Linux %s, %d cores of %s, %s of memory", e.Date.Format("2006-01-02 15:04 MST"), e.Kernel, e.Cores, e.CPU, Bytes(float64(e.Memory))),
		fmt.Sprintf("lowers on %s (%s), uppers on %s (%s)", f.Lower.Filesystem, f.Lower.Dir, f.Upper.Filesystem, f.Upper.Dir),
	}
	how := fmt.Sprintf("medians of %d rounds; ", f.Rounds)
	if f.Rounds == 1 {
		how = "one round; "
	}
	if f.Image != "" {
		how += "the tree of the image " + f.Image
	} else {
		how += fmt.Sprintf("a tree of %d names, made up", f.Sizes.Names)
	}
	if !f.CachesDropped && slices.ContainsFunc(f.Workloads, func(w WorkloadReport) bool { return w.Cold && w.Missing == "" }) {
		how += "; caches were not dropped, so cold means a fresh mount only"
	}
	lines = append(lines, how)
	if f.Floor > 0 {
		lines = append(lines, "one FUSE request to an empty server: "+Seconds(f.Floor))
	}
	said := map[string]bool{}
	for _, c := range f.Contenders {
		if c.Version != "" && !said[c.Version] { // the contenders called strata are one program
			said[c.Version] = true
			lines = append(lines, c.Name+": "+c.Version)
		}
	}
	return lines
}

// Rough tells whether anything that was measured is.
func (f *FSReport) Rough() bool {
	for _, w := range f.Workloads {
		for _, r := range w.Results {
			if r.Summary != nil && r.Summary.Rough() {
				return true
			}
		}
	}
	return false
}

// Notes says what is not in the table, and why.
func (f *FSReport) Notes() []string {
	var notes []string
	for _, c := range f.Contenders {
		if c.Missing != "" {
			notes = append(notes, fmt.Sprintf("%s is left out: %s", c.Name, c.Missing))
		}
	}
	if f.Floor == 0 && f.FloorMissing != "" {
		notes = append(notes, "what one FUSE request takes is not known: "+f.FloorMissing)
	}
	var reasons []string // in the order in which they came up
	workloads := map[string][]string{}
	for _, w := range f.Workloads {
		if w.Missing != "" {
			notes = append(notes, fmt.Sprintf("%s is left out: %s", w.Name, w.Missing))
		}
		for _, r := range w.Results {
			reason := ""
			switch {
			case r.Failed != "":
				reason = r.Contender + " failed: " + r.Failed
			case r.LeftOut != "":
				reason = r.Contender + " " + r.LeftOut
			default:
				continue
			}
			if workloads[reason] == nil {
				reasons = append(reasons, reason)
			}
			workloads[reason] = append(workloads[reason], w.Name)
		}
	}
	for _, reason := range reasons {
		notes = append(notes, fmt.Sprintf("%s (%s)", reason, strings.Join(workloads[reason], ", ")))
	}
	return notes
}

// Show gives a value of the target for people.
func (t *TargetReport) Show(v float64) string {
	switch t.Unit {
	case "x":
		return Times(v)
	case "B":
		return Bytes(v)
	}
	return Seconds(v)
}
