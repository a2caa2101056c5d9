package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"strata/internal/container"
)

// Place says what is to be shown, and what there is to show it with.
type Place struct {
	// Lower are the directories below, topmost first. Nobody may change them.
	Lower container.LowerDirs

	// Merged is a plain directory with the same tree, which nobody may change
	// either. With one lower it is that.
	Merged string

	// Image is the same tree as an image, if it came from one.
	Image *StoredImage

	// Scratch is an empty directory of this view's own. The upper is made in it.
	Scratch string

	// Own says that the tree will be changed, or that nobody else may use what
	// it is made of. Otherwise it is only read.
	Own bool
}

// StoredImage is an image in a store.
type StoredImage struct {
	Root      string
	Reference string
}

// Contender is a way to show lowers and an upper as one tree.
type Contender interface {
	Name() string
	About() string

	// Version is that of the program that does it; empty if it is the kernel.
	Version() string

	// Missing says why it cannot be had here, without trying.
	Missing() error

	// Mount shows the tree. The error is a *LeftOutError if this contender does
	// not do such a thing at all.
	Mount(ctx context.Context, p Place) (*View, error)
}

// LeftOutError says that a contender takes no part in something, and why.
type LeftOutError struct{ Reason string }

func (e *LeftOutError) Error() string { return e.Reason }

// View is a tree that is shown, until it is closed.
type View struct {
	Dir     string
	Servers []int         // the processes that serve it; none if the kernel does it alone
	Took    time.Duration // from asking for it to its being usable, preparations left out
	close   func() error
}

// Close takes the view away and returns when its processes have ended.
func (v *View) Close() error {
	if v.close == nil {
		return nil
	}
	return v.close()
}

// uppers makes what a stacking contender wants below the scratch directory.
func (p *Place) uppers() (upper, work, merged string, err error) {
	upper, work, merged = filepath.Join(p.Scratch, "upper"), filepath.Join(p.Scratch, "work"), filepath.Join(p.Scratch, "merged")
	for _, dir := range []string{upper, work, merged} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", "", "", err
		}
	}
	return upper, work, merged, nil
}

// ContenderOptions say where the contenders find what they need.
type ContenderOptions struct {
	// Strata is the command and the name that it is called by. Path is required
	// for the contenders called strata.
	Strata Command

	// Dir is a directory for what contenders keep during a run: run state, and a
	// store. It should be on the filesystem of the lowers.
	Dir string
}

// Command is how strata itself is run.
type Command struct {
	Path string
	Name string // argv[0]; the path if empty
}

// Baselines are the contenders that the others are compared with.
const (
	Plain         = "plain"
	Overlayfs     = "overlayfs"
	FuseOverlayfs = "fuse-overlayfs"
	Strata        = "strata"
	StrataImage   = "strata-image"
)

// Contenders returns all that are known.
func Contenders(o ContenderOptions) []Contender {
	return []Contender{
		plain{},
		&kernelOverlay{name: Overlayfs, about: "the kernel's overlayfs, as it is by default", options: "redirect_dir=off,metacopy=off,index=off"},
		&kernelOverlay{name: "overlayfs-metacopy", about: "the kernel's overlayfs with metacopy and redirect_dir", options: "redirect_dir=on,metacopy=on,index=off"},
		fuseOverlayfs{},
		unionfsFuse{},
		&strataOverlay{name: Strata, about: "strata overlay, as it is by default", options: o},
		&strataOverlay{name: "strata-nopassthrough", about: "strata overlay, all file data through its process", mount: "nopassthrough", options: o},
		&strataOverlay{name: "strata-coherent", about: "strata overlay, data of the lowers through its process", mount: "coherent", options: o},
		&strataImage{options: o},
	}
}

// Select returns the contenders with the given names, in the order of all. No
// names mean all but those that are variants of little interest to most.
func Select(all []Contender, names []string) ([]Contender, error) {
	wanted := map[string]bool{}
	for _, n := range names {
		wanted[n] = true
	}
	var chosen []Contender
	for _, c := range all {
		if wanted[c.Name()] || len(names) == 0 && c.Name() != "strata-coherent" {
			chosen = append(chosen, c)
		}
		delete(wanted, c.Name())
	}
	var unknown []error
	for _, n := range names {
		if wanted[n] {
			unknown = append(unknown, fmt.Errorf("there is no contender called %q", n))
			delete(wanted, n)
		}
	}
	return chosen, errors.Join(unknown...)
}

// plain is a directory with a full copy of the tree.
type plain struct{}

func (plain) Name() string    { return Plain }
func (plain) About() string   { return "a plain directory, a full copy for each who writes" }
func (plain) Version() string { return "" }
func (plain) Missing() error  { return nil }

func (plain) Mount(ctx context.Context, p Place) (*View, error) {
	if !p.Own {
		return &View{Dir: p.Merged}, nil
	}
	dir := filepath.Join(p.Scratch, "copy")
	start := time.Now()
	if _, err := output(ctx, "cp", "-a", "--reflink=never", p.Merged, dir); err != nil {
		return nil, err
	}
	return &View{Dir: dir, Took: time.Since(start)}, nil
}
