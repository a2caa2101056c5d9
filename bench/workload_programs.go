package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// programWorkloads run what developers run all day.
func programWorkloads() []Workload {
	git := map[string]string{"git": "git"}
	return []Workload{
		{Name: "git-status-cold", About: "git status, cold", Unit: "run", Data: dataRepo, Cold: true, Needs: git, Work: gitStatus},
		{Name: "git-status-warm", About: "git status, again", Unit: "run", Data: dataRepo, Needs: git, Work: gitStatus},
		{Name: "git-clone", About: "git clone of a repository in the tree to another place in it", Unit: "run", Data: dataRepo, Own: true, Needs: git, Work: gitClone},
		{Name: "go-build", About: "go build of a module whose packages have all changed, cache in the tree", Unit: "run", Data: dataModule, Own: true,
			Needs: map[string]string{"go": "golang-go"}, Before: editModule, Work: buildModule},
	}
}

func (s *Site) git(ctx context.Context, args ...string) (string, error) {
	return finish(ctx, gitCommand(exec.CommandContext(ctx, "git", append([]string{"-C", s.Dir}, args...)...)))
}

func gitStatus(ctx context.Context, s *Site) (int, error) {
	out, err := s.git(ctx, "status", "--porcelain")
	if err == nil && out != "" {
		err = fmt.Errorf("git status: %s is changed, and nothing was", strings.TrimSpace(out))
	}
	return 1, err
}

func gitClone(ctx context.Context, s *Site) (int, error) {
	_, err := s.git(ctx, "clone", "-q", "--no-hardlinks", s.Dir, s.Path(s.fresh("clone")))
	return 1, err
}

// editModule changes one file of each package.
func editModule(_ context.Context, s *Site) error {
	for p := range s.Sizes.Packages {
		f, err := os.OpenFile(s.Path(fmt.Sprintf("src/p%d/f0.go", p)), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(f, "\nconst Pass%d = %d\n", s.Pass, s.Pass); err != nil {
			f.Close()
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func buildModule(ctx context.Context, s *Site) (int, error) {
	_, err := finish(ctx, goBuild(exec.CommandContext(ctx, "go"), s.Dir, s.Scratch))
	return 1, err
}
