package bench

import "fmt"

// TargetReport is one thing that strata wants to be, and whether it is.
type TargetReport struct {
	Work      string  `json:"work"`     // what people do
	Workload  string  `json:"workload"` // that shows it
	Contender string  `json:"contender"`
	Wanted    string  `json:"wanted"`
	Limit     float64 `json:"limit"` // Value may be at most this
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"` // "x" for a ratio, else as the workload has it
	Met       bool    `json:"met"`
	// Floor is what Value would be if strata did nothing but answer as many
	// requests as any FUSE server must; Above how many times that it takes. Both
	// are 0 where no request must be made, or it is not known.
	Floor float64 `json:"floor,omitempty"`
	Above float64 `json:"above,omitempty"`
}

// target is a line of the table: a ratio to another contender or, without one,
// the value itself.
type target struct {
	work, workload, against string
	limit                   float64
	bytes                   bool // of a value
}

// noise is what a ratio that should be 1 may be off.
const noise = 1.1

// fsTargets are those for ratios to the kernel's overlayfs, to fuse-overlayfs, and
// for values.
var fsTargets = []target{
	{"sequential read", "read-seq", Overlayfs, 1.15, false},
	{"random read", "read-random", Overlayfs, 1.15, false},
	{"read through a mapping", "read-mmap", Overlayfs, 1.15, false},
	{"sequential write", "write-seq-4k", Overlayfs, 1.15, false},
	{"find, warm", "find-warm", Overlayfs, 1.2, false},
	{"find, warm", "find-warm", FuseOverlayfs, 1, false},
	{"stat, warm", "stat-warm", Overlayfs, 1.2, false},
	{"stat, warm", "stat-warm", FuseOverlayfs, 1, false},
	{"missing names, warm", "missing-warm-1", Overlayfs, 1.2, false},
	{"missing names, warm", "missing-warm-1", FuseOverlayfs, 1, false},
	{"readlink, warm", "readlink-warm", Overlayfs, 1.2, false},
	{"readlink, warm", "readlink-warm", FuseOverlayfs, 1, false},
	{"find, cold", "find-cold", Overlayfs, 2.5, false},
	{"find, cold", "find-cold", FuseOverlayfs, 1. / 3, false},
	{"stat, cold", "stat-cold", Overlayfs, 4, false},
	{"stat, cold", "stat-cold", FuseOverlayfs, 1. / 3, false},
	{"missing names, cold", "missing-cold-1", Overlayfs, 4, false},
	{"missing names, cold", "missing-cold-1", FuseOverlayfs, 1. / 3, false},
	{"open, warm", "open-warm", Overlayfs, 4, false},
	{"open, warm", "open-warm", FuseOverlayfs, 1, false},
	{"small reads, warm", "smallread-warm", Overlayfs, 4, false},
	{"small reads, warm", "smallread-warm", FuseOverlayfs, 1, false},
	{"tar", "tar-warm", Overlayfs, 4, false},
	{"tar", "tar-warm", FuseOverlayfs, 1, false},
	{"create", "create", Overlayfs, 4, false},
	{"create", "create", FuseOverlayfs, 1 / 1.5, false},
	{"untar", "untar", Overlayfs, 4, false},
	{"untar", "untar", FuseOverlayfs, 1 / 1.5, false},
	{"unlink", "unlink", Overlayfs, 4, false},
	{"unlink", "unlink", FuseOverlayfs, 1. / 5, false},
	{"rm -rf of a lower tree", "rm-lower", Overlayfs, 4, false},
	{"rm -rf of a lower tree", "rm-lower", FuseOverlayfs, 1. / 5, false},
	{"git status, cold", "git-status-cold", Overlayfs, 2, false},
	{"git status, cold", "git-status-cold", FuseOverlayfs, 1, false},
	{"git status, warm", "git-status-warm", Overlayfs, 2, false},
	{"git status, warm", "git-status-warm", FuseOverlayfs, 1, false},
	{"go build", "go-build", Overlayfs, 2, false},
	{"go build", "go-build", FuseOverlayfs, 1, false},
	{"mount", "mount", "", 0.010, false},
	{"private memory after a walk", "memory", "", 20e6, true},
	{"private memory after a walk", "memory", FuseOverlayfs, 1, false},
}

// whereSlower are workloads in which strata shall take at most half of what
// fuse-overlayfs takes, or if that is nearly as fast as the kernel's overlayfs,
// as little as that.
var whereSlower = []struct{ work, workload string }{
	{"sequential read", "read-seq"},
	{"random read", "read-random"},
	{"read through a mapping", "read-mmap"},
	{"sequential write", "write-seq-4k"},
}

// targets holds the values against what is wanted. What was not measured is not
// in it.
func (f *FSReport) targets() []TargetReport {
	list := []TargetReport{}
	for _, contender := range []string{Strata, StrataImage} {
		for _, t := range fsTargets {
			list = f.ratio(list, contender, t)
		}
		for _, t := range whereSlower {
			fuse, ok1 := f.median(t.workload, FuseOverlayfs)
			kernel, ok2 := f.median(t.workload, Overlayfs)
			if ok1 && ok2 && fuse > 0 {
				list = f.ratio(list, contender, target{t.work, t.workload, FuseOverlayfs, max(0.5, 1.15*kernel/fuse), false})
			}
		}
		list = f.layers(list, contender)
		if value, ok := f.median("pagecache", contender); ok {
			limit := 0.05 * float64(f.bytes("pagecache"))
			list = append(list, TargetReport{
				Work: "page cache for a second mount", Workload: "pagecache", Contender: contender, Wanted: "none",
				Limit: limit, Value: value, Unit: "B", Met: value <= limit,
			})
		}
	}
	return list
}

// ratio adds one target, if both sides were measured.
func (f *FSReport) ratio(list []TargetReport, contender string, t target) []TargetReport {
	value, ok := f.median(t.workload, contender)
	if !ok {
		return list
	}
	r := TargetReport{Work: t.work, Workload: t.workload, Contender: contender, Limit: t.limit, Value: value, Unit: "s"}
	floor := f.Floor * f.requests(t.workload)
	if floor > 0 {
		r.Floor, r.Above = floor, Ratio(value, floor)
	}
	switch {
	case t.against != "":
		base, ok := f.median(t.workload, t.against)
		if !ok || base <= 0 {
			return list
		}
		r.Value, r.Floor, r.Unit = value/base, r.Floor/base, "x"
		r.Wanted = fmt.Sprintf("at most %s of %s", digits3(t.limit), t.against)
	case t.bytes:
		r.Unit, r.Wanted = "B", "at most "+Bytes(t.limit)
	default:
		r.Wanted = "at most " + Seconds(t.limit)
	}
	r.Met = r.Value <= r.Limit
	return append(list, r)
}

// layers adds that the number of layers makes no difference, and less than it
// makes to overlayfs.
func (f *FSReport) layers(list []TargetReport, contender string) []TargetReport {
	const one, sixty = "missing-cold-1", "missing-cold-60"
	grows := func(contender string) (float64, bool) {
		a, ok1 := f.median(one, contender)
		b, ok2 := f.median(sixty, contender)
		return Ratio(b, a), ok1 && ok2 && a > 0
	}
	own, ok := grows(contender)
	if !ok {
		return list
	}
	r := TargetReport{Work: "missing names at 60 layers", Workload: sixty, Contender: contender, Value: own, Unit: "x"}
	if contender == StrataImage { // only the layers of images are stacked beforehand
		r.Limit, r.Wanted, r.Met = noise, "as at 1 layer", own <= noise
		list = append(list, r)
	}
	if kernel, ok := grows(Overlayfs); ok {
		r.Limit, r.Wanted, r.Met = kernel, "grows less than overlayfs", own < kernel
		list = append(list, r)
	}
	return list
}

func (f *FSReport) requests(workload string) float64 {
	for _, w := range f.Workloads {
		if w.Name == workload {
			return w.Requests
		}
	}
	return 0
}

func (f *FSReport) bytes(workload string) int64 {
	for _, w := range f.Workloads {
		if w.Name == workload {
			return w.Bytes
		}
	}
	return 0
}
