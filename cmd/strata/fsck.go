package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"strata/internal/oci"
	"strata/layerstore"
)

func fsckCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "fsck",
		Usage:     "verify all that is in the store, and mend what can be mended",
		ArgsUsage: "[--repair [--from PATH]...] [--throttle BYTES] [--restart] [--json]",
		Description: `Every byte is read: contents must hash to their names, tars and blobs to their
digests, chains must be what their layers give. Each damage is told with what it
means. It runs beside mounts, loads and gc. If it is interrupted, the next fsck goes
on where it was; --restart begins anew. Without damage the exit status is 0.

With --repair, chains are derived again, layers and contents are read again from
kept blobs, from images in an archive or layout (--from), or from the registry
that an image was pulled from, and what nothing needs is removed. What could not
be mended is told, and the exit status is 1.

Examples:
   strata fsck
   strata fsck --throttle 20MB
   strata fsck --repair --from debian.tar`,
		Flags: []cli.Flag{
			jsonFlag(), quietFlag(), plainHTTPFlag(),
			&cli.BoolFlag{Name: "repair", Usage: "mend what can be mended"},
			&cli.StringSliceFlag{Name: "from", Usage: "with --repair: take what is damaged from the archive or layout at `PATH`"},
			&cli.BoolFlag{Name: "offline", Usage: "with --repair: ask no registry"},
			&cli.StringFlag{Name: "throttle", Usage: "read at most so many `BYTES` a second, as 20MB"},
			&cli.BoolFlag{Name: "restart", Usage: "begin anew, though an interrupted run has done a part"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			return p.fsck(c)
		},
	}
}

// fsckJSON is what a check has looked at and found.
type fsckJSON struct {
	Root       string       `json:"root"`
	Resumed    *time.Time   `json:"resumed,omitempty"`
	Contents   int          `json:"contents"`
	Layers     int          `json:"layers"`
	Chains     int          `json:"chains"`
	Images     int          `json:"images"`
	Containers int          `json:"containers"`
	Bytes      int64        `json:"bytes"`
	Damages    []damageJSON `json:"damages"`
}

type damageJSON struct {
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Path        string `json:"path"`
	Problem     string `json:"problem"`
	Consequence string `json:"consequence"`
	Repaired    string `json:"repaired,omitempty"`
	Left        string `json:"left,omitempty"`
}

func (p *program) fsck(c *cli.Context) error {
	o := layerstore.FsckOptions{Repair: c.Bool("repair"), Restart: c.Bool("restart")}
	if s := c.String("throttle"); s != "" {
		n, err := units.FromHumanSize(s)
		if err != nil || n <= 0 {
			return wrongUsage(c, "--throttle %q: want bytes a second, such as 500kB or 20MB", s)
		}
		o.BytesPerSecond = n
	}
	for _, flag := range []string{"from", "offline"} {
		if c.IsSet(flag) && !o.Repair {
			return wrongUsage(c, "--%s says how to mend: add --repair", flag)
		}
	}
	if !c.Bool("offline") {
		o.Pull = func(ctx context.Context, ref oci.Reference) (*oci.Image, error) {
			return p.registries(c).Pull(ctx, ref, oci.PullOptions{})
		}
	}
	for _, path := range c.StringSlice("from") {
		archive, err := oci.OpenArchive(c.Context, path, oci.ArchiveOptions{})
		if err != nil {
			return err
		}
		defer archive.Close()
		images, err := archive.Images()
		if err != nil {
			return err
		}
		o.Images = append(o.Images, images...)
	}
	store, err := p.openStore()
	if err != nil {
		return err
	}
	containers, err := p.openContainers()
	if err != nil {
		return err
	}
	end := func() {}
	if !c.Bool("quiet") && isTerminal(p.Stderr) {
		o.Progress, end = fsckBar(p.Stderr)
	}
	report, err := store.Fsck(c.Context, o)
	end()
	damages := report.Damages
	list, _ := containers.List() // what is wrong with one, Check tells
	if err == nil {
		var bad []layerstore.Damage
		if bad, err = containers.Check(c.Context); len(bad) > 0 {
			damages = append(damages, bad...)
		}
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintf(p.Stderr, "strata: %s so far; the next fsck goes on from here\n", verdict(damages, o.Repair))
	}
	if c.Bool("json") {
		if err := p.printJSON(newFsckJSON(store, report, damages, len(list))); err != nil {
			return err
		}
	} else if err := p.printDamages(report, damages); err != nil {
		return err
	}
	if err != nil {
		return err // so nothing is said of what was not looked at
	}
	if !c.Bool("json") {
		if err := p.printFsck(report, damages, len(list), o.Repair); err != nil {
			return err
		}
	}
	return stillDamaged(store, damages, o.Repair)
}

// stillDamaged is the error for damage that is left.
func stillDamaged(store *layerstore.Store, damages []layerstore.Damage, repair bool) error {
	left := 0
	for _, d := range damages {
		if d.Repaired == "" {
			left++
		}
	}
	if left == 0 {
		return nil
	}
	return &damagedError{root: store.Root(), left: left, repair: repair}
}

// damagedError says that a store is damaged.
type damagedError struct {
	root   string
	left   int
	repair bool // has been tried
}

func (e *damagedError) Error() string {
	if e.repair {
		return fmt.Sprintf("the store %s: %s could not be mended", e.root, count(e.left, "damage", "damages"))
	}
	return fmt.Sprintf("the store %s has %s", e.root, count(e.left, "damage", "damages"))
}

func newFsckJSON(store *layerstore.Store, r layerstore.FsckReport, damages []layerstore.Damage, containers int) fsckJSON {
	out := fsckJSON{Root: store.Root(), Contents: r.Objects, Layers: r.Layers, Chains: r.Chains, Images: r.Images,
		Containers: containers, Bytes: r.Bytes, Damages: []damageJSON{}}
	if !r.Resumed.IsZero() {
		out.Resumed = &r.Resumed
	}
	for _, d := range damages {
		j := damageJSON{Kind: d.Kind, Name: d.Name, Path: d.Path, Problem: d.Err.Error(), Consequence: d.Consequence, Repaired: d.Repaired}
		if d.Left != nil {
			j.Left = d.Left.Error()
		}
		out.Damages = append(out.Damages, j)
	}
	return out
}

func (p *program) printDamages(r layerstore.FsckReport, damages []layerstore.Damage) error {
	if !r.Resumed.IsZero() {
		fmt.Fprintf(p.Stderr, "strata: gone on with the run of %s; --restart begins anew\n", r.Resumed.Local().Format(time.DateTime))
	}
	for _, d := range damages {
		lines := []string{fmt.Sprintf("%s %s: %v", d.Kind, shownText(d.Name), d.Err)}
		if d.Kind != "leftover" && d.Kind != "store" {
			lines = append(lines, "  file: "+shownText(d.Path))
		}
		lines = append(lines, "  so: "+shownText(d.Consequence))
		switch {
		case d.Repaired != "":
			lines = append(lines, "  repaired: "+shownText(d.Repaired))
		case d.Left != nil:
			lines = append(lines, "  left: "+shownText(d.Left.Error()))
		}
		for _, line := range lines {
			if err := p.println(line); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *program) printFsck(r layerstore.FsckReport, damages []layerstore.Damage, containers int, repair bool) error {
	return p.println(fmt.Sprintf("checked %s, %s, %s, %s, %s; read %s: %s",
		count(r.Objects, "content", "contents"), count(r.Layers, "layer", "layers"), count(r.Chains, "chain", "chains"),
		count(r.Images, "image", "images"), count(containers, "container", "containers"), size(r.Bytes), verdict(damages, repair)))
}

func verdict(damages []layerstore.Damage, repair bool) string {
	repaired := 0
	for _, d := range damages {
		if d.Repaired != "" {
			repaired++
		}
	}
	switch {
	case len(damages) == 0:
		return "no damage"
	case repair:
		return fmt.Sprintf("%s, %d repaired", count(len(damages), "damage", "damages"), repaired)
	}
	return count(len(damages), "damage", "damages")
}

// fsckBar shows how far a check is.
func fsckBar(out io.Writer) (move func(done, total int64), end func()) {
	bars := mpb.New(mpb.WithOutput(out), mpb.WithWidth(48))
	bar := bars.AddBar(0,
		mpb.PrependDecorators(decor.Name("checking ")),
		mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f"), decor.Percentage(decor.WCSyncSpace), decor.Name(" "),
			decor.AverageETA(decor.ET_STYLE_GO)))
	move = func(done, total int64) {
		bar.SetTotal(max(total, 1), false)
		bar.SetCurrent(done)
	}
	return move, func() {
		bar.Abort(false)
		bars.Wait()
	}
}
