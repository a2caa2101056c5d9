package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// versionJSON is what version --json prints.
type versionJSON struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func versionCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "version",
		Usage:     "print the version of the program",
		ArgsUsage: "[--json]",
		Flags:     []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			return p.printVersion(c.Bool("json"))
		},
	}
}

func (p *program) printVersion(asJSON bool) error {
	v := versionJSON{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			v.Version = info.Main.Version
		}
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	if asJSON {
		return p.printJSON(v)
	}
	_, err := fmt.Fprintf(p.Stdout, "strata %s %s %s\n", v.Version, v.Go, v.Platform)
	return err
}
