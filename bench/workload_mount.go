package bench

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// mountWorkloads are figures about mounts as such.
func mountWorkloads() []Workload {
	return []Workload{
		{Name: "mount", About: "until the tree can be used, and its root has been listed", Unit: "s", Data: dataTree, Figure: mountTime},
		{Name: "memory", About: "private memory of the serving process after a walk of the whole tree", Unit: "B", Data: dataTree, Figure: privateMemory},
		{Name: "pagecache", About: "page cache that a second mount takes to read what the first has read", Unit: "B", Data: dataFile, Own: true, Figure: secondCache},
	}
}

func mountTime(ctx context.Context, t *Trial) (float64, error) {
	v, err := t.Mount(ctx, false, false)
	if err != nil {
		return 0, err
	}
	if v.close == nil {
		return 0, &LeftOutError{"is not mounted"}
	}
	took := timed(func() { _, err = os.ReadDir(v.Dir) })
	return (v.Took + took).Seconds(), err
}

func privateMemory(ctx context.Context, t *Trial) (float64, error) {
	v, err := t.Mount(ctx, false, false)
	if err != nil {
		return 0, err
	}
	if len(v.Servers) == 0 {
		return 0, &LeftOutError{"has no process"}
	}
	err = filepath.WalkDir(v.Dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil {
			_, err = e.Info()
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range v.Servers {
		n, err := private(pid)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return float64(sum), nil
}

// private is the memory that a process shares with nobody.
func private(pid int) (int64, error) {
	return sumFields(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")
}

// sumFields adds up lines such as "Cached:  123 kB" of a file of proc(5). Every
// name must be there.
func sumFields(file string, names ...string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var sum int64
	found := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		words := strings.Fields(s.Text())
		for _, name := range names {
			if len(words) >= 2 && words[0] == name {
				n, err := strconv.ParseInt(words[1], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("%s: line %q: %w", file, s.Text(), err)
				}
				sum += n << 10
				found++
			}
		}
	}
	if found != len(names) {
		return 0, fmt.Errorf("%s: does not have %s", file, strings.Join(names, ", "))
	}
	return sum, nil
}

// secondCache mounts the same lowers twice, reads the file through one and then
// through the other. The copy of the plain directory is on the same filesystem,
// for in a tmpfs all is in memory anyway.
func secondCache(ctx context.Context, t *Trial) (float64, error) {
	var roots []string
	for range 2 {
		v, err := t.Mount(ctx, true, true)
		if err != nil {
			return 0, err
		}
		roots = append(roots, v.Dir)
	}
	switch dropped, err := t.DropCaches(); {
	case err != nil:
		return 0, err
	case !dropped:
		return 0, &LeftOutError{"was not measured: it begins with empty caches, which takes root"}
	}
	var grown int64
	for _, root := range roots {
		before, err := sumFields("/proc/meminfo", "Cached:")
		if err != nil {
			return 0, err
		}
		if _, err := readSequential(ctx, &Site{Dir: root, Data: t.Data}); err != nil {
			return 0, err
		}
		after, err := sumFields("/proc/meminfo", "Cached:")
		if err != nil {
			return 0, err
		}
		grown = after - before
	}
	return float64(max(grown, 0)), nil
}
