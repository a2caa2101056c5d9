package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
	"strata/internal/oci"
	"strata/layerstore"
	"strata/testdata"
)

func demoCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "the tour: layers, containers, what they write, and what that saves",
		Description: `Needs nothing: the images are part of the program, and the store is a directory
below $TMPDIR that is removed at the end. Where nothing can be mounted, the
same work is done without a mount.

--json prints the figures of the last table alone. Bytes are allocated blocks,
as du counts them.`,
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.BoolFlag{Name: "keep", Usage: "keep the store, and say how to look around in it"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			return p.demo(c.Context, c.Bool("json"), c.Bool("keep"))
		},
	}
}

// demo is one tour. What it says are the commands that one could have typed
// oneself, and what they print.
type demo struct {
	*program   // its root is the demo's store; its Stdout is indented while a command prints
	dir        string
	containers []*demoContainer
	noMount    error // why the containers are not mounted; nil if they are
}

// demoContainer is one container and the way to its files.
type demoContainer struct {
	*container.Container
	steps []demoStep
	view  view // nil before the container was opened and after it was closed
}

func (p *program) demo(ctx context.Context, asJSON, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "strata-demo-*")
	if err != nil {
		return fmt.Errorf("a place for the demo's store: %w", err)
	}
	tour := *p
	tour.root, tour.run = filepath.Join(dir, "store"), filepath.Join(dir, "run")
	if asJSON {
		tour.Stdout = io.Discard
	}
	d := &demo{program: &tour, dir: dir}
	defer func() { err = errors.Join(err, d.end(keep && err == nil)) }()
	for _, part := range []func(context.Context) error{
		d.loadImages, d.makeContainers, d.change, d.showUpper, d.explainPaths,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	figures, err := d.measure(ctx)
	if err != nil {
		return err
	}
	if keep {
		figures.Dir = dir
	}
	if asJSON {
		return p.printJSON(figures)
	}
	if err := d.showFigures(figures); err != nil || !keep {
		return err
	}
	d.sayKept()
	return nil
}

// end unmounts what is mounted and removes everything, also after Ctrl-C.
func (d *demo) end(keep bool) error {
	errs := []error{d.closeViews()}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; what is left of the demo is in %s", err, d.dir)
	}
	if keep {
		return nil
	}
	return os.RemoveAll(d.dir)
}

func (d *demo) closeViews() error {
	var errs []error
	for _, ct := range d.containers {
		if ct.view != nil {
			errs = append(errs, ct.view.close())
			ct.view = nil
		}
	}
	return errors.Join(errs...)
}

// say prints a text. It begins on the line below the quote and ends on the one
// above, so that it reads here as it does there.
func (d *demo) say(text string, args ...any) {
	fmt.Fprintf(d.Stdout, strings.TrimPrefix(text, "\n"), args...)
}

// show prints a command line and, indented, what the command prints.
func (d *demo) show(line string, command func() error) error {
	out := d.Stdout
	defer func() { d.Stdout = out }()
	d.say("\n\n  $ %s\n", line)
	d.Stdout = &indenter{out: out, margin: "    "}
	return command()
}

// indenter puts a margin before each line.
type indenter struct {
	out    io.Writer
	margin string
	inLine bool
}

func (w *indenter) Write(data []byte) (int, error) {
	for line := range strings.Lines(string(data)) {
		if !w.inLine && line != "\n" {
			line = w.margin + line
		}
		w.inLine = !strings.HasSuffix(line, "\n")
		if _, err := io.WriteString(w.out, line); err != nil {
			return 0, err
		}
	}
	return len(data), nil
}

// The containers of the tour, in the order of the picture.
var demoContainers = []struct{ name, image string }{
	{"web-1", "demo/web:1"}, {"web-2", "demo/web:1"}, {"web-3", "demo/web:1"},
	{"db-1", "demo/db:1"}, {"db-2", "demo/db:1"},
}

const demoPicture = `
      web-1   web-2   web-3       db-1    db-2
    +-------+-------+-------+   +-------+-------+   a thin upper for each
    | upper | upper | upper |   | upper | upper |   container: what it writes
    +=======+=======+=======+   +=======+=======+
    | conf     our settings |   |               |
    +-----------------------+   | dbd           |   layers: read-only, stored
    | httpd    a web server |   |    a database |   once, shared by all that
    +-----------------------+---+---------------+   stand on them
    | base                        a tiny system |
    +-------------------------------------------+
`

// loadImages writes the images that are part of the program into an archive
// and loads that.
func (d *demo) loadImages(ctx context.Context) error {
	images, err := testdata.Load("tour")
	if err != nil {
		return err
	}
	if uid := os.Geteuid(); uid != 0 {
		// In a mount the kernel lets users change only what is theirs.
		testdata.SetOwner(images, uid, os.Getegid())
	}
	layout := filepath.Join(d.dir, "demo.oci")
	if err := testdata.WriteLayout(layout, images); err != nil {
		return err
	}
	store, err := d.openStore()
	if err != nil {
		return err
	}
	archive, err := oci.OpenArchive(ctx, layout, oci.ArchiveOptions{})
	if err != nil {
		return err
	}
	defer archive.Close()
	list, err := archive.Images()
	if err != nil {
		return err
	}
	d.say(`
What container images are made of, shown on three small ones. All of this
happens in %s.

1. An image is a stack of layers

A layer is an archive of files: those that it adds to the layers below it, those
that it replaces, and marks for those that it takes away. Images that begin
with the same layers share them. Here is what is about to be made:

%s

Loading the images stores each layer once, and within the layers each file's
contents once: base is known when web and db come, and lib/libtls.so, which
httpd and dbd both have, is new only the first time.
`, d.dir, strings.Trim(demoPicture, "\n"))
	err = d.show("strata load demo.oci", func() error {
		for _, img := range list {
			loaded, err := d.loadImage(ctx, store, img, layerstore.AddOptions{}, false)
			if err != nil {
				return err
			}
			if err := d.printLoaded("Loaded", loaded); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.show("strata layers demo/web:1", func() error {
		s, err := d.findSubject("demo/web:1")
		if err != nil {
			return err
		}
		layers, err := d.listLayers(s)
		if err != nil {
			return err
		}
		return d.printLayers(layers, false)
	})
}
