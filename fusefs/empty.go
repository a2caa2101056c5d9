package fusefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// empty is a directory in which there is nothing, and of which the kernel keeps
// nothing in mind: each name that is looked up is one request, and no more work
// than a request is.
type empty struct{ fuse.RawFileSystem }

var _ filesystem = empty{}

// MountEmpty serves such a directory. What a name costs there is the least that an
// answer costs on this machine.
func MountEmpty(dir string) (*Server, error) {
	var o Options
	o.fill()
	return serve(dir, true, o, empty{fuse.NewDefaultRawFileSystem()})
}

func (empty) attach(*device, uint64) {}

func (empty) detach() {}

func (empty) Lookup(<-chan struct{}, *fuse.InHeader, string, *fuse.EntryOut) fuse.Status {
	return fuse.ENOENT
}

func (empty) GetAttr(_ <-chan struct{}, _ *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.Mode = syscall.S_IFDIR | 0o755
	out.Nlink = 2
	return fuse.OK
}
