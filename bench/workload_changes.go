package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// changeWorkloads make, change and remove what the upper must take.
func changeWorkloads() []Workload {
	tarball := map[string]string{"tar": "tar"}
	return []Workload{
		{Name: "create", About: "make empty files", Unit: "file", Data: dataEmpty, Own: true, Requests: 2, Before: makeBatchDir, Work: createFiles},
		{Name: "unlink", About: "remove files of the upper", Unit: "file", Data: dataEmpty, Own: true, Requests: 1, Before: makeBatch, Work: unlinkFiles},
		{Name: "untar", About: "unpack an archive of small files", Unit: "file", Data: dataMany, Own: true, Needs: tarball, Requests: 3, Prepare: makeArchive, Work: untar},
		{Name: "rm-lower", About: "rm -rf of a tree of the lower", Unit: "file", Data: dataMany, Own: true, Once: true, Requests: 1, Work: removeTree},
		{Name: "copyup-small", About: "append one byte to small files of the lower, their names known", Unit: "file", Data: dataMany, Own: true, Once: true, Requests: 1, Prepare: lookAround, Work: appendSmall},
		{Name: "chmod-big", About: "chmod of the big file of the lower", Unit: "file", Data: dataBig, Own: true, Once: true, Requests: 2, Work: chmodBig},
		{Name: "append-big", About: "append one byte to the big file of the lower", Unit: "file", Data: dataBig, Own: true, Once: true, Requests: 2, Work: appendBig},
		{Name: "rename-dir", About: "mv of a directory tree of the lower", Unit: "directory", Data: dataMany, Own: true, Once: true, Needs: map[string]string{"mv": "coreutils"}, Requests: 1, Work: moveTree},
	}
}

// batchFile is the i-th file of this pass.
func (s *Site) batchFile(i int) string { return fmt.Sprintf("%s/file-%d", s.fresh("batch"), i) }

func makeBatchDir(_ context.Context, s *Site) error {
	return os.Mkdir(s.Path(s.fresh("batch")), 0o755)
}

func createFiles(ctx context.Context, s *Site) (int, error) {
	for i := range s.Sizes.Batch {
		fd, err := unix.Openat(s.fd, s.batchFile(i), unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return 0, &os.PathError{Op: "create", Path: s.Path(s.batchFile(i)), Err: err}
		}
		if err := unix.Close(fd); err != nil {
			return 0, &os.PathError{Op: "close", Path: s.Path(s.batchFile(i)), Err: err}
		}
	}
	return s.Sizes.Batch, ctx.Err()
}

func makeBatch(ctx context.Context, s *Site) error {
	if err := makeBatchDir(ctx, s); err != nil {
		return err
	}
	_, err := createFiles(ctx, s)
	return err
}

func unlinkFiles(ctx context.Context, s *Site) (int, error) {
	for i := range s.Sizes.Batch {
		if err := unix.Unlinkat(s.fd, s.batchFile(i), 0); err != nil {
			return 0, &os.PathError{Op: "unlink", Path: s.Path(s.batchFile(i)), Err: err}
		}
	}
	return s.Sizes.Batch, ctx.Err()
}

func (s *Site) archive() string { return filepath.Join(s.Scratch, "archive.tar") }

// archived is how many files makeArchive takes.
const archived = 2000

func makeArchive(ctx context.Context, s *Site) error {
	list := filepath.Join(s.Scratch, "names")
	names := s.Data.Files[:min(archived, len(s.Data.Files))]
	if err := os.WriteFile(list, []byte(strings.Join(names, "\n")+"\n"), 0o644); err != nil {
		return err
	}
	_, err := output(ctx, "tar", "-C", s.Data.Merged, "-cf", s.archive(), "-T", list)
	return err
}

func untar(ctx context.Context, s *Site) (int, error) {
	to := s.Path(s.fresh("unpacked"))
	if err := os.Mkdir(to, 0o755); err != nil {
		return 0, err
	}
	_, err := output(ctx, "tar", "-C", to, "-xf", s.archive())
	return min(archived, len(s.Data.Files)), err
}

func removeTree(ctx context.Context, s *Site) (int, error) {
	if _, err := output(ctx, "rm", "-rf", s.Path("tree")); err != nil {
		return 0, err
	}
	if _, err := os.Lstat(s.Path("tree")); !errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("rm -rf has left %s: %v", s.Path("tree"), err)
	}
	return len(s.Data.Files), nil
}

// lookAround makes every name known to the kernel.
func lookAround(ctx context.Context, s *Site) error {
	_, err := output(ctx, "find", s.Dir, "-size", "+1000000000")
	return err
}

func appendSmall(ctx context.Context, s *Site) (int, error) {
	const most = 2000
	names := shuffled(s.Data.Files, most)
	for _, name := range names {
		if err := s.append(name); err != nil {
			return 0, err
		}
	}
	return len(names), ctx.Err()
}

// append writes one byte at the end of a file.
func (s *Site) append(name string) error {
	fd, err := unix.Openat(s.fd, name, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte{'+'})
		err = errors.Join(err, unix.Close(fd))
	}
	if err != nil {
		return &os.PathError{Op: "append", Path: s.Path(name), Err: err}
	}
	return nil
}

func chmodBig(_ context.Context, s *Site) (int, error) { return 1, os.Chmod(s.Path("big"), 0o600) }

func appendBig(_ context.Context, s *Site) (int, error) { return 1, s.append("big") }

// moveTree uses mv, which copies where rename is refused, as people would see it.
func moveTree(ctx context.Context, s *Site) (int, error) {
	_, err := output(ctx, "mv", s.Path("tree"), s.Path("moved"))
	return 1, err
}
