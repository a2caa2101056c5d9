package tree

import (
	"bytes"
	"runtime/debug"
	"syscall"
)

// Xattr returns a copy of the value of one extended attribute.
func (f *File) Xattr(id ID, name string) (value []byte, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	r, err := f.inode(id)
	if err != nil {
		return nil, err
	}
	if r.xattrs == 0 {
		return nil, syscall.ENODATA
	}
	at := uint64(r.xattrs) - 1
	left, at, err := f.xattrSet(at)
	if err != nil {
		return nil, err
	}
	for ; left > 0; left-- {
		var k, v []byte
		if k, v, at, err = f.xattr(at); err != nil {
			return nil, err
		}
		if string(k) == name {
			return bytes.Clone(v), nil
		}
	}
	return nil, syscall.ENODATA
}

// Xattrs returns the names of all extended attributes, sorted.
func (f *File) Xattrs(id ID) (names []string, err error) {
	defer f.catchFault(debug.SetPanicOnFault(true), &err)
	r, err := f.inode(id)
	if err != nil || r.xattrs == 0 {
		return nil, err
	}
	left, at, err := f.xattrSet(uint64(r.xattrs) - 1)
	if err != nil {
		return nil, err
	}
	for ; left > 0; left-- {
		var k []byte
		if k, _, at, err = f.xattr(at); err != nil {
			return nil, err
		}
		names = append(names, string(k))
	}
	return names, nil
}

// xattrSet returns how many attributes the set at a place of xattrs has, and
// the place of the first.
func (f *File) xattrSet(at uint64) (n int, next uint64, err error) {
	b, err := f.bytes(secXattrs, at, xattrSetHead)
	if err != nil {
		return 0, 0, err
	}
	return int(u16(b)), at + xattrSetHead, nil
}

// xattr returns the attribute at a place of xattrs, in the mapping, and the
// place of the next.
func (f *File) xattr(at uint64) (name, value []byte, next uint64, err error) {
	head, err := f.bytes(secXattrs, at, xattrHead)
	if err != nil {
		return nil, nil, 0, err
	}
	nameLen, valueLen := uint64(u16(head)), uint64(u32(head[2:]))
	at += xattrHead
	both, err := f.bytes(secXattrs, at, nameLen+valueLen)
	if err != nil {
		return nil, nil, 0, err
	}
	return both[:nameLen], both[nameLen:], at + nameLen + valueLen, nil
}
