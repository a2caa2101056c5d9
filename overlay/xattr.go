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
	if none, err := f.showsNoXattrs(n, at.inode); err != nil {
		return nil, err
	} else if none {
		return nil, unix.ENODATA
	}
	return at.xattr(f.up.format.storedName(name))
}

// showsNoXattrs tells whether an upper inode has none, which is remembered: most
// have none, and are asked for ACLs and capabilities all the time.
func (f *FS) showsNoXattrs(n *node, i inode) (bool, error) {
	n.mu.Lock()
	none, changes := n.noXattrs, n.xattrChanges
	n.mu.Unlock()
	if none {
		return true, nil
	}
	names, err := f.upperXattrs(i)
	if err != nil || len(names) > 0 {
		return false, err
	}
	n.mu.Lock()
	n.noXattrs = n.xattrChanges == changes
	n.mu.Unlock()
	return true, nil
}

// upperXattrs lists what an upper inode shows.
func (f *FS) upperXattrs(i inode) ([]string, error) {
	stored, err := i.xattrs()
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
	return f.upperXattrs(at.inode)
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
	err = change(at.inode)
	n.xattrsChanged()
	return err
}

// xattrsChanged is called when what an upper inode shows may have changed.
func (n *node) xattrsChanged() {
	n.mu.Lock()
	n.noXattrs = false
	n.xattrChanges++
	n.mu.Unlock()
}
