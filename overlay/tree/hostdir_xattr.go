package tree

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// shownXattr turns a name on the host into the name that is shown, "" if it is
// hidden.
func (h *HostDir) shownXattr(host string) string {
	if h.o.Stored != "" {
		if rest, ok := strings.CutPrefix(host, h.o.Stored); ok {
			return rest
		}
		if !strings.HasPrefix(host, "user.") {
			return ""
		}
	}
	if rest, ok := strings.CutPrefix(host, h.overlay); ok {
		if rest, ok = strings.CutPrefix(rest, "overlay."); !ok {
			return ""
		}
		return h.overlay + rest
	}
	if h.o.OverrideStat && host == OverrideStatXattr {
		return ""
	}
	for _, p := range h.o.Hide {
		if strings.HasPrefix(host, p) {
			return ""
		}
	}
	return host
}

// hostXattr turns a name that is shown into the name on the host, "" if it
// cannot be shown.
func (h *HostDir) hostXattr(shown string) string {
	host := shown
	if rest, ok := strings.CutPrefix(shown, h.overlay); ok {
		host = h.overlay + "overlay." + rest
	}
	switch {
	case h.shownXattr(host) == shown:
		return host
	case h.o.Stored != "":
		return h.o.Stored + shown
	}
	return ""
}

func (h *HostDir) Xattr(id ID, name string) ([]byte, error) {
	n, err := h.node(id)
	if err != nil {
		return nil, err
	}
	host := h.hostXattr(name)
	if host == "" || n.xattrs.Load()&(xattrsKnown|xattrsSome) == xattrsKnown {
		return nil, syscall.ENODATA
	}
	dir, at, err := h.place(n)
	if err != nil {
		return nil, err
	}
	defer h.fds.release(dir)
	return getXattr(dir.fd, at, host)
}

func (h *HostDir) Xattrs(id ID) ([]string, error) {
	n, err := h.node(id)
	if err != nil || n.xattrs.Load()&(xattrsKnown|xattrsSome) == xattrsKnown {
		return nil, err
	}
	return h.listXattrs(n)
}

// What hostNode.xattrs remembers.
const (
	xattrsKnown = 1 << iota // the others are valid
	xattrsSome              // some are shown
	xattrsHaveMetacopy
	xattrsHaveRedirect
)

// xattrMarks returns what there is to know of n's xattrs without reading one.
func (h *HostDir) xattrMarks(n *hostNode) (uint32, error) {
	if marks := n.xattrs.Load(); marks != 0 {
		return marks, nil
	}
	_, err := h.listXattrs(n)
	return n.xattrs.Load(), err
}

// Metacopy tells whether regular file id has its data in a layer below.
func (h *HostDir) Metacopy(id ID) (bool, error) {
	n, err := h.ofType(id, ModeRegular)
	if err != nil {
		return false, err
	}
	marks, err := h.xattrMarks(n)
	return marks&xattrsHaveMetacopy != 0, err
}

// Redirect returns under which name (in the same directory) or path (from the
// root, with a slash in front) the layers below have id; "" means that it was
// not moved.
func (h *HostDir) Redirect(id ID) (string, error) {
	n, err := h.node(id)
	if err != nil || id == Root {
		return "", err
	}
	marks, err := h.xattrMarks(n)
	if err != nil || marks&xattrsHaveRedirect == 0 {
		return "", err
	}
	dir, at, err := h.place(n)
	if err != nil {
		return "", err
	}
	defer h.fds.release(dir)
	value, err := h.ownXattr(dir.fd, at, "redirect")
	if err != nil {
		return "", err
	}
	redirect := string(value)
	for name := range strings.SplitSeq(strings.TrimPrefix(redirect, "/"), "/") {
		if !validName(name) {
			return "", fmt.Errorf("%s: %q: %sredirect=%q is no name and no path: %w", h.path, n.name, h.overlay, value, syscall.EIO)
		}
	}
	if strings.Contains(redirect, "/") && redirect[0] != '/' {
		return "", fmt.Errorf("%s: %q: %sredirect=%q is neither one name nor an absolute path: %w", h.path, n.name, h.overlay, value, syscall.EIO)
	}
	return redirect, nil
}

// place returns where n is: a directory, which the caller releases, and a
// name in it.
func (h *HostDir) place(n *hostNode) (*dirFD, string, error) {
	if n.id == Root {
		dir, err := h.fds.dir(n)
		return dir, ".", err
	}
	dir, err := h.fds.dir(n.parent)
	return dir, n.name, err
}

// listXattrs returns the names that are shown, and sets n.xattrs.
func (h *HostDir) listXattrs(n *hostNode) ([]string, error) {
	dir, at, err := h.place(n)
	if err != nil {
		return nil, err
	}
	defer h.fds.release(dir)
	path := procPath(dir.fd, at)
	var small [256]byte
	list, err := readXattr(small[:], func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if err != nil && err != unix.ENOTSUP {
		return nil, err
	}
	var names []string
	marks := uint32(xattrsKnown)
	for len(list) > 0 {
		name, rest, _ := bytes.Cut(list, []byte{0})
		list = rest
		if shown := h.shownXattr(string(name)); shown != "" {
			names = append(names, shown)
			marks |= xattrsSome
		}
		if own, ok := strings.CutPrefix(string(name), h.overlay); ok {
			switch own {
			case "metacopy":
				marks |= xattrsHaveMetacopy
			case "redirect":
				marks |= xattrsHaveRedirect
			}
		}
	}
	n.xattrs.Store(marks)
	slices.Sort(names)
	return names, nil
}

// getXattr reads an xattr of name in directory dir; a filesystem that has no
// xattrs has none of that name.
func getXattr(dir int, name, xattr string) ([]byte, error) {
	path := procPath(dir, name)
	var small [256]byte
	value, err := readXattr(small[:], func(buf []byte) (int, error) { return unix.Lgetxattr(path, xattr, buf) })
	switch err {
	case nil:
		return slices.Clone(value), nil
	case unix.ENOTSUP:
		err = unix.ENODATA
	}
	return nil, err
}

// readXattr calls read with more and more room, buf at first.
func readXattr(buf []byte, read func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := read(buf)
		if err != unix.ERANGE {
			return buf[:max(n, 0)], err
		}
		if n, err = read(nil); err != nil {
			return nil, err
		}
		buf = make([]byte, n+1)
	}
}

// ownXattr reads overlay.NAME, nil if there is none.
func (h *HostDir) ownXattr(dir int, name, xattr string) ([]byte, error) {
	value, err := getXattr(dir, name, h.overlay+xattr)
	if err == unix.ENODATA {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s%s of %q: %w", h.overlay, xattr, name, err)
	}
	return value, nil
}

// Opaque is false for the root whatever its xattrs say, as with overlayfs.
func (h *HostDir) Opaque(dir ID) (bool, error) {
	n, err := h.dirNode(dir)
	if err != nil || dir == Root {
		return false, err
	}
	d, at, err := h.place(n)
	if err != nil {
		return false, err
	}
	defer h.fds.release(d)
	value, err := h.ownXattr(d.fd, at, "opaque")
	return string(value) == "y", err
}

// isXattrWhiteout tells whether a regular file, which is empty and in a
// directory that says so, is a whiteout.
func (h *HostDir) isXattrWhiteout(dir int, name string) (bool, error) {
	_, err := getXattr(dir, name, h.overlay+"whiteout")
	if err == unix.ENODATA {
		return false, nil
	}
	return err == nil, err
}

// override obeys user.containers.override_stat. The host keeps user xattrs
// only on regular files and directories.
func (h *HostDir) override(n *hostNode, dir int, name string) {
	typ := n.stat.mode & ModeType
	if !h.o.OverrideStat || typ != ModeRegular && typ != ModeDir {
		return
	}
	value, err := getXattr(dir, name, OverrideStatXattr)
	if err == unix.ENODATA || err == unix.EACCES { // a file that we may not read is none that we wrote
		return
	}
	var o OverrideStat
	if err == nil {
		o, err = ParseOverrideStat(string(value))
	}
	if err == nil && o.Mode&ModeType == 0 {
		o.Mode |= typ
	}
	if err == nil && (typ == ModeDir) != (o.Mode&ModeType == ModeDir) {
		err = fmt.Errorf("%s=%q: a %s cannot stand for a %s", OverrideStatXattr, value, kindName(typ), kindName(o.Mode))
	}
	if err != nil {
		n.err = fmt.Errorf("%s: %q: %w (%w)", h.path, name, err, syscall.EIO)
		return
	}
	n.stat.mode, n.stat.uid, n.stat.gid = o.Mode, o.UID, o.GID
	switch o.Mode & ModeType {
	case ModeChar, ModeBlock:
		n.stat.rdev = o.Rdev
	}
	if o.Mode&ModeType != ModeRegular && o.Mode&ModeType != ModeDir {
		n.stat.blocks = 0
	}
}
