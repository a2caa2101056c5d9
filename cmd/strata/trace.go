package main

import (
	"encoding/json"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"github.com/urfave/cli/v2"

	"strata/internal/container"
	"strata/internal/oci"
)

func traceCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "trace",
		Usage:     "watch what happens in a mounted container, as it happens",
		ArgsUsage: "[--json] CONTAINER|DIR",
		Description: `Prints a line for every operation that reaches strata: what was asked, which
layer answered, and what was copied up or hidden for it. Ends with Ctrl-C or
with the mount. DIR is where a mount of strata overlay is.

The kernel answers for itself what it knows already. Mount with -o observe to see
everything; that is slower.

With --json: the mount first, then an object a line.

Examples:
   strata mount -o observe web && strata trace web
   strata trace --json web | jq 'select(.op == "copy-up")'`,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, 1); err != nil {
				return err
			}
			mount, err := p.served(c.Args().First())
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			if c.Bool("json") {
				out := json.NewEncoder(p.Stdout)
				out.SetEscapeHTML(false)
				return mount.Trace(ctx,
					func(h container.TraceHeader) error { return out.Encode(h) },
					func(e container.TraceEvent) error { return out.Encode(e) })
			}
			return mount.Trace(ctx, p.traceHeader, p.traceLine)
		},
	}
}

// served finds a mount by the container's name or by its directory.
func (p *program) served(arg string) (container.Served, error) {
	ct, err := p.mountedAs(arg)
	switch {
	case err != nil:
		return container.Served{}, err
	case ct == nil:
		return container.ServedAt(arg, p.run)
	}
	return ct.Served(), nil
}

func (p *program) traceHeader(h container.TraceHeader) error {
	what := "the kernel keeps nothing (-o observe): all that happens is here"
	if h.Mode == "cached" {
		what = "what the kernel knows already, it answers without asking (mount with -o observe to see that, too)"
	}
	_, err := fmt.Fprintf(p.Stderr, "watching %s: %s\n%-12s  %-11s  %-12s  %9s  %8s  %s\n",
		h.Mountpoint, what, "TIME", "OPERATION", "LAYER", "BYTES", "TOOK", "PATH")
	return err
}

func (p *program) traceLine(e container.TraceEvent) error {
	if e.Dropped > 0 {
		fmt.Fprintf(p.Stderr, "%d operations came faster than they could be shown\n", e.Dropped)
	}
	layer := e.Layer
	if diffID, err := oci.ParseDiffID(layer); err == nil {
		layer = diffID.Short()
	}
	bytes := ""
	if e.Bytes > 0 {
		bytes = units.HumanSize(float64(e.Bytes))
	}
	line := fmt.Sprintf("%-12s  %-11s  %-12s  %9s  %8s  %s",
		e.Time.Local().Format("15:04:05.000"), e.Op, layer, bytes,
		time.Duration(e.Micros*float64(time.Microsecond)).Round(100*time.Nanosecond), e.Path)
	if e.To != "" {
		line += "  " + e.To
	}
	if e.Error != "" {
		line += "  " + e.Error
	}
	return p.println(line)
}
