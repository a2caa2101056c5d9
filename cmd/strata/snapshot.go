package main

import (
	"time"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
)

// snapshotJSON is one element of the list that snapshot --list --json prints.
type snapshotJSON struct {
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Layers  []string  `json:"layers"` // diffIDs, base first
}

func snapshotCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "snapshot",
		Usage:     "keep the state of a container, to go back to it; prints its name",
		ArgsUsage: "CONTAINER [NAME] | --list CONTAINER | --remove NAME CONTAINER",
		Description: `What the container has written becomes a layer of it, and a new upper begins
above. Contents are shared with the old one where the filesystem can do that
(btrfs, XFS), and else copied. It must not be mounted. "strata rollback" goes back.

Examples:
   strata snapshot web before-upgrade
   strata snapshot --list web`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "list", Aliases: []string{"l"}, Usage: "list snapshots, the oldest first"},
			&cli.StringFlag{Name: "remove", Usage: "forget snapshot `NAME`; the container stays as it is"},
			jsonFlag(), noTruncFlag(),
		},
		Action: func(c *cli.Context) error {
			most := 2
			if c.Bool("list") || c.String("remove") != "" {
				most = 1
			}
			if err := wantArgs(c, 1, most); err != nil {
				return err
			}
			ct, err := p.findContainer(c.Args().First())
			if err != nil {
				return err
			}
			switch {
			case c.Bool("list"):
				return p.listSnapshots(c, ct)
			case c.String("remove") != "":
				return ct.ForgetSnapshot(c.Context, c.String("remove"))
			}
			s, taken, err := ct.Snapshot(c.Context, c.Args().Get(1))
			if err != nil {
				return err
			}
			p.warnTaken(taken)
			return p.println(s.Name)
		},
	}
}

// findContainer finds a container by what people call it.
func (p *program) findContainer(name string) (*container.Container, error) {
	containers, err := p.openContainers()
	if err != nil {
		return nil, err
	}
	return containers.Find(name)
}

func (p *program) listSnapshots(c *cli.Context, ct *container.Container) error {
	list := []snapshotJSON{}
	t := newTable("SNAPSHOT", "CREATED", "LAYERS", "TOPMOST")
	for _, s := range ct.Snapshots {
		j := snapshotJSON{Name: s.Name, Created: s.Created, Layers: []string{}}
		top := ""
		for _, d := range s.Layers {
			j.Layers = append(j.Layers, string(d))
			if top = d.Short(); c.Bool("no-trunc") {
				top = string(d)
			}
		}
		list = append(list, j)
		t.AppendRow([]any{s.Name, ago(s.Created), len(s.Layers), top})
	}
	if c.Bool("json") {
		return p.printJSON(list)
	}
	return p.printTable(t)
}
