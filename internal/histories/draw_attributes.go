package histories

import "golang.org/x/sys/unix"

func (d *callDraw) attributes() {
	s := Step{FD: d.slot()}
	owner := one(d.pick, [2]int{0, 0}, [2]int{1000, 1000}, [2]int{1001, 2000}, [2]int{-1, 2000}, [2]int{1000, -1})
	at, path := d.path(true)
	switch d.pick(8) {
	case 0, 1:
		s.Call, s.Mode, s.At, s.Path, s.FD = "fchmodat", d.mode(), at, path, 0
	case 2:
		s.Call, s.Mode = "fchmod", d.mode()
	case 3, 4:
		s.Call, s.UID, s.GID, s.At, s.Path, s.FD = "fchownat", owner[0], owner[1], at, path, 0
		s.Flags = one(d.pick, 0, unix.AT_SYMLINK_NOFOLLOW)
	case 5:
		s.Call, s.UID, s.GID = "fchown", owner[0], owner[1]
	case 6:
		s.Call, s.At, s.Path, s.FD = "utimensat", at, path, 0
		s.Atime, s.Mtime = d.time(0), d.time(1)
		s.Flags = one(d.pick, 0, unix.AT_SYMLINK_NOFOLLOW)
	case 7:
		s.Call = "futimens"
		s.Atime, s.Mtime = d.time(0), d.time(1)
	}
	d.add(s)
}

func (d *callDraw) time(i int) unix.Timespec {
	switch d.pick(4) {
	case 0:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	case 1:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return drawPast(d.pick, i)
}

// capNetRaw is a value of security.capability: version 2, effective, CAP_NET_RAW.
const capNetRaw = "\x01\x00\x00\x02\x00\x20\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
)

func (d *callDraw) acl() string {
	may := func() uint16 { return uint16(d.pick(8)) }
	if d.pick(3) == 0 {
		return acl(aclEntry{aclUserObj, may(), 0}, aclEntry{aclGroupObj, may(), 0}, aclEntry{aclOther, may(), 0})
	}
	return acl(aclEntry{aclUserObj, 7, 0}, aclEntry{aclUser, may(), 1000}, aclEntry{aclGroupObj, may(), 0},
		aclEntry{aclGroup, may(), 2000}, aclEntry{aclMask, may(), 0}, aclEntry{aclOther, may(), 0})
}

func (d *callDraw) xattrs() {
	name := one(d.pick, "user.one", "user.two", "trusted.one", "trusted.overlay.opaque", "user.overlay.redirect", "trusted.overlay.overlay.x",
		"user.containers.override_stat", "security.x", "security.capability", aclAccess, aclAccess, aclDefault, aclDefault)
	value := d.letter()
	switch name {
	case aclAccess, aclDefault:
		value = d.acl()
	case "security.capability":
		value = capNetRaw
	}
	s := Step{Name: name, At: one(d.pick, AtRoot, AtRoot, AtCwd)}
	if s.Path = drawName(d.pick); s.At == AtRoot {
		s.Path = d.there()
	}
	open := d.pick(3) == 0
	if open {
		s.At, s.Path, s.FD = 0, "", d.slot()
	}
	byPath := map[string]string{"fsetxattr": "lsetxattr", "fgetxattr": "lgetxattr", "fremovexattr": "lremovexattr"}
	switch d.pick(7) {
	case 0, 1, 2:
		s.Call, s.Value, s.Flags = "fsetxattr", value, one(d.pick, 0, 0, 0, unix.XATTR_CREATE, unix.XATTR_REPLACE)
	case 3, 4:
		s.Call, s.Len = "fgetxattr", one[int64](d.pick, 0, 1, 4096, 4096)
	case 5:
		s.Call = "fremovexattr"
	case 6:
		if open {
			s.FD, s.Path = 0, d.there()
		}
		s.Call, s.Name = "llistxattr", ""
		d.add(s)
		return
	}
	if !open {
		s.Call = byPath[s.Call]
	}
	d.add(s)
}
