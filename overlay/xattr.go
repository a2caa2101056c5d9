package overlay

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

func (f *FS) getxattr(id ID, name string) ([]byte, error) {
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

func (f *FS) listxattr(id ID) ([]string, error) {
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

func (f *FS) setxattr(ctx context.Context, id ID, name string, value []byte, flags int) error {
	return f.changeXattr(ctx, id, func(i inode) error {
		return i.setxattr(f.up.format.storedName(name), value, flags)
	})
}

func (f *FS) removexattr(ctx context.Context, id ID, name string) error {
	if err := f.writable(); err != nil {
		return err
	}
	if _, err := f.getxattr(id, name); errors.Is(err, unix.ENODATA) {
		return unix.ENODATA
	}
	return f.changeXattr(ctx, id, func(i inode) error {
		return i.removexattr(f.up.format.storedName(name))
	})
}

func (f *FS) changeXattr(ctx context.Context, id ID, change func(inode) error) error {
	n, err := f.copyUp(ctx, id, metadataOnly)
	if err != nil {
		return err
	}
	defer f.unref(n, 1)
	if n.lacksData() { // bringData puts back the capabilities that it found
		n.copyMu.Lock()
		defer n.copyMu.Unlock()
	}
	f.renameMu.RLock()
	defer f.renameMu.RUnlock()
	at, err := f.at(n)
	if err != nil {
		return err
	}
	defer f.done(at)
	return change(at.inode)
}
