package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/urfave/cli/v2"

	"strata/bench"
)

func benchFSCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "fs",
		Usage:     "how fast a mounted tree is, beside other union filesystems and a plain directory",
		ArgsUsage: "[--quick] [--only REGEXP] [--contenders LIST] [--image REF] [--upper DIR]",
		Description: `Every workload is done through every contender, in rounds: one after the other,
in an order that changes, each on a mount of its own. What is shown is the
median time of one operation, and behind it how many times that of --against
it is. What is called cold begins with empty caches, which takes root; what is
called warm was done once before.

All contenders stack the same trees, which are made up: one of 30,000 names
shaped like a distribution, and others. --image shows an image of the store
instead of that one. strata-image is a container of an image with the same
tree; the others named strata are strata overlay on directories.

Uppers are in memory where there is room, for the noise of a disk hides
what the contenders add. --upper chooses another place. What this makes is
removed at the end, also after an interrupt. A whole run takes about an hour.

Contenders:
` + indent(contenderHelp()) + `
Workloads:
` + indent(workloadHelp()) + `
Examples:
   strata bench fs --quick
   strata bench fs --only '^(find|stat)' --contenders overlayfs,strata
   strata bench fs --html report.html --json > report.json`,
		Flags: []cli.Flag{
			jsonFlag(),
			&cli.IntFlag{Name: "rounds", Value: 5, Usage: "measure each `N` times"},
			&cli.BoolFlag{Name: "quick", Usage: "use small trees and files: minutes, and rough"},
			&cli.StringFlag{Name: "only", Usage: "measure the workloads whose names match `REGEXP`"},
			&cli.StringFlag{Name: "contenders", Usage: "measure these, a `LIST` of names with commas"},
			&cli.StringFlag{Name: "against", Value: bench.Overlayfs, Usage: "show how many times `NAME` it is: " + strings.Join(bench.Baselines(), ", ")},
			&cli.StringFlag{Name: "image", Usage: "show the image `REF` of the store"},
			&cli.StringFlag{Name: "dir", Usage: "make the trees in `DIR` (default: the directory for temporary files)"},
			&cli.StringFlag{Name: "upper", Usage: "make uppers in `DIR` (default: in memory if there is room)"},
			&cli.BoolFlag{Name: "keep-caches", Usage: "do not drop the machine's caches before what is called cold"},
			&cli.StringFlag{Name: "html", Usage: "write a report with plots to `FILE`"},
			&cli.BoolFlag{Name: "targets", Usage: "show also what strata wants to reach, and whether it does"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			o, err := p.benchFSOptions(c)
			if err != nil {
				return err
			}
			line := p.newStatusLine()
			o.Progress = line.step
			report, err := bench.RunFS(c.Context, o)
			line.end()
			if err != nil {
				return fmt.Errorf("bench fs: %w", err)
			}
			if file := c.String("html"); file != "" {
				if err := writeReport(file, report); err != nil {
					return err
				}
			}
			if c.Bool("json") {
				return p.printJSON(report)
			}
			return p.printFSReport(report, c.String("against"), c.Bool("targets"))
		},
	}
}

// benchFSOptions checks the words before anything is made.
func (p *program) benchFSOptions(c *cli.Context) (bench.FSOptions, error) {
	o := bench.FSOptions{
		Rounds: c.Int("rounds"), Dir: c.String("dir"), Upper: c.String("upper"), Only: c.String("only"), KeepCaches: c.Bool("keep-caches"),
		// The very same program, though its file may have been replaced.
		Strata: bench.Command{Path: "/proc/self/exe", Name: "strata"},
	}
	if o.Rounds < 1 {
		return o, wrongUsage(c, "--rounds %d: at least one is needed", o.Rounds)
	}
	if _, err := regexp.Compile(o.Only); err != nil {
		return o, wrongUsage(c, "--only: %v", err)
	}
	if c.Bool("quick") {
		o.Sizes = bench.QuickSizes()
	}
	if list := c.String("contenders"); list != "" {
		o.Contenders = strings.Split(list, ",")
		if _, err := bench.Select(bench.Contenders(bench.ContenderOptions{}), o.Contenders); err != nil {
			return o, wrongUsage(c, "--contenders: %v", err)
		}
	}
	if against := c.String("against"); !isBaseline(against) {
		return o, wrongUsage(c, "--against %s: known are %s", against, strings.Join(bench.Baselines(), ", "))
	}
	if name := c.String("image"); name != "" {
		store, err := p.openStore()
		if err != nil {
			return o, err
		}
		if _, err := store.Image(name); err != nil {
			return o, err
		}
		o.Image = &bench.StoredImage{Root: store.Root(), Reference: name}
	}
	return o, nil
}

func isBaseline(name string) bool {
	for _, b := range bench.Baselines() {
		if b == name {
			return true
		}
	}
	return false
}

func contenderHelp() string {
	var b strings.Builder
	for _, c := range bench.Contenders(bench.ContenderOptions{}) {
		fmt.Fprintf(&b, "%-20s %s\n", c.Name(), c.About())
	}
	return b.String()
}

func workloadHelp() string {
	var b strings.Builder
	for _, w := range bench.Workloads() {
		fmt.Fprintf(&b, "%-16s %s\n", w.Name, w.About)
	}
	return b.String()
}

// writeReport writes the page in one step.
func writeReport(file string, report *bench.FSReport) error {
	f, err := renameio.NewPendingFile(file, renameio.WithPermissions(0o644))
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	defer f.Cleanup()
	if err := report.WriteHTML(f); err != nil {
		return fmt.Errorf("write the report %s: %w", file, err)
	}
	return f.CloseAtomicallyReplace()
}

// statusLine says on a terminal what is being measured, always in the same line.
type statusLine struct {
	*program
	shown bool
}

func (p *program) newStatusLine() *statusLine { return &statusLine{program: p} }

// eraseLine is what a terminal takes for "begin this line anew".
const eraseLine = "\r\x1b[K"

func (l *statusLine) step(s bench.Step) {
	if !isTerminal(l.Stderr) {
		return
	}
	l.shown = true
	fmt.Fprint(l.Stderr, eraseLine)
	if s.Total > 0 {
		fmt.Fprintf(l.Stderr, "%3d %%  round %d: ", 100*s.Done/s.Total, s.Round)
	}
	fmt.Fprintf(l.Stderr, "%s, %s", s.Workload, s.Contender)
}

func (l *statusLine) end() {
	if l.shown {
		fmt.Fprint(l.Stderr, eraseLine)
	}
}
