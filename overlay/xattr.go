package overlay

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// Getxattr returns the value of one xattr; ENODATA if there is none.
func (f *FS) Getxattr(id ID, name string) ([]byte, error) {
	n, err := f.lookupNode(id)
	if err != nil {
		return nil, err
	}
	if n == nil || !n.hasUpper() {
		return f.lower.Xattr(tree.ID(id), name)
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	at, err := f.at(n)
	if err != nil {
		return nil, err
	}
	defer f.done(at)
	return at.xattr(f.up.format.storedName(name))
}

// Listxattr returns the names of all xattrs.
func (f *FS) Listxattr(id ID) ([]string, error) {
	n, err := f.lookupNode(id)
	if err != nil {
		return nil, err
	}
	if n == nil || !n.hasUpper() {
		return f.lower.Xattrs(tree.ID(id))
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	at, err := f.at(n)
	if err != nil {
		return nil, err
	}
	defer f.done(at)
	stored, err := at.xattrs()
	if err != nil {
		return nil, err
	}
	names := stored[:0]
	for _, s := range stored {
		if name, ok := f.up.format.mergedName(s); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Setxattr sets an xattr as setxattr(2) does with these flags.
func (f *FS) Setxattr(ctx context.Context, id ID, name string, value []byte, flags int) error {
	return f.changeXattr(ctx, id, func(i inode) error {
		return i.setxattr(f.up.format.storedName(name), value, flags)
	})
}

// Removexattr removes an xattr; ENODATA, and no copy-up, if there is none.
func (f *FS) Removexattr(ctx context.Context, id ID, name string) error {
	if err := f.writable(); err != nil {
		return err
	}
	if _, err := f.Getxattr(id, name); errors.Is(err, unix.ENODATA) {
		return unix.ENODATA
	}
	return f.changeXattr(ctx, id, func(i inode) error {
		return i.removexattr(f.up.format.storedName(name))
	})
}

func (f *FS) changeXattr(ctx context.Context, id ID, change func(inode) error) error {
	n, err := f.copyUp(ctx, id, -1)
	if err != nil {
		return err
	}
	defer f.unref(n, 1)
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	at, err := f.at(n)
	if err != nil {
		return err
	}
	defer f.done(at)
	return change(at.inode)
}
