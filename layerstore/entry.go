package layerstore

import (
	"archive/tar"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// What Linux can hold; a layer that has more could not be shown.
const (
	maxName   = 255       // NAME_MAX
	maxPath   = 4095      // PATH_MAX without the NUL
	maxXattr  = 255       // XATTR_NAME_MAX
	maxValue  = 64 << 10  // XATTR_SIZE_MAX
	maxMajor  = 1<<12 - 1 // bits of dev_t
	maxMinor  = 1<<20 - 1
	whiteout  = ".wh."
	aufs      = whiteout + whiteout // metadata of aufs, of which only one is of OCI, too
	opaqueDir = aufs + ".opq"
)

// kind is what an entry of a layer's tar is.
type kind int

const (
	kindNothing kind = iota // read and kept in the recipe, but nothing in the tree
	kindDir
	kindFile
	kindSymlink
	kindSpecial
	kindLink
	kindWhiteout
	kindOpaque
)

// entry is one entry of a layer's tar.
type entry struct {
	kind   kind
	path   string // as tree.Builder wants it; of what a whiteout hides, of an opaque directory
	meta   tree.Meta
	target string // symlink: as it stands there; hard link: a path as above
	typ    uint32 // special: S_IFMT bits
	rdev   uint64
	size   int64 // file
	sparse bool  // file: the tar does not hold the bytes as they are read
}

// parseEntry says what a tar header means in a layer, or why it means
// nothing that could be shown.
func parseEntry(hdr *tar.Header) (entry, error) {
	path, err := cleanPath(hdr.Name)
	if err != nil {
		return entry{}, err
	}
	if e, ok, err := parseWhiteout(path); ok || err != nil {
		return e, err
	}
	e := entry{path: path}
	switch hdr.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		e.kind, e.size, e.sparse = kindFile, hdr.Size, isSparse(hdr)
	case tar.TypeDir:
		e.kind = kindDir
	case tar.TypeSymlink:
		e.kind, e.target = kindSymlink, hdr.Linkname
		if e.target == "" || len(e.target) > maxPath {
			return entry{}, fmt.Errorf("a symlink's target of %d bytes: Linux has 1 to %d", len(e.target), maxPath)
		}
	case tar.TypeLink:
		e.kind = kindLink
		e.target, err = cleanPath(hdr.Linkname)
		return e, err // its attributes are those of the inode
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		e.kind = kindSpecial
		if e.typ, e.rdev, err = parseDevice(hdr); err != nil {
			return entry{}, err
		}
	case tar.TypeXGlobalHeader:
		return entry{}, nil
	default:
		return entry{}, fmt.Errorf("entry type %q is unknown", hdr.Typeflag)
	}
	if path == "" && e.kind != kindDir {
		return entry{}, errors.New("the root of a layer must be a directory")
	}
	e.meta, err = parseMeta(hdr)
	return e, err
}

// cleanPath turns a name of a tar into a path below the layer's root. No name
// leads out of it: a leading slash is the root's, and ".." there stays there.
func cleanPath(tarName string) (string, error) {
	if strings.IndexByte(tarName, 0) >= 0 {
		return "", errors.New("its name contains a NUL")
	}
	var parts []string
	length := 0
	for part := range strings.SplitSeq(tarName, "/") {
		switch {
		case part == "" || part == ".":
		case part == "..":
			if n := len(parts); n > 0 {
				length -= len(parts[n-1]) + 1
				parts = parts[:n-1]
			}
		case len(part) > maxName && !(strings.HasPrefix(part, whiteout) && len(part) <= len(whiteout)+maxName):
			return "", fmt.Errorf("a name of %d bytes: Linux has at most %d", len(part), maxName)
		default:
			parts = append(parts, part)
			length += len(part) + 1
		}
	}
	if length-1 > maxPath {
		return "", fmt.Errorf("a path of %d bytes: Linux has at most %d", length-1, maxPath)
	}
	return strings.Join(parts, "/"), nil
}

// parseWhiteout tells whether path is a whiteout, an opaque mark or metadata of
// aufs. Names alone decide that, in the OCI specification as in Docker.
func parseWhiteout(path string) (e entry, ok bool, err error) {
	dir, base := "", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, base = path[:i], path[i+1:]
	}
	for part := range strings.SplitSeq(dir, "/") {
		if strings.HasPrefix(part, aufs) {
			return entry{}, true, nil // .wh..wh.plnk/1234
		}
		if strings.HasPrefix(part, whiteout) {
			return entry{}, false, fmt.Errorf("it lies in %q, but a whiteout is no directory", part)
		}
	}
	hidden, ok := strings.CutPrefix(base, whiteout)
	switch {
	case !ok:
		return entry{}, false, nil
	case base == opaqueDir:
		return entry{kind: kindOpaque, path: dir}, true, nil
	case strings.HasPrefix(base, aufs):
		return entry{}, true, nil
	case hidden == "" || hidden == "." || hidden == "..":
		return entry{}, false, fmt.Errorf("a whiteout of %q, which is no name", hidden)
	}
	return entry{kind: kindWhiteout, path: strings.TrimPrefix(dir+"/"+hidden, "/")}, true, nil
}

// isSparse tells whether hdr is one of the four forms of sparse files, of which
// archive/tar gives the contents expanded.
func isSparse(hdr *tar.Header) bool {
	if hdr.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range hdr.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func parseDevice(hdr *tar.Header) (typ uint32, rdev uint64, err error) {
	switch hdr.Typeflag {
	case tar.TypeFifo:
		return tree.ModeFIFO, 0, nil
	case tar.TypeChar:
		typ = tree.ModeChar // 0:0 as well: what is a whiteout in a tar is told by its name
	default:
		typ = tree.ModeBlock
	}
	if hdr.Devmajor < 0 || hdr.Devmajor > maxMajor || hdr.Devminor < 0 || hdr.Devminor > maxMinor {
		return 0, 0, fmt.Errorf("device %d:%d: Linux has numbers up to %d:%d", hdr.Devmajor, hdr.Devminor, maxMajor, maxMinor)
	}
	return typ, unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor)), nil
}

func parseMeta(hdr *tar.Header) (tree.Meta, error) {
	for _, id := range [2]int{hdr.Uid, hdr.Gid} {
		if id < 0 || int64(id) >= math.MaxUint32 { // the last one stands for "unchanged" in system calls
			return tree.Meta{}, fmt.Errorf("owner %d:%d: Linux has numbers from 0 to %d", hdr.Uid, hdr.Gid, uint32(math.MaxUint32-1))
		}
	}
	m := tree.Meta{
		Mode:  uint32(hdr.Mode) & tree.ModePerm,
		UID:   uint32(hdr.Uid),
		GID:   uint32(hdr.Gid),
		Mtime: tree.Time{Sec: hdr.ModTime.Unix(), Nsec: uint32(hdr.ModTime.Nanosecond())},
	}
	var err error
	m.Xattrs, err = parseXattrs(hdr.PAXRecords)
	return m, err
}

// parseXattrs collects the extended attributes in the forms of star and of
// libarchive; of one that is there in both, star's counts. Names that mean
// something to an overlay are names like others here.
func parseXattrs(records map[string]string) ([]tree.Xattr, error) {
	var xattrs []tree.Xattr
	for key, value := range records {
		quoted, ok := strings.CutPrefix(key, "LIBARCHIVE.xattr.")
		if !ok {
			continue
		}
		name, err := url.PathUnescape(quoted)
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", quoted, err)
		}
		// libarchive leaves the padding out.
		decoded, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", name, err)
		}
		if _, twice := records["SCHILY.xattr."+name]; !twice {
			xattrs = append(xattrs, tree.Xattr{Name: name, Value: decoded})
		}
	}
	for key, value := range records {
		if name, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			xattrs = append(xattrs, tree.Xattr{Name: name, Value: []byte(value)})
		}
	}
	for _, x := range xattrs {
		if x.Name == "" || len(x.Name) > maxXattr || strings.IndexByte(x.Name, 0) >= 0 {
			return nil, fmt.Errorf("xattr %.300q: Linux has names of 1 to %d bytes", x.Name, maxXattr)
		}
		if len(x.Value) > maxValue {
			return nil, fmt.Errorf("xattr %q has %d bytes: Linux has at most %d", x.Name, len(x.Value), maxValue)
		}
	}
	return xattrs, nil
}

// addTo adds e to the layer's tree. digest is that of a file's contents.
func (e *entry) addTo(b *tree.Builder, digest tree.ObjectDigest) error {
	switch e.kind {
	case kindDir:
		return b.AddDir(e.path, e.meta)
	case kindFile:
		return b.AddFile(e.path, e.meta, digest, e.size)
	case kindSymlink:
		return b.AddSymlink(e.path, e.meta, e.target)
	case kindSpecial:
		return b.AddSpecial(e.path, e.meta, e.typ, e.rdev)
	case kindLink:
		if e.path == e.target {
			return nil // tar --hard-dereference and friends may name a file as a link to itself
		}
		err := b.AddLink(e.path, e.target)
		if errors.Is(err, syscall.ENOENT) {
			err = fmt.Errorf("%w: a hard link reaches neither into a lower layer nor to a later entry", err)
		}
		return err
	case kindWhiteout:
		return b.AddWhiteout(e.path)
	case kindOpaque:
		return b.AddOpaque(e.path)
	}
	return nil
}
