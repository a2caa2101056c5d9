package fusefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"strata/overlay"
	"strata/overlay/tree"
)

// The kernel checks permissions by POSIX ACLs and asks for them as xattrs. Left
// to us is what a filesystem does with them: what is created in a directory
// with a default ACL inherits it, in place of the umask; and an access ACL and
// the permission bits follow each other. Where the upper's own filesystem has
// done the latter already, there is nothing left to do.
//
// An ACL as an xattr, little endian:
//
//	version 4 bytes: 2
//	entry   tag 2 bytes, permissions 2 bytes, user or group 4 bytes; repeated

const (
	xattrAccessACL  = "system.posix_acl_access"
	xattrDefaultACL = "system.posix_acl_default"
)

const (
	aclVersion   = 2
	aclHeader    = 4
	aclEntrySize = 8

	aclUserObj  = 0x01
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
)

// acl is an ACL as the xattr's bytes.
type acl []byte

func parseACL(value []byte) (acl, error) {
	if len(value) < aclHeader || (len(value)-aclHeader)%aclEntrySize != 0 ||
		binary.LittleEndian.Uint32(value) != aclVersion {
		return nil, fmt.Errorf("malformed POSIX ACL of %d bytes: %w", len(value), syscall.EINVAL)
	}
	return acl(value), nil
}

// find returns the entry with that tag, nil if there is none.
func (a acl) find(tag uint16) []byte {
	for e := a[aclHeader:]; len(e) >= aclEntrySize; e = e[aclEntrySize:] {
		if binary.LittleEndian.Uint16(e) == tag {
			return e[:aclEntrySize]
		}
	}
	return nil
}

// groupClass is the entry that the group bits of a mode stand for.
func (a acl) groupClass() []byte {
	if e := a.find(aclMask); e != nil {
		return e
	}
	return a.find(aclGroupObj)
}

func aclPerm(e []byte) uint32 {
	if e == nil {
		return 0
	}
	return uint32(binary.LittleEndian.Uint16(e[2:])) & 7
}

func setACLPerm(e []byte, perm uint32) {
	if e != nil {
		binary.LittleEndian.PutUint16(e[2:], uint16(perm&7))
	}
}

// mode returns the permission bits that go with the ACL.
func (a acl) mode() uint32 {
	return aclPerm(a.find(aclUserObj))<<6 | aclPerm(a.groupClass())<<3 | aclPerm(a.find(aclOther))
}

// setMode makes the ACL follow permission bits.
func (a acl) setMode(mode uint32) {
	setACLPerm(a.find(aclUserObj), mode>>6)
	setACLPerm(a.groupClass(), mode>>3)
	setACLPerm(a.find(aclOther), mode)
}

// extended tells whether the ACL says more than permission bits can.
func (a acl) extended() bool { return len(a) > aclHeader+3*aclEntrySize }

// getACL returns an ACL of id, nil if there is none.
func (c *connection) getACL(id overlay.ID, name string) (acl, error) {
	value, err := c.fs.Getxattr(id, name)
	switch {
	case err == nil:
		return parseACL(append([]byte(nil), value...))
	case errors.Is(err, syscall.ENODATA) || errors.Is(err, syscall.EOPNOTSUPP):
		return nil, nil
	}
	return nil, err
}

// inheritance is the ACLs that a new inode gets.
type inheritance struct{ access, def acl }

// inherit returns the final mode of what is to be created in parent, and its
// ACLs. It is here that the umask is applied.
func (c *connection) inherit(parent overlay.ID, mode, umask uint32) (uint32, inheritance, error) {
	def, err := c.getACL(parent, xattrDefaultACL)
	if err != nil {
		return 0, inheritance{}, err
	}
	if def == nil {
		return mode &^ (umask & 0o777), inheritance{}, nil
	}
	access := append(acl(nil), def...)
	access.setMode(mode & access.mode())
	mode = mode&^0o777 | access.mode()
	var in inheritance
	if access.extended() {
		in.access = access
	}
	if mode&tree.ModeType == tree.ModeDir {
		in.def = def
	}
	return mode, in, nil
}

// applyACL gives a new inode what it inherits. If that fails the reference that
// node stands for is given back.
func (c *connection) applyACL(ctx request, node *overlay.Node, in inheritance) fuse.Status {
	if in.access == nil && in.def == nil {
		return fuse.OK
	}
	var err error
	if in.access != nil {
		err = c.fs.Setxattr(ctx, node.ID, xattrAccessACL, in.access, 0)
	}
	if err == nil && in.def != nil {
		err = c.fs.Setxattr(ctx, node.ID, xattrDefaultACL, in.def, 0)
	}
	if err == nil {
		node.Attr, err = c.fs.Getattr(node.ID) // with the ctime of now
	}
	if err != nil {
		c.fs.Forget(node.ID, 1)
		return c.status("inherit ACL", uint64(node.ID), err)
	}
	return fuse.OK
}

// chmodACL makes the access ACL of id follow its new mode, which a holds.
func (c *connection) chmodACL(ctx request, id overlay.ID, a *tree.Attr) error {
	if a.IsSymlink() {
		return nil
	}
	access, err := c.getACL(id, xattrAccessACL)
	if err != nil || access == nil || access.mode() == a.Mode&0o777 {
		return err
	}
	access.setMode(a.Mode)
	return c.fs.Setxattr(ctx, id, xattrAccessACL, access, 0)
}

// accessACLSet makes the mode of id follow its new access ACL.
func (c *connection) accessACLSet(ctx request, id overlay.ID, value []byte, killSGID bool) error {
	access, err := parseACL(value)
	if err != nil {
		return err
	}
	a, err := c.fs.Getattr(id)
	if err != nil {
		return err
	}
	mode := a.Mode&^0o777 | access.mode()
	if killSGID {
		mode &^= syscall.S_ISGID
	}
	if !access.extended() {
		// The mode says it all. An upper in the user format keeps ACLs as it is told.
		if err := c.fs.Removexattr(ctx, id, xattrAccessACL); err != nil && !errors.Is(err, syscall.ENODATA) {
			return err
		}
	}
	if mode == a.Mode {
		return nil
	}
	mode &= tree.ModePerm
	_, err = c.fs.Setattr(ctx, id, overlay.SetAttr{Mode: &mode})
	return err
}
