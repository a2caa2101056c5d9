package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// parallelWorkloads let several processes use one mount at once. An operation is
// one of one process, so that perfect scaling to n processors is an nth.
func parallelWorkloads() []Workload {
	var all []Workload
	for _, n := range []int{2, 4} {
		name := func(what string) (string, string) {
			return fmt.Sprintf("%s-x%d", what, n), fmt.Sprintf("%d processes at once, warm: ", n)
		}
		finds, about := name("find")
		all = append(all, Workload{Name: finds, About: about + "find", Unit: "name", Data: dataTree, Needs: findutils,
			Work: func(ctx context.Context, s *Site) (int, error) {
				return atOnce(n, func(int) (int, error) { return find(ctx, s) })
			}})
		read, about := name("smallread")
		all = append(all, Workload{Name: read, About: about + "cat of small files", Unit: "file", Data: dataTree, Needs: findutils, Prepare: writeSmallNames,
			Work: func(ctx context.Context, s *Site) (int, error) {
				return atOnce(n, func(int) (int, error) {
					return min(askedNames, len(s.Data.Small)), s.xargs(ctx, s.Dir, s.smallNames(), "cat")
				})
			}})
		create, about := name("create")
		all = append(all, Workload{Name: create, About: strings.Replace(about, ", warm", "", 1) + "touch of new files, a directory for each", Unit: "file", Data: dataEmpty, Own: true,
			Needs: findutils, Prepare: writeNewNames,
			Before: func(_ context.Context, s *Site) error {
				for i := range n {
					if err := os.Mkdir(s.Path(fmt.Sprintf("%s-%d", s.fresh("batch"), i)), 0o755); err != nil {
						return err
					}
				}
				return nil
			},
			Work: func(ctx context.Context, s *Site) (int, error) {
				return atOnce(n, func(i int) (int, error) {
					return s.Sizes.Batch, s.xargs(ctx, s.Path(fmt.Sprintf("%s-%d", s.fresh("batch"), i)), s.newNames(), "touch")
				})
			}})
	}
	return all
}

// atOnce does something n times at once and adds up the operations.
func atOnce(n int, do func(i int) (int, error)) (int, error) {
	ops, errs := make([]int, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { ops[i], errs[i] = do(i) })
	}
	wg.Wait()
	sum := 0
	for _, k := range ops {
		sum += k
	}
	return sum, errors.Join(errs...)
}

// xargs runs a program in dir, as often as it takes, with the names in a list.
func (s *Site) xargs(ctx context.Context, dir, list, program string) error {
	cmd := exec.CommandContext(ctx, "xargs", "-0", "-a", list, program, "--")
	cmd.Dir, cmd.Stdout = dir, io.Discard
	_, err := finish(ctx, cmd)
	return err
}

func (s *Site) smallNames() string { return filepath.Join(s.Scratch, "small") }
func (s *Site) newNames() string   { return filepath.Join(s.Scratch, "new") }

func writeSmallNames(_ context.Context, s *Site) error {
	names := shuffled(s.Data.Small, askedNames)
	return os.WriteFile(s.smallNames(), []byte(strings.Join(names, "\x00")), 0o644)
}

func writeNewNames(_ context.Context, s *Site) error {
	var names []string
	for i := range s.Sizes.Batch {
		names = append(names, fmt.Sprint("file-", i))
	}
	return os.WriteFile(s.newNames(), []byte(strings.Join(names, "\x00")), 0o644)
}
