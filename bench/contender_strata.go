package bench

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// command makes a command line of strata. It is always a process of its own, as
// for everybody else who is measured.
func (o *ContenderOptions) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, o.Strata.Path, append([]string{"--run", filepath.Join(o.Dir, "run")}, args...)...)
	if o.Strata.Name != "" {
		cmd.Args[0] = o.Strata.Name
	}
	return cmd
}

// foreground is command for what serves a mount: it ends with that, whatever
// becomes of the context in which it was started.
func (o *ContenderOptions) foreground(args ...string) *exec.Cmd {
	return o.command(context.Background(), args...)
}

func (o *ContenderOptions) missing() error {
	if o.Strata.Path == "" {
		return errors.New("this program was not told where the command strata is")
	}
	return nil
}

func (o *ContenderOptions) version() string {
	if o.missing() != nil {
		return ""
	}
	out, err := o.command(context.Background(), "version").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimPrefix(string(out), "strata "))
}

// strataOverlay is strata over plain directories, which everybody else takes, too.
type strataOverlay struct {
	name, about string
	mount       string // mount options
	options     ContenderOptions
}

func (s *strataOverlay) Name() string    { return s.name }
func (s *strataOverlay) About() string   { return s.about }
func (s *strataOverlay) Version() string { return s.options.version() }
func (s *strataOverlay) Missing() error  { return s.options.missing() }

func (s *strataOverlay) Mount(ctx context.Context, p Place) (*View, error) {
	upper, work, merged, err := p.uppers()
	if err != nil {
		return nil, err
	}
	options := p.Lower.String() + ",upperdir=" + upper + ",workdir=" + work
	if s.mount != "" {
		options += "," + s.mount
	}
	return serveView(ctx, merged, s.options.foreground("overlay", "--foreground", "-o", options, merged))
}

// strataImage is a container of an image: the same tree, out of strata's store.
// Trees that are no image yet are made one and loaded when first asked for. The
// store is in the contender's directory; a container's upper lies in the store.
type strataImage struct {
	options ContenderOptions
	loaded  map[string]StoredImage // by the lowers
}

func (s *strataImage) Name() string { return StrataImage }
func (s *strataImage) About() string {
	return "a container of strata: the same tree as an image in a store"
}
func (s *strataImage) Version() string { return s.options.version() }
func (s *strataImage) Missing() error  { return s.options.missing() }

func (s *strataImage) Mount(ctx context.Context, p Place) (*View, error) {
	if p.Own {
		if err := s.sameDisk(p); err != nil {
			return nil, err
		}
	}
	image, err := s.image(ctx, p)
	if err != nil {
		return nil, err
	}
	merged := filepath.Join(p.Scratch, "merged")
	if err := os.Mkdir(merged, 0o755); err != nil {
		return nil, err
	}
	id, err := finish(ctx, s.options.command(ctx, "--root", image.Root, "create", image.Reference))
	if err != nil {
		return nil, err
	}
	id = strings.TrimSpace(id)
	remove := func() error { // also after an interrupt
		_, err := finish(context.WithoutCancel(ctx), s.options.command(context.WithoutCancel(ctx), "--root", image.Root, "rm", id))
		return err
	}
	v, err := serveView(ctx, merged, s.options.foreground("--root", image.Root, "mount", "--foreground", id, merged))
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	unmount := v.close
	v.close = func() error { return errors.Join(unmount(), remove()) }
	return v, nil
}

// sameDisk leaves out what could not be compared.
func (s *strataImage) sameDisk(p Place) error {
	root := s.options.Dir
	if p.Image != nil {
		root = p.Image.Root
	}
	store, err := device(root)
	if err != nil {
		return err
	}
	scratch, err := device(p.Scratch)
	if err == nil && store != scratch {
		err = &LeftOutError{"has its upper in the store, on another filesystem than the uppers of the others"}
	}
	return err
}

// image finds the image of a tree, or loads the lowers as one.
func (s *strataImage) image(ctx context.Context, p Place) (StoredImage, error) {
	if p.Image != nil {
		return *p.Image, nil
	}
	key := p.Lower.String()
	if image, ok := s.loaded[key]; ok {
		return image, nil
	}
	if s.loaded == nil {
		s.loaded = map[string]StoredImage{}
	}
	image := StoredImage{Root: filepath.Join(s.options.Dir, "store"), Reference: fmt.Sprintf("bench/%d:1", len(s.loaded))}
	dir, err := os.MkdirTemp(s.options.Dir, "image-*")
	if err != nil {
		return image, err
	}
	defer os.RemoveAll(dir)
	archive := filepath.Join(dir, "image.tar")
	if err := packImage(ctx, image.Reference, p.Lower.BaseFirst(), dir, archive); err != nil {
		return image, fmt.Errorf("make an image: %w", err)
	}
	if _, err := finish(ctx, s.options.command(ctx, "--root", image.Root, "load", "-q", archive)); err != nil {
		return image, err
	}
	s.loaded[key] = image
	return image, nil
}

// packImage writes a docker archive of one image whose layers, base first, are
// the given directories. They have no whiteouts.
func packImage(ctx context.Context, reference string, layers []string, dir, archive string) error {
	var names, diffIDs []string
	for i, layer := range layers {
		name := fmt.Sprintf("layer-%d.tar", i)
		if _, err := output(ctx, "tar", "--numeric-owner", "--xattrs", "-C", layer, "-cf", filepath.Join(dir, name), "."); err != nil {
			return err
		}
		sum, err := sumFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		names, diffIDs = append(names, name), append(diffIDs, sum)
	}
	config := map[string]any{
		"architecture": "amd64", "os": "linux", "config": map[string]any{},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	}
	manifest := []any{map[string]any{"Config": "config.json", "RepoTags": []string{reference}, "Layers": names}}
	for name, v := range map[string]any{"config.json": config, "manifest.json": manifest} {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	args := append([]string{"-C", dir, "--remove-files", "-cf", archive}, append(names, "config.json", "manifest.json")...)
	_, err := output(ctx, "tar", args...)
	return err
}

func sumFile(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("sha256:%x", h.Sum(nil)), err
}
