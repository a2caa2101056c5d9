package overlay

import (
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// Format is how an upper is written. Which one an upper has is never guessed.
type Format int

const (
	// FormatKernel is the kernel's overlayfs format: owners, modes and devices
	// as they are, marks in trusted.overlay.*. It needs root.
	FormatKernel Format = iota

	// FormatUser needs no privileges: marks are in user.overlay.*; every inode
	// is a regular file or directory of the user whose real owner, mode and
	// type stand in user.containers.override_stat; a symlink's target is the
	// file's content. The kernel cannot mount it.
	FormatUser
)

func (f Format) String() string {
	if f == FormatUser {
		return "user"
	}
	return "kernel"
}

// ParseFormat is the inverse of String.
func ParseFormat(s string) (Format, error) {
	switch s {
	case "kernel":
		return FormatKernel, nil
	case "user":
		return FormatUser, nil
	}
	return 0, fmt.Errorf("upper format %q is unknown: want kernel or user", s)
}

// Names of the xattrs with a meaning, without their namespace. Ours stand below
// overlay., so that the kernel hides them, too, when it mounts the upper.
//
//	overlay.opaque         "y": a directory hides what the lower has below it;
//	                       "x": whiteouts in it may be empty regular files with
//	                       overlay.whiteout (read, never written)
//	overlay.redirect       on a directory: what is merged below it is not the lower's
//	                       entry of the same name but this, "/path" from the lower's
//	                       root or a name beside; on a file with overlay.metacopy:
//	                       where its data is
//	overlay.metacopy       empty: a regular file has all but the data, which is
//	                       still the lower's
//	overlay.impure         "y": a directory may hold names of copied-up inodes
//	overlay.origin         the kernel's own file handle of the lower inode from which
//	                       it copied this one up (read, never written: with one more
//	                       xattr ext4 would need a block for each copied-up inode)
//	overlay.strata.ino     decimal: the inode number that a copied-up inode keeps
//	overlay.strata.lower   on the upper's root: the LowerID that it belongs to
//	overlay.strata.links   on a file in the work directory: it is being linked to
//	                       all the names of the lower inode whose path this is; empty
//	                       if that is too long: overlay.strata.ino tells which it is
//	overlay.strata.x.NAME  in FormatUser: the container's own xattr NAME, which is
//	                       not in user. or would be taken for one of ours
const (
	xOpaque   = "overlay.opaque"
	xWhiteout = "overlay.whiteout"
	xRedirect = "overlay.redirect"
	xMetacopy = "overlay.metacopy"
	xImpure   = "overlay.impure"
	xOrigin   = "overlay.origin"
	xIno      = "overlay.strata.ino"
	xLower    = "overlay.strata.lower"
	xLinks    = "overlay.strata.links"
	xStored   = "overlay.strata.x."
)

// namespace is where the format keeps its marks.
func (f Format) namespace() string {
	if f == FormatUser {
		return "user."
	}
	return "trusted."
}

// HostDirOptions are what tree.OpenHostDir needs to read such an upper as a
// layer's tree.
func (f Format) HostDirOptions() tree.HostDirOptions {
	o := tree.HostDirOptions{XattrPrefix: f.namespace()}
	if f == FormatUser {
		o.OverrideStat, o.Stored = true, f.namespace()+xStored
	}
	return o
}

// storedName turns an xattr's name as the container uses it into the name under
// which the upper keeps it.
func (f Format) storedName(name string) string {
	ns := f.namespace()
	if rest, ok := strings.CutPrefix(name, ns+"overlay."); ok {
		return ns + "overlay.overlay." + rest // as the kernel escapes it
	}
	if f == FormatUser && (name == tree.OverrideStatXattr || !strings.HasPrefix(name, "user.")) {
		return ns + xStored + name
	}
	return name
}

// mergedName is the inverse of storedName; ok is false for a mark of ours.
func (f Format) mergedName(stored string) (name string, ok bool) {
	ns := f.namespace()
	if rest, found := strings.CutPrefix(stored, ns+"overlay.overlay."); found {
		return ns + "overlay." + rest, true
	}
	if rest, found := strings.CutPrefix(stored, ns+xStored); found {
		return rest, true
	}
	if strings.HasPrefix(stored, ns+"overlay.") {
		return "", false
	}
	if f == FormatUser && (stored == tree.OverrideStatXattr || !strings.HasPrefix(stored, "user.")) {
		return "", false
	}
	return stored, true
}

// attrOf turns a stat of the upper into attributes. Ino stays the upper's own.
func attrOf(st *unix.Stat_t) tree.Attr {
	a := tree.Attr{
		Ino:    st.Ino,
		Mode:   st.Mode,
		UID:    st.Uid,
		GID:    st.Gid,
		Nlink:  uint32(st.Nlink),
		Size:   st.Size,
		Blocks: uint64(st.Blocks),
		Atime:  timeOf(st.Atim),
		Mtime:  timeOf(st.Mtim),
		Ctime:  timeOf(st.Ctim),
	}
	if t := st.Mode & tree.ModeType; t == tree.ModeChar || t == tree.ModeBlock {
		a.Rdev = st.Rdev
	}
	return a
}

func timeOf(ts unix.Timespec) tree.Time { return tree.Time{Sec: ts.Sec, Nsec: uint32(ts.Nsec)} }

func timespec(t *tree.Time) unix.Timespec {
	if t == nil {
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}

// isWhiteout tells whether st is the device 0:0 by which an upper hides a name. In a
// directory found in an upper ask FS.hides, which knows the other form, too.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&tree.ModeType == tree.ModeChar && st.Rdev == 0
}

// bornIno is where the inode numbers of what was born in the upper begin.
const bornIno = 1 << 48

const errNoXattr = syscall.ENODATA
