package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// demoJSON is what demo --json prints. Bytes are allocated blocks, as du counts
// them.
type demoJSON struct {
	Mounted     bool                `json:"mounted"`
	Reason      string              `json:"reason,omitempty"` // why not
	Dir         string              `json:"dir,omitempty"`    // what was kept: store, and copies to compare
	Containers  []demoContainerJSON `json:"containers"`
	LayersBytes int64               `json:"layersBytes"` // the store without its containers
	StoreBytes  int64               `json:"storeBytes"`  // the whole store
	CopiesBytes int64               `json:"copiesBytes"` // all full copies
}

// demoContainerJSON is one container of the demo.
type demoContainerJSON struct {
	Name      string `json:"name"`
	ID        string `json:"id"`
	Image     string `json:"image"`
	OwnBytes  int64  `json:"ownBytes"`  // its directory in the store
	CopyBytes int64  `json:"copyBytes"` // a full copy of what it sees
}

// measure makes the full copies, ends the mounts and measures everything.
func (d *demo) measure(ctx context.Context) (demoJSON, error) {
	figures := demoJSON{Mounted: d.noMount == nil}
	if d.noMount != nil {
		figures.Reason = d.noMount.Error()
	}
	copies := filepath.Join(d.dir, "copies")
	if err := os.Mkdir(copies, 0o755); err != nil {
		return figures, err
	}
	for _, ct := range d.containers {
		if err := ctx.Err(); err != nil {
			return figures, err
		}
		if err := ct.view.copyTo(filepath.Join(copies, ct.Name)); err != nil {
			return figures, fmt.Errorf("copy container %s: %w", ct.Name, err)
		}
	}
	if err := d.closeViews(); err != nil {
		return figures, err
	}
	if err := syncDisk(d.dir); err != nil {
		return figures, err
	}
	var err error
	if figures.StoreBytes, err = diskUse(d.root); err != nil {
		return figures, err
	}
	figures.LayersBytes = figures.StoreBytes
	for _, ct := range d.containers {
		c := demoContainerJSON{Name: ct.Name, ID: string(ct.ID), Image: ct.Reference}
		if c.OwnBytes, err = diskUse(ct.Dir()); err != nil {
			return figures, err
		}
		if c.CopyBytes, err = diskUse(filepath.Join(copies, ct.Name)); err != nil {
			return figures, err
		}
		figures.LayersBytes -= c.OwnBytes
		figures.CopiesBytes += c.CopyBytes
		figures.Containers = append(figures.Containers, c)
	}
	return figures, nil
}

// syncDisk lets the filesystem decide how many blocks what was written takes.
func syncDisk(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

// diskUse adds up the allocated blocks of dir and all below it, an inode with
// several names once.
func diskUse(dir string) (int64, error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	var sum int64
	err := filepath.WalkDir(dir, func(file string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(file, &st); err != nil {
			return &os.PathError{Op: "lstat", Path: file, Err: err}
		}
		if id := (inode{st.Dev, st.Ino}); !seen[id] {
			seen[id] = true
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum, err
}

func (d *demo) showFigures(f demoJSON) error {
	d.say(`

5. What that saves

Each container was also copied in full, file by file, to compare. These are the
blocks on disk, as du counts them:

`)
	t := newTable("", "FULL COPY", "WITH LAYERS", "")
	for _, c := range f.Containers {
		t.AppendRow([]any{c.Name, size(c.CopyBytes), size(c.OwnBytes), "its upper"})
	}
	t.AppendRow([]any{"layers", "", size(f.LayersBytes), "stored once: contents, names, images"})
	t.AppendRow([]any{"together", size(f.CopiesBytes), size(f.StoreBytes), ""})
	d.Stdout = &indenter{out: d.Stdout, margin: "    "}
	if err := d.printTable(t); err != nil {
		return err
	}
	d.Stdout = d.Stdout.(*indenter).out
	first := f.Containers[0]
	d.say(`

The next container of %s takes %s instead of %s, and more only when
it writes more.
`, first.Image, size(first.OwnBytes), size(first.CopyBytes))
	return nil
}

// sayKept tells how to look around in a store that was kept.
func (d *demo) sayKept() {
	d.say(`

All of it was kept. To look around:

    export STRATA_ROOT=%s
    strata images
    strata ps
    strata diff db-1
    strata explain db-1 /etc/motd
    strata df -v

The full copies are in %s. To remove it all:

    rm -r %s
`, d.root, filepath.Join(d.dir, "copies"), d.dir)
}

func trimRight(line string) string { return strings.TrimRight(line, " ") }
