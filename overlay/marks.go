package overlay

import (
	"encoding/binary"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// readMarks finds out about an upper inode what its attributes, st, do not say.
// lower is the lower's entry of the same merged name. The caller holds dir.dirMu.
func (f *FS) readMarks(n *node, i inode, dir *node, lower tree.Entry, st *unix.Stat_t) error {
	switch {
	case n.isDir():
		return f.readDirMarks(n, i, dir, lower)
	case n.typ == tree.ModeRegular: // data may be elsewhere without any mark at the directory
		return f.readFileMarks(n, i, dir, lower, st)
	case mayKeepIno(dir, st):
		return f.readFileMarks(n, i, dir, lower, st)
	}
	return nil
}

// mayKeepIno tells whether an inode in dir may show another number than its own.
// Directories with such inodes are marked impure, but the kernel forgets it when it
// links one into a directory of the upper alone.
func mayKeepIno(dir *node, st *unix.Stat_t) bool { return dir.impure || st.Nlink > 1 }

// readDirMarks finds what is merged below an upper directory.
func (f *FS) readDirMarks(n *node, i inode, dir *node, lower tree.Entry) error {
	names, err := i.xattrs()
	if err != nil {
		return err
	}
	if f.isMarked(names, xRedirect) {
		if lower, err = f.redirected(i, dir); err != nil {
			return err
		}
	}
	opaque := ""
	if f.isMarked(names, xOpaque) {
		v, err := i.xattr(f.up.format.namespace() + xOpaque)
		if err != nil {
			return err
		}
		opaque = string(v)
	}
	n.xwhiteouts = opaque == "x"
	if lower.Type == tree.ModeDir && opaque != "y" {
		a, err := f.lower.Attr(lower.ID)
		if err != nil {
			return err
		}
		n.lower, n.ino = lower.ID, a.Ino
	}
	n.impure = n.lower != tree.None || f.isMarked(names, xImpure)
	return nil
}

// readFileMarks finds the number that a copied-up inode keeps, and where its data
// is if it was copied up without.
func (f *FS) readFileMarks(n *node, i inode, dir *node, lower tree.Entry, st *unix.Stat_t) error {
	names, err := i.xattrs()
	if err != nil || len(names) == 0 {
		return err
	}
	if lower, err = f.copiedFrom(n, i, dir, lower, names); err != nil {
		return err
	}
	if f.isMarked(names, xMetacopy) && n.typ == tree.ModeRegular {
		if err := f.readMetacopy(n, i, lower, st.Size); err != nil {
			return err
		}
	}
	if !mayKeepIno(dir, st) {
		return nil
	}
	return f.readKeptIno(n, i, lower, names)
}

// childKeptIno is readFileMarks when only the number matters, as in a listing.
func (f *FS) childKeptIno(n *node, i inode, dir *node, lower tree.Entry) error {
	var st unix.Stat_t
	if !dir.impure {
		if err := i.stat(&st); err != nil || !mayKeepIno(dir, &st) {
			return err
		}
	}
	names, err := i.xattrs()
	if err != nil || len(names) == 0 {
		return err
	}
	if lower, err = f.copiedFrom(n, i, dir, lower, names); err != nil {
		return err
	}
	return f.readKeptIno(n, i, lower, names)
}

// isMarked tells whether a mark is among the names of an inode's xattrs.
func (f *FS) isMarked(names []string, mark string) bool {
	return slices.Contains(names, f.up.format.namespace()+mark)
}

// copiedFrom returns the lower's entry from which a file without data was copied up,
// wherever that is; for others, lower.
func (f *FS) copiedFrom(n *node, i inode, dir *node, lower tree.Entry, names []string) (tree.Entry, error) {
	if n.typ == tree.ModeRegular && f.isMarked(names, xMetacopy) && f.isMarked(names, xRedirect) {
		return f.redirected(i, dir)
	}
	return lower, nil
}

// readKeptIno finds the number that an inode keeps, which has xattrs of these names.
func (f *FS) readKeptIno(n *node, i inode, lower tree.Entry, names []string) error {
	switch {
	case f.isMarked(names, xIno):
		return f.readIno(n, i)
	case f.isMarked(names, xOrigin):
		n.inoByName = true // with one name less, or another, it might be found otherwise
		if lower.ID != tree.None {
			return f.readOrigin(n, i, lower)
		}
	}
	return nil
}

func (f *FS) readIno(n *node, i inode) error {
	v, err := i.xattr(f.up.format.namespace() + xIno)
	if err != nil {
		return err
	}
	ino, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil {
		f.log.Warn("unreadable inode number", "op", "lookup", "name", i.name, "value", string(v))
		return nil
	}
	n.ino = ino
	return nil
}

// readMetacopy finds the data of a file that is marked as copied up without.
func (f *FS) readMetacopy(n *node, i inode, lower tree.Entry, size int64) error {
	if lower.Type != tree.ModeRegular {
		f.log.Error("the data of a file that was copied up without it is gone", "op", "lookup", "name", i.name)
		return unix.EIO
	}
	a, err := f.lower.Attr(lower.ID)
	if err != nil {
		return err
	}
	if size == a.Size {
		n.lower, n.noData = lower.ID, true
		return nil
	}
	// bringData shortens a file when it has got all that remains, so only the mark
	// is left to be taken off.
	if f.readOnly {
		return nil
	}
	err = i.removexattr(f.up.format.namespace() + xMetacopy)
	if err == errNoXattr { // bringData is just doing it
		err = nil
	}
	return err
}

// readOrigin gives what the kernel copied up the number of lower, if it says that it
// came from there. Not if the lower inode has several names, of which the kernel
// makes a file each, nor if the upper one has: each must lead to one number.
func (f *FS) readOrigin(n *node, i inode, lower tree.Entry) error {
	v, err := i.xattr(f.up.format.namespace() + xOrigin)
	if err != nil {
		return err
	}
	a, err := f.lower.Attr(lower.ID)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := i.stat(&st); err != nil {
		return err
	}
	ino, ok := originIno(v)
	if ok && ino == a.Ino && a.Nlink == 1 && st.Nlink == 1 && a.Mode&tree.ModeType == n.typ {
		n.ino = ino
	}
	return nil
}

// originIno finds the inode number in the kernel's overlay.origin, as far as the
// filesystem that made the handle is known:
//
//	u8 version 0, u8 magic 0xfb, u8 length, u8 flags, u8 type of the handle, u8[16] uuid, handle
//
//	type 1,    8 bytes     u32 inode, u32 generation            (ext4 and most others)
//	type 1,    12 bytes    u32 generation, u32 inode, u32 high  (tmpfs)
//	type 0x81, 12 bytes    u64 inode, u32 generation            (xfs)
func originIno(v []byte) (uint64, bool) {
	const handleAt = 21
	if len(v) < handleAt+8 || v[0] != 0 || v[1] != 0xfb || int(v[2]) > len(v) || int(v[2]) < handleAt {
		return 0, false
	}
	typ, handle := v[4], v[handleAt:v[2]]
	switch word := binary.NativeEndian; {
	case typ == 1 && len(handle) == 8:
		return uint64(word.Uint32(handle)), true
	case typ == 1 && len(handle) == 12:
		return uint64(word.Uint32(handle[4:])) | uint64(word.Uint32(handle[8:]))<<32, true
	case typ == 0x81 && len(handle) == 12:
		return word.Uint64(handle), true
	}
	return 0, false
}

// hides tells whether what stands in an upper directory is a whiteout.
func (f *FS) hides(dir *node, i inode, st *unix.Stat_t) (bool, error) {
	if isWhiteout(st) {
		return true, nil
	}
	if !dir.xwhiteouts || st.Mode&tree.ModeType != tree.ModeRegular || st.Size != 0 {
		return false, nil
	}
	_, err := i.xattr(f.up.format.namespace() + xWhiteout)
	if err == errNoXattr {
		return false, nil
	}
	return err == nil, err
}

// redirected returns the lower's entry that the redirect of an upper inode in dir
// names; ID None if there is none.
func (f *FS) redirected(i inode, dir *node) (tree.Entry, error) {
	v, err := i.xattr(f.up.format.namespace() + xRedirect)
	if err == errNoXattr {
		return tree.Entry{}, nil // gone since it was listed: the data has come
	}
	if err != nil {
		return tree.Entry{}, err
	}
	target := string(v)
	if !strings.HasPrefix(target, "/") {
		if checkName(target) != nil {
			return tree.Entry{}, unix.EIO
		}
		return f.lowerChild(dir, target)
	}
	parent, err := tree.Resolve(f.lower, path.Dir(target))
	if err == nil {
		var e tree.Entry
		if e, err = f.lower.Lookup(parent, path.Base(target)); err == nil {
			return e, nil
		}
	}
	if errno, _ := asErrno(err); errno == unix.ENOENT || errno == unix.ENOTDIR {
		return tree.Entry{}, nil
	}
	return tree.Entry{}, err
}

// setRedirect records where in the lower an inode comes from, before it gets a
// name that does not tell. EXDEV if it must not be, or the path does not fit into
// an xattr.
func (f *FS) setRedirect(n *node, i inode) error {
	if f.noRedirect {
		return unix.EXDEV
	}
	p, err := f.lowerPath(n.lower)
	if err != nil {
		return err
	}
	w := f.watch()
	err = i.setxattr(f.up.format.namespace()+xRedirect, []byte("/"+p), 0)
	if w.on() {
		w.tell(Event{Op: OpRedirect, Path: f.mergedPath(n, n.lower), To: "/" + p, Layer: LayerUpper}, err)
	}
	switch err {
	case unix.ENOSPC, unix.E2BIG, unix.ERANGE, unix.ENAMETOOLONG:
		return unix.EXDEV
	}
	return err
}

// fixIno records the number of an inode that is only known by its name, before it
// gets another.
func (f *FS) fixIno(n *node, i inode) error {
	n.mu.Lock()
	ino, byName := n.ino, n.inoByName
	n.mu.Unlock()
	if !byName {
		return nil
	}
	err := i.setxattr(f.up.format.namespace()+xIno, []byte(strconv.FormatUint(ino, 10)), 0)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.inoByName = false
	n.mu.Unlock()
	return nil
}
