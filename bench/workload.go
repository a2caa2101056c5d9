package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"regexp"
)

// Workload is one thing that people do with a tree, and how to do it here. It
// has either Work, of which the time is taken, or Figure, which takes one
// measurement by itself.
type Workload struct {
	Name  string // also what --only is matched against
	Group string // what it is shown with
	About string
	Unit  string // what one operation is; for a Figure what is measured: "s" or "B"
	Data  string

	// Cold is measured right after mounting, with the kernel's caches dropped
	// where that is permitted. What is not cold and changes nothing is done once
	// before it is measured.
	Cold bool

	// Own gives the work a tree of its own, which it may change.
	Own bool

	// Once says that in one mount it can be done only once.
	Once bool

	// Needs names programs, by the Debian packages that have them.
	Needs map[string]string

	// Requests is how many FUSE requests one operation takes at least, whoever
	// the server is: those that somebody waits for and that no cache of the kernel
	// answers. A new file is a LOOKUP and a CREATE, a RELEASE is not waited for.
	Requests float64

	Prepare func(context.Context, *Site) error        // once for each mount, not measured
	Before  func(context.Context, *Site) error        // before each pass, not measured
	Work    func(context.Context, *Site) (int, error) // one pass; returns how many operations that was
	Figure  func(context.Context, *Trial) (float64, error)
}

// Site is where a workload works.
type Site struct {
	Dir     string // the tree
	Data    *Data
	Sizes   Sizes
	Scratch string // a directory beside it, to leave things in
	Pass    int    // counts from 0
	fd      int    // of Dir
}

// Path is that of a name in the tree.
func (s *Site) Path(name string) string { return filepath.Join(s.Dir, name) }

// fresh is a name that no earlier pass has used.
func (s *Site) fresh(kind string) string { return fmt.Sprintf("%s-%d", kind, s.Pass) }

// Trial lets a figure mount for itself.
type Trial struct {
	Data  *Data
	Sizes Sizes
	// Mount shows the data, with an upper on the filesystem of the lowers if
	// beside, else where uppers are in this run. Every view is closed with the trial.
	Mount func(ctx context.Context, own, beside bool) (*View, error)
	// DropCaches is false where the caches cannot be dropped.
	DropCaches func() (bool, error)
}

// Workloads returns all of them, in the order in which they are shown.
func Workloads() []Workload {
	var all []Workload
	for _, group := range []struct {
		name string
		list []Workload
	}{
		{"names", nameWorkloads()},
		{"data", dataWorkloads()},
		{"changes", changeWorkloads()},
		{"programs", programWorkloads()},
		{"at once", parallelWorkloads()},
		{"mounting", mountWorkloads()},
	} {
		for _, w := range group.list {
			w.Group = group.name
			all = append(all, w)
		}
	}
	return all
}

// only returns the workloads whose names match.
func only(all []Workload, pattern string) ([]Workload, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	var chosen []Workload
	for _, w := range all {
		if re.MatchString(w.Name) {
			chosen = append(chosen, w)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no workload matches %q", pattern)
	}
	return chosen, nil
}
