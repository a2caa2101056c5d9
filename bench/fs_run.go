package bench

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// FSOptions say what is measured, and where.
type FSOptions struct {
	Rounds     int    // how often each measurement is taken; 5 if zero
	Sizes      Sizes  // FullSizes if zero
	Dir        string // where the trees are made; os.TempDir() if empty
	Upper      string // where uppers are made; DefaultUpper if empty
	Image      *StoredImage
	Only       string   // a regular expression for the names of workloads
	Contenders []string // names; see Select
	Strata     Command

	// Least is how long a measurement takes at least, where the work can be
	// repeated; 50 ms if zero.
	Least time.Duration

	// KeepCaches leaves the kernel's caches as they are, which otherwise are
	// dropped, for the whole machine, before what is called cold.
	KeepCaches bool

	// Progress may be nil.
	Progress func(Step)
}

// Step is the measurement that is about to be taken.
type Step struct {
	Done, Total         int // measurements
	Round               int // from 1
	Workload, Contender string
}

func (o *FSOptions) fill() {
	if o.Rounds <= 0 {
		o.Rounds = 5
	}
	if o.Sizes == (Sizes{}) {
		o.Sizes = FullSizes()
	}
	if o.Least == 0 {
		o.Least = 50 * time.Millisecond
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	if o.Upper == "" {
		o.Upper = DefaultUpper(o.Sizes)
	}
	if o.Progress == nil {
		o.Progress = func(Step) {}
	}
}

// DefaultUpper is a directory in memory if there is room for all that a workload
// writes at once, else the directory for temporary files: a disk's noise hides
// what the contenders add.
func DefaultUpper(s Sizes) string {
	const memory = "/dev/shm"
	need := s.BigBytes + s.FileBytes + 512<<20
	disk, err := diskOf(memory)
	if err != nil || disk.Filesystem != "tmpfs" || disk.Free < need {
		return os.TempDir()
	}
	if available, err := sumFields("/proc/meminfo", "MemAvailable:"); err != nil || available < 2*need {
		return os.TempDir()
	}
	return memory
}

// fsRun is one run of the benchmark.
type fsRun struct {
	o          FSOptions
	dir, upper string // of this run alone; removed at its end
	data       *dataSets
	contenders []Contender
	workloads  []Workload
	report     *FSReport
	scratches  int // how many scratch directories there were
}

// RunFS measures all workloads through all contenders that can be had. Whatever
// happens, it takes its mounts, processes and files away again.
func RunFS(ctx context.Context, o FSOptions) (report *FSReport, err error) {
	o.fill()
	start := time.Now()
	r := &fsRun{o: o}
	if r.workloads, err = only(Workloads(), o.Only); err != nil {
		return nil, err
	}
	if r.dir, err = tempDir(o.Dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, takeAway(r.dir)) }()
	if r.upper, err = tempDir(o.Upper); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, takeAway(r.upper)) }()
	all := Contenders(ContenderOptions{Strata: o.Strata, Dir: r.dir})
	if r.contenders, err = Select(all, o.Contenders); err != nil {
		return nil, err
	}
	if r.report, err = r.begin(); err != nil {
		return nil, err
	}
	trees := filepath.Join(r.dir, "trees")
	if err := os.Mkdir(trees, 0o755); err != nil {
		return nil, err
	}
	r.data = &dataSets{dir: trees, sizes: o.Sizes, image: o.Image, made: map[string]*Data{}}
	if err := r.probe(ctx); err != nil {
		return nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.rounds(ctx); err != nil {
		return nil, err
	}
	r.report.finish()
	r.report.Took = time.Since(start).Seconds()
	return r.report, nil
}

// probe leaves contenders out that cannot be had here, and says why.
func (r *fsRun) probe(ctx context.Context) error {
	data, err := r.data.get(ctx, dataEmpty)
	if err != nil {
		return err
	}
	var there []Contender
	for _, c := range r.contenders {
		err := c.Missing()
		if err == nil {
			err = r.with(ctx, c, data, true, func(v *View) error {
				_, err := os.Lstat(filepath.Join(v.Dir, data.Files[0]))
				return err
			})
			if out := (*LeftOutError)(nil); errors.As(err, &out) {
				err = nil // of one that takes part elsewhere
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		reported := ContenderReport{Name: c.Name(), About: c.About()}
		if err != nil {
			reported.Missing = err.Error()
		} else {
			reported.Version = c.Version()
			there = append(there, c)
		}
		r.report.Contenders = append(r.report.Contenders, reported)
	}
	r.contenders = there
	if len(there) == 0 {
		return errors.New("none of the contenders can be had here")
	}
	return nil
}

// prepare makes the trees that are needed, and leaves workloads out that cannot
// be done here.
func (r *fsRun) prepare(ctx context.Context) error {
	for i := range r.workloads {
		w := &r.workloads[i]
		reported := WorkloadReport{
			Name: w.Name, Group: w.Group, About: w.About, Unit: w.Unit, Figure: w.Figure != nil,
			Cold: w.Cold, Data: w.Data, Requests: w.Requests, Results: []Result{},
		}
		err := w.missing()
		if err == nil {
			r.o.Progress(Step{Workload: w.Name, Contender: "preparations"})
			var data *Data
			if data, err = r.data.get(ctx, w.Data); err == nil {
				reported.Layers, reported.Names, reported.Bytes = len(data.Lower), len(data.All), data.Bytes
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			reported.Missing = err.Error()
		} else {
			for _, c := range r.contenders {
				reported.Results = append(reported.Results, Result{Contender: c.Name()})
			}
		}
		r.report.Workloads = append(r.report.Workloads, reported)
	}
	return nil
}

func (w *Workload) missing() error {
	for _, name := range slices.Sorted(maps.Keys(w.Needs)) {
		if err := installed(name, w.Needs[name]); err != nil {
			return err
		}
	}
	return nil
}

// rounds takes every measurement as often as asked for. The contenders of one
// workload follow each other, so that a busy machine slows them alike, in an
// order that changes.
func (r *fsRun) rounds(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(11, 12))
	step := Step{Total: r.o.Rounds * len(r.workloads) * len(r.contenders)}
	var floors []float64
	for step.Round = 1; step.Round <= r.o.Rounds; step.Round++ {
		floor, err := r.floor(ctx)
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), r.leftMounts())
		case err != nil:
			r.report.FloorMissing = err.Error()
		default:
			floors = append(floors, floor)
			r.report.Floor = Summarize(floors).Median
		}
		for i := range r.workloads {
			w, reported := &r.workloads[i], &r.report.Workloads[i]
			for _, k := range rng.Perm(len(r.contenders)) {
				step.Workload, step.Contender = w.Name, r.contenders[k].Name()
				r.o.Progress(step)
				step.Done++
				if reported.Missing != "" || reported.Results[k].out() {
					continue
				}
				if err := r.measure(ctx, w, r.contenders[k], &reported.Results[k]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
