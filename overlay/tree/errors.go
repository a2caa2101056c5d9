package tree

import (
	"errors"
	"fmt"
	"syscall"
)

// ErrNewer is wrapped by the errors for a tree file, or a part of one, that a
// later version of this package wrote. The file is not damaged: a newer strata
// reads it.
var ErrNewer = errors.New("written by a newer strata")

// CorruptError tells that a tree file is damaged: its bytes do not fit their
// checksum, contradict each other, or are gone. It wraps EIO, which is what
// programs below a mount get to see.
type CorruptError struct {
	Path    string // the tree file
	Section string // "header", "inodes", "entries", "text", "links", "xattrs" or "objects"
	Problem string // what was found, and what should have been there
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("tree file %s is damaged: %s: %s", e.Path, e.Section, e.Problem)
}

func (e *CorruptError) Unwrap() error { return syscall.EIO }
