package overlay

import (
	"context"

	"strata/overlay/tree"
)

// What an FS can be asked stands in this file, one method a question; what it
// does about it is in the file of that name. Each can be watched, see Event.

// Lookup returns the inode called name in directory parent; ENOENT if there is
// none.
func (f *FS) Lookup(parent ID, name string) (Node, error) {
	w := f.watch()
	n, err := f.lookup(parent, name)
	if w.on() {
		w.tell(Event{Op: OpLookup, Path: f.pathIn(parent, name), Layer: f.layerOf(n.ID, &n.Attr)}, err)
	}
	return n, err
}

// Getattr returns the attributes of id.
func (f *FS) Getattr(id ID) (tree.Attr, error) {
	w := f.watch()
	a, err := f.getattr(id)
	if w.on() {
		w.tell(Event{Op: OpGetattr, Path: f.pathOf(id), Layer: f.layerOf(id, &a)}, err)
	}
	return a, err
}

// Setattr changes attributes, copying the inode up first, and returns all of
// them as they are then. A new Size copies up only what remains.
func (f *FS) Setattr(ctx context.Context, id ID, s SetAttr) (tree.Attr, error) {
	w := f.watch()
	a, err := f.setattrOf(ctx, id, s)
	if w.on() {
		w.tell(Event{Op: OpSetattr, Path: f.pathOf(id), To: s.String(), Layer: f.layerOf(id, &a)}, err)
	}
	return a, err
}

// Readlink returns the target of symlink id.
func (f *FS) Readlink(id ID) (string, error) {
	w := f.watch()
	target, err := f.readlink(id)
	if w.on() {
		w.tell(Event{Op: OpReadlink, Path: f.pathOf(id), To: target, Layer: f.layerOfID(id)}, err)
	}
	return target, err
}

// Mkdir makes a directory.
func (f *FS) Mkdir(c Caller, parent ID, name string, mode uint32) (Node, error) {
	w := f.watch()
	n, err := f.mkdir(c, parent, name, mode)
	if w.on() {
		w.tell(Event{Op: OpMkdir, Path: f.pathIn(parent, name), Layer: LayerUpper}, err)
	}
	return n, err
}

// Mknod makes what the type bits of mode say: a regular file, FIFO, socket or
// device. The device 0:0 is EPERM, for it means a whiteout.
func (f *FS) Mknod(c Caller, parent ID, name string, mode uint32, rdev uint64) (Node, error) {
	w := f.watch()
	n, err := f.mknod(c, parent, name, mode, rdev)
	if w.on() {
		w.tell(Event{Op: OpMknod, Path: f.pathIn(parent, name), Layer: LayerUpper}, err)
	}
	return n, err
}

// Symlink makes a symlink.
func (f *FS) Symlink(c Caller, parent ID, name, target string) (Node, error) {
	w := f.watch()
	n, err := f.symlink(c, parent, name, target)
	if w.on() {
		w.tell(Event{Op: OpSymlink, Path: f.pathIn(parent, name), To: target, Layer: LayerUpper}, err)
	}
	return n, err
}

// Create makes a regular file and opens it to read and write; an existing name is
// EEXIST.
func (f *FS) Create(c Caller, parent ID, name string, mode uint32) (Node, *File, error) {
	w := f.watch()
	n, file, err := f.createFile(c, parent, name, mode)
	if w.on() {
		w.tell(Event{Op: OpCreate, Path: f.pathIn(parent, name), Layer: LayerUpper}, err)
	}
	return n, file, err
}

// Tmpfile makes a regular file without a name, as if in directory dir, and opens it for
// reading and writing; Link may give it a name.
func (f *FS) Tmpfile(c Caller, dir ID, mode uint32) (Node, *File, error) {
	w := f.watch()
	n, file, err := f.tmpfile(c, dir, mode)
	if w.on() {
		w.tell(Event{Op: OpTmpfile, Path: f.pathOf(dir), Layer: LayerUpper}, err)
	}
	return n, file, err
}

// Link gives inode id one more name.
func (f *FS) Link(ctx context.Context, id ID, parent ID, name string) (Node, error) {
	w := f.watch()
	n, err := f.linkInode(ctx, id, parent, name)
	if w.on() {
		w.tell(Event{Op: OpLink, Path: f.pathOf(id), To: f.pathIn(parent, name), Layer: LayerUpper}, err)
	}
	return n, err
}

// Unlink removes a name of what is no directory.
func (f *FS) Unlink(parent ID, name string) error {
	w := f.watch()
	err := f.remove(parent, name, false)
	if w.on() {
		w.tell(Event{Op: OpUnlink, Path: f.pathIn(parent, name), Layer: LayerUpper}, err)
	}
	return err
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(parent ID, name string) error {
	w := f.watch()
	err := f.remove(parent, name, true)
	if w.on() {
		w.tell(Event{Op: OpRmdir, Path: f.pathIn(parent, name), Layer: LayerUpper}, err)
	}
	return err
}

// Rename moves a name, as renameat2(2) does with these flags: RENAME_NOREPLACE
// and RENAME_EXCHANGE are known. A directory that the lower has is moved by its
// name alone, with a redirect to what is merged below it; EXDEV if that must not be
// (Options.NoRedirect) or does not fit.
func (f *FS) Rename(ctx context.Context, parent ID, name string, newParent ID, newName string, flags uint32) error {
	w := f.watch()
	from := ""
	if w.on() { // a directory that moves may be on the way to its parent
		from = f.pathIn(parent, name)
	}
	err := f.rename(ctx, parent, name, newParent, newName, flags)
	if w.on() {
		w.tell(Event{Op: OpRename, Path: from, To: f.pathIn(newParent, newName), Layer: LayerUpper}, err)
	}
	return err
}

// Open opens regular file id. A flag that asks for writing, or O_TRUNC, copies it
// up first; with O_TRUNC no data is copied.
func (f *FS) Open(ctx context.Context, id ID, flags int) (*File, error) {
	w := f.watch()
	file, err := f.openFile(ctx, id, flags)
	if w.on() {
		w.tell(Event{Op: OpOpen, Path: f.pathOf(id), To: flagString(flags), Layer: f.layerOfFile(file)}, err)
	}
	return file, err
}

// Getxattr returns the value of one xattr; ENODATA if there is none.
func (f *FS) Getxattr(id ID, name string) ([]byte, error) {
	w := f.watch()
	v, err := f.getxattr(id, name)
	if w.on() {
		w.tell(Event{Op: OpGetxattr, Path: f.pathOf(id), To: name, Layer: f.layerOfID(id)}, err)
	}
	return v, err
}

// Listxattr returns the names of all xattrs.
func (f *FS) Listxattr(id ID) ([]string, error) {
	w := f.watch()
	names, err := f.listxattr(id)
	if w.on() {
		w.tell(Event{Op: OpListxattr, Path: f.pathOf(id), Layer: f.layerOfID(id)}, err)
	}
	return names, err
}

// Setxattr sets an xattr as setxattr(2) does with these flags.
func (f *FS) Setxattr(ctx context.Context, id ID, name string, value []byte, flags int) error {
	w := f.watch()
	err := f.setxattr(ctx, id, name, value, flags)
	if w.on() {
		w.tell(Event{Op: OpSetxattr, Path: f.pathOf(id), To: name, Layer: LayerUpper}, err)
	}
	return err
}

// Removexattr removes an xattr; ENODATA, and no copy-up, if there is none.
func (f *FS) Removexattr(ctx context.Context, id ID, name string) error {
	w := f.watch()
	err := f.removexattr(ctx, id, name)
	if w.on() {
		w.tell(Event{Op: OpRemovexattr, Path: f.pathOf(id), To: name, Layer: LayerUpper}, err)
	}
	return err
}

// Fsyncdir makes the names in directory id durable.
func (f *FS) Fsyncdir(id ID) error {
	w := f.watch()
	err := f.fsyncdir(id)
	if w.on() {
		w.tell(Event{Op: OpFsync, Path: f.pathOf(id), Layer: f.layerOfID(id)}, err)
	}
	return err
}
