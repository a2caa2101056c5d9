package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ArchiveOptions says how an archive is opened. The zero value is useful.
type ArchiveOptions struct {
	// TempDir is where an archive that is compressed or comes from a pipe is
	// spooled, in a file without a name. Empty means os.TempDir().
	TempDir string

	// MaxSpool bounds the bytes that may be spooled: a compressed archive can
	// claim any size. Zero means 256 GiB.
	MaxSpool int64
}

// Archive is an opened OCI layout or docker archive.
type Archive struct {
	name    string // "archive PATH", for errors
	close   func() error
	entries []entry // in the archive's order; never changes
}

// OpenArchive opens an OCI layout (directory or tar) or a docker archive (tar)
// and reads what it says of its images; layers are only looked for. "-" is
// standard input. An image that cannot be used is an error of Images and Image,
// so that one damaged image does not lock the others in.
func OpenArchive(ctx context.Context, path string, opts ArchiveOptions) (*Archive, error) {
	a := &Archive{name: "archive " + path}
	if path == "-" {
		a.name = "archive on standard input"
	}
	files, err := a.openFiles(ctx, path, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	if err := a.readEntries(ctx, files, archiveBaseName(path)); err != nil {
		a.close()
		return nil, fmt.Errorf("%s: %w", a.name, err)
	}
	return a, nil
}

// openFiles opens path as a set of files, whether it is a directory or a tar,
// and sets a.close.
func (a *Archive) openFiles(ctx context.Context, path string, opts ArchiveOptions) (fs.FS, error) {
	if path != "-" {
		fi, err := os.Stat(path)
		if err != nil {
			return nil, errors.Unwrap(err) // the path is in a.name
		}
		if fi.IsDir() {
			root, err := os.OpenRoot(path)
			if err != nil {
				return nil, err
			}
			a.close = root.Close
			return layoutDir{root}, nil
		}
	}
	file, err := openTar(ctx, path, opts)
	if err != nil {
		return nil, err
	}
	index, err := indexTar(ctx, file)
	if err != nil {
		file.Close()
		return nil, err
	}
	a.close = file.Close
	return index, nil
}

// readEntries finds out which form the archive has and sets a.entries. A tar
// that is both is a layout, unless blobs that this would need are missing.
func (a *Archive) readEntries(ctx context.Context, files fs.FS, baseName string) error {
	_, isDir := files.(layoutDir)
	isLayout := has(files, v1.ImageLayoutFile)
	isDocker := has(files, dockerManifestFile) && !isDir
	if isLayout {
		es, err := listLayout(ctx, a.name, files, baseName)
		missing := errors.Is(err, fs.ErrNotExist)
		if err == nil {
			if a.entries, err = es.load(ctx, a.name); err != nil {
				return err
			}
			missing = slices.ContainsFunc(a.entries, func(e entry) bool { return errors.Is(e.err, fs.ErrNotExist) })
		}
		if !missing || !isDocker {
			return err
		}
	}
	if !isDocker {
		if isDir {
			return fmt.Errorf("directory without the file %s: not an OCI image layout", v1.ImageLayoutFile)
		}
		return fmt.Errorf("neither %s nor %s in it: not an OCI image layout or a docker archive",
			v1.ImageLayoutFile, dockerManifestFile)
	}
	es, err := listDocker(ctx, a.name, files)
	if err != nil {
		return err
	}
	a.entries, err = es.load(ctx, a.name)
	return err
}

func has(files fs.FS, name string) bool {
	f, err := files.Open(name)
	if err != nil {
		// There, but not readable, is for the one who reads it to say.
		return !errors.Is(err, fs.ErrNotExist)
	}
	f.Close()
	return true
}

// Images returns all images, in the archive's order. When some of them cannot
// be used, it returns the others and an error that says for each why.
func (a *Archive) Images() ([]*Image, error) {
	const most = 10
	var images []*Image
	var errs []error
	left := 0
	for _, e := range a.entries {
		switch {
		case e.err == nil:
			images = append(images, e.image)
		case slices.Contains(errs, e.err): // several images can share one
		case len(errs) < most:
			errs = append(errs, e.err)
		default:
			left++
		}
	}
	if left > 0 {
		errs = append(errs, fmt.Errorf("%s: %d more images cannot be used", a.name, left))
	}
	return images, errors.Join(errs...)
}

// Image returns the image that the archive knows by ref. A reference with a
// digest means the image (or the index of platforms) of that digest, under the
// same repository or without a name.
func (a *Archive) Image(ref Reference) (*Image, error) {
	for _, e := range a.entries {
		if e.matches(ref) {
			return e.image, e.err
		}
	}
	return nil, fmt.Errorf("%s: no image %s in it; there are: %s", a.name, ref.Familiar(), a.list())
}

// list names the images for an error.
func (a *Archive) list() string {
	const most = 32
	var names []string
	for i, e := range a.entries {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(a.entries)-most))
			break
		}
		if len(e.refs) == 0 {
			names = append(names, "one without a name "+e.digest.String())
		}
		for _, ref := range e.refs {
			names = append(names, ref.Familiar())
		}
	}
	return strings.Join(names, ", ")
}

// archiveBaseName is what a layout's bare tags are tags of.
func archiveBaseName(name string) string {
	if name == "-" {
		return ""
	}
	if abs, err := filepath.Abs(name); err == nil {
		name = abs // "." has a name, too
	}
	name = filepath.Base(name)
	for _, suffix := range []string{".gz", ".zst", ".zstd"} {
		name = strings.TrimSuffix(name, suffix)
	}
	for _, suffix := range []string{".tgz", ".tzst", ".tar", ".oci"} {
		name = strings.TrimSuffix(name, suffix)
	}
	return name
}

// Close gives the archive's files back. Layers cannot be read after it.
func (a *Archive) Close() error {
	if err := a.close(); err != nil {
		return fmt.Errorf("%s: close: %w", a.name, err)
	}
	return nil
}
