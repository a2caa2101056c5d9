package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

var findutils = map[string]string{"find": "findutils"}

// nameWorkloads look at names and attributes.
func nameWorkloads() []Workload {
	coldAndWarm := func(w Workload) []Workload {
		cold, warm := w, w
		cold.Name, cold.About, cold.Cold = w.Name+"-cold", w.About+", cold", true
		warm.Name, warm.About, warm.Requests = w.Name+"-warm", w.About+", warm", 0
		return []Workload{cold, warm}
	}
	var all []Workload
	all = append(all, coldAndWarm(Workload{Name: "find", About: "find of the whole tree", Unit: "name", Data: dataTree, Needs: findutils, Work: find})...)
	all = append(all, coldAndWarm(Workload{Name: "ls", About: "ls -lR of the whole tree", Unit: "name", Data: dataTree, Needs: map[string]string{"ls": "coreutils"}, Work: listLong})...)
	all = append(all, coldAndWarm(Workload{Name: "stat", About: "stat of known names, in any order", Unit: "name", Data: dataTree, Requests: 1, Work: statNames})...)
	for _, l := range []struct{ suffix, data, about string }{
		{"1", dataLayers1, "1 layer"},
		{"20", dataLayers20, "20 layers"},
		{"60", dataLayers60, "60 layers"},
	} {
		all = append(all, Workload{Name: "missing-cold-" + l.suffix, About: "names that are not there, never asked before, over " + l.about,
			Unit: "name", Data: l.data, Cold: true, Requests: 1, Work: missingNames})
	}
	all = append(all,
		Workload{Name: "missing-warm-1", About: "names that are not there, asked again, over 1 layer", Unit: "name", Data: dataLayers1, Work: missingNames},
		Workload{Name: "missing-warm-60", About: "names that are not there, asked again, over 60 layers", Unit: "name", Data: dataLayers60, Work: missingNames},
		Workload{Name: "readlink-cold", About: "readlink, cold", Unit: "link", Data: dataTree, Cold: true, Requests: 2, Work: readLinks},
		Workload{Name: "readlink-warm", About: "readlink, warm", Unit: "link", Data: dataTree, Work: readLinks},
	)
	return all
}

// lines counts what a program prints, line by line, and forgets it.
type lines int

func (n *lines) Write(p []byte) (int, error) {
	*n += lines(bytes.Count(p, []byte{'\n'}))
	return len(p), nil
}

func find(ctx context.Context, s *Site) (int, error) {
	var n lines
	cmd := exec.CommandContext(ctx, "find", s.Dir)
	cmd.Stdout = &n
	if _, err := finish(ctx, cmd); err != nil {
		return 0, err
	}
	if want := len(s.Data.All) + 1; int(n) != want {
		return 0, fmt.Errorf("find sees %d names, there are %d", n, want)
	}
	return int(n), nil
}

func listLong(ctx context.Context, s *Site) (int, error) {
	var n lines
	cmd := exec.CommandContext(ctx, "ls", "-lR", "--time-style=+%s", s.Dir)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdout = &n
	if _, err := finish(ctx, cmd); err != nil {
		return 0, err
	}
	if int(n) < len(s.Data.All) { // there are lines besides
		return 0, fmt.Errorf("ls prints %d lines, there are %d names", n, len(s.Data.All))
	}
	return len(s.Data.All), nil
}

// shuffled takes some of the names, always the same, in an order that is no
// directory's.
func shuffled(names []string, most int) []string {
	rng := rand.New(rand.NewPCG(3, 4))
	picked := make([]string, 0, min(most, len(names)))
	for _, i := range rng.Perm(len(names))[:cap(picked)] {
		picked = append(picked, names[i])
	}
	return picked
}

const askedNames = 5000

func statNames(ctx context.Context, s *Site) (int, error) {
	names := shuffled(s.Data.All, askedNames)
	var st unix.Stat_t
	for _, name := range names {
		if err := unix.Fstatat(s.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return 0, &os.PathError{Op: "stat", Path: s.Path(name), Err: err}
		}
	}
	return len(names), ctx.Err()
}

func missingNames(ctx context.Context, s *Site) (int, error) {
	const each = 50
	var st unix.Stat_t
	n := 0
	for i := range each {
		for _, dir := range s.Data.Dirs {
			name := fmt.Sprintf("%s/none-%d", dir, i)
			if err := unix.Fstatat(s.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); !errors.Is(err, unix.ENOENT) {
				return 0, fmt.Errorf("stat %s: %v, and nothing should be there", s.Path(name), err)
			}
			n++
		}
	}
	return n, ctx.Err()
}

func readLinks(ctx context.Context, s *Site) (int, error) {
	names := shuffled(s.Data.Links, askedNames)
	buf := make([]byte, unix.PathMax)
	for _, name := range names {
		if _, err := unix.Readlinkat(s.fd, name, buf); err != nil {
			return 0, &os.PathError{Op: "readlink", Path: s.Path(name), Err: err}
		}
	}
	return len(names), ctx.Err()
}
