package overlay

import "strata/overlay/tree"

// ChangeKind tells what happened to a path.
type ChangeKind byte

const (
	Added   ChangeKind = 'A'
	Changed ChangeKind = 'C'
	Deleted ChangeKind = 'D'
)

func (k ChangeKind) String() string { return string(rune(k)) }

// Change is one path of the merged tree at which an upper differs from its lower.
type Change struct {
	Kind ChangeKind
	Path string // absolute
	Type uint32 // S_IFMT bits of what is there now; of what was there, if deleted
	Size int64  // bytes of a regular file, as it is now or was, else 0
}

// UpperTree opens an upper as a layer's tree, with its whiteouts and opaque
// directories. The caller closes it. It may be mounted at the same time; what is
// being changed then is seen before or after.
func UpperTree(upper string, format Format) (*tree.HostDir, error) {
	return tree.OpenHostDir(upper, format.HostDirOptions())
}

// Changes lists what an upper, as UpperTree shows it, does to its lower: sorted by
// path, parents first. A directory is changed if its own attributes are, or if
// anything in it is; a deleted directory stands for all that was in it, and so
// does a file that replaces one. A directory that was moved is deleted at its old
// path and added at the new one. The root itself is not listed.
func Changes(lower, upper tree.Tree) ([]Change, error) {
	merged := tree.Stack(lower, upper)
	differences, err := tree.Compare(lower, merged, tree.CompareOptions{
		Same: func(was, is *tree.Attr) bool { // the lower's own, and all below it
			return is.Layer == 0 && was.Ino == is.Ino
		},
		Quick: true,
	})
	if err != nil {
		return nil, err
	}
	var list []Change
	for _, d := range differences {
		switch {
		case d.New == tree.None:
			list = append(list, change(Deleted, &d, &d.Was))
		case d.Old == tree.None:
			list = append(list, change(Added, &d, &d.Is))
		default:
			list = append(list, change(Changed, &d, &d.Is))
		}
	}
	return list, nil
}

func change(kind ChangeKind, d *tree.Difference, a *tree.Attr) Change {
	c := Change{Kind: kind, Path: "/" + d.Path, Type: a.Mode & tree.ModeType}
	if a.IsRegular() {
		c.Size = a.Size
	}
	return c
}
