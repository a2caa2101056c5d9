package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// tempDir makes a directory of this run's own, called as mounts in it are listed.
func tempDir(in string) (string, error) {
	in, err := filepath.EvalSymlinks(in)
	if err == nil {
		in, err = filepath.Abs(in)
	}
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(in, "strata-bench-*")
}

// takeAway ends a run's directory, with mounts that something has left in it.
func takeAway(dir string) error {
	list, err := mountsBelow(dir)
	for _, at := range list {
		err = errors.Join(err, fmt.Errorf("%s was still mounted, and was detached", at), detach(at))
	}
	return errors.Join(err, removeUnmounted(dir))
}

// removeUnmounted removes a directory in which nothing is mounted any more. What a
// mount shows must not be removed through it.
func removeUnmounted(dir string) error {
	list, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("%s stays, because %s is still mounted", dir, list[0])
	}
	return os.RemoveAll(dir)
}

// leftMounts is an error if something of this run is still mounted.
func (r *fsRun) leftMounts() error {
	for _, dir := range []string{r.dir, r.upper} {
		list, err := mountsBelow(dir)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			return fmt.Errorf("%s is still mounted", list[0])
		}
	}
	return nil
}
