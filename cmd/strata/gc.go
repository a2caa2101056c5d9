package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"strata/layerstore"
)

func gcCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "gc",
		Usage:     "remove what no image and no container needs, or say who needs it",
		ArgsUsage: "[--keep-untagged] [--wait TIME] [--explain DIGEST|NAME|PATH] [--json]",
		Description: `Images without a name go, too, unless a container was made of them or
--keep-untagged is given; then layers, chains and contents that nothing needs.
It runs beside mounts, and waits for loads and pulls to end: these keep what they
have found in the store. After --wait it says which process that is.

With --explain nothing is removed. It says who holds an object, layer, blob,
chain, manifest, config, image or container, given by its digest, id or name, or
a file given by its path below the store, or that nothing does.

Examples:
   strata gc
   strata gc --explain 5891b5b522d5
   strata gc --explain /var/lib/strata/layers/8125160539bc*/tree`,
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.StringFlag{Name: "explain", Usage: "say who holds `WHAT`, and remove nothing"},
			&cli.BoolFlag{Name: "keep-untagged", Usage: "keep images that have lost their last name"},
			&cli.DurationFlag{Name: "wait", Value: layerstore.Patience, Usage: "wait so long for others to let go of the store: 30s, 1h"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			if c.IsSet("explain") {
				return p.gcExplain(c, c.String("explain"))
			}
			if c.Duration("wait") <= 0 {
				return wrongUsage(c, "--wait %v: want a time above zero, such as 30s", c.Duration("wait"))
			}
			return p.gc(c)
		},
	}
}

// freedJSON is what gc has removed.
type freedJSON struct {
	Images   int   `json:"images"`
	Layers   int   `json:"layers"`
	Chains   int   `json:"chains"`
	Contents int   `json:"contents"`
	Bytes    int64 `json:"bytes"`
	Swept    int64 `json:"sweptBytes"` // what dead processes had left
}

func (p *program) gc(c *cli.Context) error {
	store, err := p.openStore()
	if err != nil {
		return err
	}
	freed, err := store.GC(c.Context, layerstore.GCOptions{KeepUntagged: c.Bool("keep-untagged"), Wait: c.Duration("wait")})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.printJSON(freedJSON{freed.Images, freed.Layers, freed.Chains, freed.Objects, freed.Bytes, store.Swept()})
	}
	if swept := store.Swept(); swept > 0 {
		fmt.Fprintf(p.Stderr, "strata: removed %s that processes which died had left\n", size(swept))
	}
	return p.println("freed " + freedText(freed))
}

// freedText says how much was freed by what.
func freedText(freed layerstore.Freed) string {
	var parts []string
	for _, part := range []struct {
		n         int
		one, many string
	}{
		{freed.Images, "image", "images"}, {freed.Layers, "layer", "layers"},
		{freed.Chains, "chain", "chains"}, {freed.Objects, "content", "contents"},
	} {
		if part.n > 0 {
			parts = append(parts, count(part.n, part.one, part.many))
		}
	}
	if len(parts) == 0 {
		return size(freed.Bytes)
	}
	return size(freed.Bytes) + ": " + strings.Join(parts, ", ")
}

// collectAfter frees what a command has let go of. That others hold the store is
// no failure of the command: it has done its work.
func (p *program) collectAfter(c *cli.Context, store *layerstore.Store) error {
	freed, err := store.GC(c.Context, layerstore.GCOptions{KeepUntagged: true, Wait: 2 * time.Second})
	if busy := (*layerstore.BusyError)(nil); errors.As(err, &busy) {
		fmt.Fprintf(p.Stderr, "strata: nothing is freed yet: %v; what is not needed any more goes with the next: strata gc\n", busy)
		return nil
	}
	if err == nil && freed.Bytes > 0 {
		fmt.Fprintf(p.Stderr, "freed %s\n", freedText(freed))
	}
	return err
}

// heldJSON is something in the store and who holds it.
type heldJSON struct {
	Kind    string       `json:"kind"`
	Name    string       `json:"name"`
	Path    string       `json:"path"`
	Bytes   int64        `json:"bytes"`
	Kept    bool         `json:"kept"`
	Note    string       `json:"note,omitempty"`
	Holders []holderJSON `json:"holders"`
}

type holderJSON struct {
	Kind    string       `json:"kind"`
	Name    string       `json:"name"`
	Paths   []string     `json:"paths,omitempty"`
	Holders []holderJSON `json:"holders"`
}

func newHolders(holders []layerstore.Holder) []holderJSON {
	list := []holderJSON{}
	for _, h := range holders {
		list = append(list, holderJSON{Kind: h.Kind, Name: h.Name, Paths: h.Paths, Holders: newHolders(h.Holders)})
	}
	return list
}

func (p *program) gcExplain(c *cli.Context, what string) error {
	store, err := p.openStore()
	if err != nil {
		return err
	}
	if abs, err := filepath.Abs(what); err == nil && strings.ContainsRune(what, '/') {
		if rel, err := filepath.Rel(store.Root(), abs); err == nil && filepath.IsLocal(rel) {
			what = abs // as the shell has completed it
		}
	}
	list, err := store.Holders(c.Context, p.imageName(what))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		all := []heldJSON{}
		for _, h := range list {
			all = append(all, heldJSON{h.Kind, h.Name, h.Path, h.Bytes, h.Kept, h.Note, newHolders(h.Holders)})
		}
		return p.printJSON(all)
	}
	for _, h := range list {
		if err := p.printHeld(h); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) printHeld(h layerstore.Held) error {
	title := h.Path
	if h.Name != h.Path {
		title = h.Kind + " " + h.Name + ": " + h.Path
	}
	verdict := "gc keeps it"
	switch {
	case !h.Kept && len(h.Holders) > 0:
		verdict = "nothing needs its holders: gc removes it"
	case !h.Kept:
		verdict = "nothing holds it: gc removes it"
	}
	if h.Note != "" {
		verdict += "; " + h.Note
	}
	if err := p.println(shownText(title) + ", " + size(h.Bytes)); err != nil {
		return err
	}
	if err := p.printHolders(h.Holders, "  "); err != nil {
		return err
	}
	return p.println("  " + verdict)
}

func (p *program) printHolders(holders []layerstore.Holder, indent string) error {
	for _, h := range holders {
		line := h.Kind + " " + shownText(h.Name)
		switch {
		case h.Kind == "layer" && len(h.Paths) > 0:
			var paths []string
			for _, path := range h.Paths {
				paths = append(paths, shownText(path))
			}
			line += " has it as " + strings.Join(paths, ", ")
			if h.More > 0 {
				line += fmt.Sprintf(" and %d more", h.More)
			}
		case h.Kind == "layer" && len(h.Holders) == 0:
			line += ", which nothing needs"
		}
		if err := p.println(indent + line); err != nil {
			return err
		}
		if err := p.printHolders(h.Holders, indent+"  "); err != nil {
			return err
		}
	}
	return nil
}
