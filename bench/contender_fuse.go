package bench

import (
	"context"
	"os/exec"
	"strings"
)

// fuseOverlayfs is what podman uses where the kernel's overlayfs cannot be had.
type fuseOverlayfs struct{}

func (fuseOverlayfs) Name() string   { return FuseOverlayfs }
func (fuseOverlayfs) About() string  { return "fuse-overlayfs, as it is by default" }
func (fuseOverlayfs) Missing() error { return installed("fuse-overlayfs", "fuse-overlayfs") }
func (fuseOverlayfs) Version() string {
	return versionOf("fuse-overlayfs", "fuse-overlayfs: version ")
}

func (fuseOverlayfs) Mount(ctx context.Context, p Place) (*View, error) {
	upper, work, merged, err := p.uppers()
	if err != nil {
		return nil, err
	}
	options := p.Lower.String() + ",upperdir=" + upper + ",workdir=" + work
	return serveView(ctx, merged, exec.Command("fuse-overlayfs", "-f", "-o", options, merged))
}

// unionfsFuse is an older union filesystem, with whiteouts of its own.
type unionfsFuse struct{}

func (unionfsFuse) Name() string    { return "unionfs-fuse" }
func (unionfsFuse) About() string   { return "unionfs-fuse with cow" }
func (unionfsFuse) Missing() error  { return installed("unionfs-fuse", "unionfs-fuse") }
func (unionfsFuse) Version() string { return versionOf("unionfs-fuse", "unionfs-fuse version: ") }

func (unionfsFuse) Mount(ctx context.Context, p Place) (*View, error) {
	upper, _, merged, err := p.uppers()
	if err != nil {
		return nil, err
	}
	branches := []string{upper + "=RW"}
	for _, dir := range p.Lower {
		branches = append(branches, dir+"=RO")
	}
	const options = "cow,use_ino,suid,dev"
	return serveView(ctx, merged, exec.Command("unionfs-fuse", "-f", "-o", options, strings.Join(branches, ":"), merged))
}
