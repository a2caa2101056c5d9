package overlay

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// mergedChild is a visible name in a directory.
type mergedChild struct {
	name    string
	inUpper bool
	upIno   uint64     // number in the upper, if it is there
	typ     uint32     // S_IFMT bits, if it is in the upper
	lower   tree.Entry // what the lower has of that name, visible or not; ID None if nothing
	at      inode      // of the upper one
}

// eachChild calls fn for every visible name in directory n. The caller holds
// n.dirMu.
func (f *FS) eachChild(n *node, fn func(mergedChild) error) error {
	covered := map[string]bool{} // names of the lower for which the upper speaks
	err := f.eachUpper(n, func(c mergedChild, whiteout bool) error {
		if c.lower.ID != tree.None {
			covered[c.name] = true
		}
		if whiteout {
			return nil
		}
		return fn(c)
	})
	if err != nil || n.lower == tree.None {
		return err
	}
	batch := make([]tree.Entry, 128)
	for pos := 0; ; {
		k, err := f.lower.ReadDir(n.lower, pos, batch)
		if err != nil {
			return err
		}
		for _, e := range batch[:k] {
			if !covered[e.Name] {
				if err := fn(mergedChild{name: e.Name, lower: e}); err != nil {
					return err
				}
			}
		}
		if pos += k; k < len(batch) {
			return nil
		}
	}
}

// eachUpper calls fn for every name that the upper has in directory n, whiteouts
// too. The caller holds n.dirMu.
func (f *FS) eachUpper(n *node, fn func(c mergedChild, whiteout bool) error) error {
	fd, err := f.up.acquire(n)
	if err != nil {
		return err
	}
	defer f.up.release(n)
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return eachDirent(dir, func(d dirent) error {
		c := mergedChild{name: d.name, inUpper: true, upIno: d.ino, typ: d.typ, at: inode{dir: fd, name: d.name}}
		var err error
		if c.lower, err = f.lowerChild(n, d.name); err != nil {
			return err
		}
		if d.typ == tree.ModeDir {
			return fn(c, false)
		}
		if d.typ == tree.ModeChar || d.typ == 0 || f.up.format == FormatUser || n.xwhiteouts {
			var st unix.Stat_t
			if err := c.at.stat(&st); err != nil {
				return err
			}
			if hidden, err := f.hides(n, c.at, &st); err != nil {
				return err
			} else if hidden {
				return fn(c, true)
			}
			a, err := f.up.attrWith(c.at, &st)
			if err != nil {
				return err
			}
			c.typ = a.Mode & tree.ModeType
		}
		return fn(c, false)
	})
}

// childIno is the number that a name in the upper shows.
func (f *FS) childIno(dir *node, c mergedChild) (uint64, error) {
	f.tableMu.RLock()
	known := f.byUpper[c.upIno]
	f.tableMu.RUnlock()
	if known != nil {
		known.mu.Lock()
		defer known.mu.Unlock()
		return known.ino, nil
	}
	n := newNode(0, 0, c.typ, tree.None)
	n.ino = bornIno + c.upIno
	var err error
	if n.isDir() {
		err = f.readDirMarks(n, c.at, dir, c.lower)
	} else {
		err = f.childKeptIno(n, c.at, dir, c.lower)
	}
	return n.ino, err
}

// countSubdirsLocked finds out how many directories are visible in n, from what
// the lower knows and what the upper says about it.
func (f *FS) countSubdirsLocked(n *node) error {
	if n.lower == tree.None {
		known, err := f.upperNlink(n)
		if err != nil {
			return err
		}
		if known >= 2 {
			n.subdirs = known - 2
			return nil
		}
	}
	count := 0
	if n.lower != tree.None {
		a, err := f.lower.Attr(n.lower)
		if err != nil {
			return err
		}
		count = int(a.Nlink) - 2
	}
	err := f.eachUpper(n, func(c mergedChild, whiteout bool) error {
		if c.typ == tree.ModeDir && !whiteout {
			count++
		}
		if c.lower.Type == tree.ModeDir {
			count-- // merged with, or hidden by, what the upper has
		}
		return nil
	})
	if err == nil {
		n.subdirs = count
	}
	return err
}

// upperNlink is what the upper's filesystem says; some do not count
// subdirectories and say 1.
func (f *FS) upperNlink(n *node) (int, error) {
	fd, err := f.up.acquire(n)
	if err != nil {
		return 0, err
	}
	defer f.up.release(n)
	var st unix.Stat_t
	err = inode{fd: fd}.stat(&st)
	return int(st.Nlink), err
}

// checkEmpty is ENOTEMPTY if a name is visible in directory n. The caller holds
// n.dirMu or renameMu exclusively.
func (f *FS) checkEmpty(n *node) error {
	return f.eachChild(n, func(mergedChild) error { return unix.ENOTEMPTY })
}

// dirent is one record of getdents64(2).
type dirent struct {
	name string
	ino  uint64
	typ  uint32 // S_IFMT bits, 0 if the filesystem does not say
}

// eachDirent reads a directory; "." and ".." are left out.
//
//	u64 d_ino, s64 d_off, u16 d_reclen, u8 d_type, name, NUL
func eachDirent(fd int, fn func(dirent) error) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil || n == 0 {
			return err
		}
		for rec := buf[:n]; len(rec) > 19; {
			size := int(binary.NativeEndian.Uint16(rec[16:]))
			d := dirent{
				ino:  binary.NativeEndian.Uint64(rec),
				typ:  uint32(rec[18]) << 12, // DT_* are the S_IFMT bits, shifted
				name: unix.ByteSliceToString(rec[19:size]),
			}
			rec = rec[size:]
			if d.name == "." || d.name == ".." {
				continue
			}
			if err := fn(d); err != nil {
				return err
			}
		}
	}
}
