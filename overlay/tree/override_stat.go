package tree

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OverrideStatXattr is where those who may not set owners and types keep them,
// in the form that containers/storage and fuse-overlayfs share:
//
//	UID:GID:MODE[:TYPE]
//
// decimal ids, octal permission bits, and as TYPE one of file, dir, symlink,
// pipe, socket, char-MAJOR-MINOR and block-MAJOR-MINOR. Without TYPE it is the
// file's own.
const OverrideStatXattr = "user.containers.override_stat"

// OverrideStat is the decoded value of OverrideStatXattr.
type OverrideStat struct {
	UID, GID uint32
	Mode     uint32 // type and permission bits; no type bits if the value had no TYPE
	Rdev     uint64 // of devices
}

// String gives the value to store.
func (o OverrideStat) String() string {
	typ := "file"
	switch o.Mode & ModeType {
	case ModeDir:
		typ = "dir"
	case ModeSymlink:
		typ = "symlink"
	case ModeFIFO:
		typ = "pipe"
	case ModeSocket:
		typ = "socket"
	case ModeChar:
		typ = fmt.Sprintf("char-%d-%d", unix.Major(o.Rdev), unix.Minor(o.Rdev))
	case ModeBlock:
		typ = fmt.Sprintf("block-%d-%d", unix.Major(o.Rdev), unix.Minor(o.Rdev))
	}
	return fmt.Sprintf("%d:%d:%04o:%s", o.UID, o.GID, o.Mode&ModePerm, typ)
}

// ParseOverrideStat is the inverse of String.
func ParseOverrideStat(s string) (OverrideStat, error) {
	bad := func(what string) (OverrideStat, error) {
		return OverrideStat{}, fmt.Errorf("%s=%q: %s: want UID:GID:MODE[:TYPE]", OverrideStatXattr, s, what)
	}
	f := strings.Split(s, ":")
	if len(f) != 3 && len(f) != 4 {
		return bad("wrong number of fields")
	}
	uid, err1 := strconv.ParseUint(f[0], 10, 32)
	gid, err2 := strconv.ParseUint(f[1], 10, 32)
	mode, err3 := strconv.ParseUint(f[2], 8, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return bad("a field is no number")
	}
	o := OverrideStat{UID: uint32(uid), GID: uint32(gid), Mode: uint32(mode) & ModePerm}
	if len(f) == 3 {
		return o, nil
	}
	typ, device, isDevice := strings.Cut(f[3], "-")
	switch {
	case isDevice && (typ == "char" || typ == "block"):
		major, minor, _ := strings.Cut(device, "-")
		ma, err1 := strconv.ParseUint(major, 10, 32)
		mi, err2 := strconv.ParseUint(minor, 10, 32)
		if err1 != nil || err2 != nil {
			return bad("the device is no MAJOR-MINOR")
		}
		o.Rdev = unix.Mkdev(uint32(ma), uint32(mi))
		o.Mode |= ModeChar
		if typ == "block" {
			o.Mode = o.Mode&ModePerm | ModeBlock
		}
	case f[3] == "file":
		o.Mode |= ModeRegular
	case f[3] == "dir":
		o.Mode |= ModeDir
	case f[3] == "symlink":
		o.Mode |= ModeSymlink
	case f[3] == "pipe":
		o.Mode |= ModeFIFO
	case f[3] == "socket":
		o.Mode |= ModeSocket
	default:
		return bad("the type is unknown")
	}
	return o, nil
}
