package container

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"strata/overlay"
	"strata/overlay/tree"
)

// Plain says which plain directories lie over which, in the words of the
// kernel's overlayfs. There is no container and no store.
type Plain struct {
	Lower       LowerDirs
	Upper, Work string // both empty: nothing takes changes
	Format      overlay.Format
}

// ParsePlain reads what was given with -o, each a list with commas: lowerdir=,
// upperdir=, workdir=, userxattr, and mount options. As for overlayfs, a
// backslash takes the meaning from a following comma or colon, and lowerdir+=
// adds one more directory, below those before it, whose name may hold colons.
func ParsePlain(lists []string) (Plain, MountOptions, error) {
	p, o := Plain{Format: newFormat()}, DefaultMountOptions()
	for _, list := range lists {
		for _, word := range splitEscaped(list, ',') {
			if word == "" {
				continue
			}
			if err := p.set(&o, word); err != nil {
				return p, o, err
			}
		}
	}
	switch {
	case len(p.Lower) == 0:
		return p, o, &OptionError{"lowerdir", "is missing: lowerdir=TOP:...:BASE names the directories to stack"}
	case p.Upper != "" && p.Work == "":
		return p, o, &OptionError{"workdir", "is missing: an upperdir needs an empty workdir on its filesystem"}
	case p.Upper == "" && p.Work != "":
		return p, o, &OptionError{"workdir", "is useless without an upperdir"}
	}
	return p, o, nil
}

func (p *Plain) set(o *MountOptions, word string) error {
	key, value, _ := strings.Cut(word, "=")
	switch key {
	case "lowerdir", "lowerdir+", "upperdir", "workdir":
		if value == "" {
			return &OptionError{word, "wants a directory"}
		}
	case "dev":
		o.Dev = true
		return nil
	case "userxattr", "redirect_dir", "metacopy", "xino", "index", "nfs_export", "uuid", "verity":
		return p.setKernel(o, word)
	default:
		return o.Set(unescape(word))
	}
	switch key {
	case "upperdir":
		p.Upper = unescape(value)
	case "workdir":
		p.Work = unescape(value)
	case "lowerdir+":
		p.Lower = append(p.Lower, unescape(value))
	case "lowerdir":
		p.Lower = nil
		for _, dir := range splitEscaped(value, ':') {
			if dir == "" {
				return &OptionError{word, "has an empty directory name (a colon in a name is written \\:; data-only layers, ::, are not supported)"}
			}
			p.Lower = append(p.Lower, unescape(dir))
		}
	}
	return nil
}

// setKernel obeys the options of the kernel's overlayfs that are no mere words: what
// is always so here may be asked for, what is never so may not.
func (p *Plain) setKernel(o *MountOptions, word string) error {
	switch word {
	case "userxattr":
		p.Format = overlay.FormatUser
	case "redirect_dir=on":
		o.NoRedirect = false
	case "redirect_dir=off", "redirect_dir=follow", "redirect_dir=nofollow":
		o.NoRedirect = true
	case "metacopy=on":
		o.NoMetacopy = false
	case "metacopy=off":
		o.NoMetacopy = true
	case "xino=on", "xino=off", "xino=auto", "index=on", "index=off": // numbers and links are always right
	case "nfs_export=off", "verity=off", "uuid=null", "uuid=off", "uuid=auto":
	default:
		return &OptionError{word, "is an option of the kernel's overlayfs that strata does not have"}
	}
	return nil
}

// check refuses directories that contain each other where that would let a
// change of the upper change a lower.
func (p *Plain) check() error {
	if p.Upper == "" {
		return nil
	}
	for _, writable := range []string{p.Upper, p.Work} {
		real, err := realPath(writable)
		if err != nil {
			return err
		}
		for _, dir := range p.Lower {
			lower, err := realPath(dir)
			if err != nil {
				return err
			}
			if within(real, lower) || within(lower, real) {
				return fmt.Errorf("%s and lower directory %s contain each other: writes would change the lower", writable, dir)
			}
		}
	}
	return nil
}

// realPath is absolute and goes through no symbolic link.
func realPath(dir string) (string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return filepath.Abs(real)
}

// within tells whether path is dir or below it. Both are absolute or both
// relative, and clean.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// plainRun is where the records of mounts without a container are.
func plainRun(base string) (runDir, error) {
	base, err := runBase(base)
	return runDir(filepath.Join(base, "overlay")), err
}

// PlainLog is the file that a detached process serving dir should log to.
func PlainLog(runBase, dir string) (string, error) {
	run, err := plainRun(runBase)
	if err != nil {
		return "", err
	}
	if dir, err = resolveDir(dir); err != nil {
		return "", err
	}
	return run.logFile(hashName(dir)), run.make()
}

// Mount lays the directories over each other and mounts the result at dir.
func (p *Plain) Mount(ctx context.Context, dir string, mo MountOptions, o Options) (*Mount, error) {
	m, err := p.mount(ctx, dir, mo, o)
	if err != nil {
		return nil, fmt.Errorf("mount at %s: %w", dir, err)
	}
	return m, nil
}

func (p *Plain) mount(ctx context.Context, dir string, mo MountOptions, o Options) (*Mount, error) {
	run, err := plainRun(o.RunBase)
	if err != nil {
		return nil, err
	}
	if dir, err = resolveDir(dir); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	key := hashName(dir)
	if err := run.ended(ctx, key); err != nil { // or it would take our record away for its own
		return nil, err
	}
	if err := clearDead(run, key, log); err != nil {
		return nil, err
	}
	if err := checkFree(dir); err != nil {
		return nil, err
	}
	var s stackOfDirs
	if err := s.open(p.Lower.BaseFirst(), p.Format.HostDirOptions()); err != nil {
		s.Close()
		return nil, err
	}
	fs, err := run.openWhenEnded(ctx, overlay.Options{
		Lower: tree.Stack(s...), Upper: p.Upper, Work: p.Work, Format: p.Format,
		ReadOnly: mo.ReadOnly, Volatile: mo.Volatile, Logger: log,
		NoRedirect: mo.NoRedirect, NoMetacopy: mo.NoMetacopy,
	})
	if err != nil {
		s.Close()
		return nil, err
	}
	return serve(dir, fs, mo, log, mountHome{run: run, key: key, layers: p.Lower.BaseFirst(), release: s.Close})
}

// stackOfDirs are host directories as layers, base first.
type stackOfDirs []tree.Tree

// openDirs is how many directories of all layers together are kept open.
const openDirs = 1024

func (s *stackOfDirs) open(dirs []string, o tree.HostDirOptions) error {
	o.OpenDirs = min(64, max(1, openDirs/len(dirs)))
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("lower directory: %w", err)
		}
		if !info.IsDir() {
			return fmt.Errorf("lower directory %s: is not a directory", dir)
		}
		d, err := tree.OpenHostDir(dir, o)
		if err != nil {
			return fmt.Errorf("lower directory %s: %w", dir, err)
		}
		*s = append(*s, d)
	}
	return nil
}

func (s stackOfDirs) Close() error {
	var first error
	for _, t := range s {
		if err := t.(*tree.HostDir).Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
