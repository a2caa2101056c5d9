package main

import (
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
)

// containerJSON is one element of the list that ps --json prints.
type containerJSON struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Reference  string    `json:"reference"` // what the image was called
	Image      string    `json:"image"`     // the image's id
	Chain      string    `json:"chain"`
	Created    time.Time `json:"created"`
	Status     string    `json:"status"` // created, mounted or dead
	Mountpoint string    `json:"mountpoint,omitempty"`
	Options    string    `json:"options,omitempty"` // of the mount, as given
	PID        int       `json:"pid,omitempty"`     // of the process that serves the mount
	UpperBytes int64     `json:"upperBytes"`        // on disk
	UpperNodes int64     `json:"upperInodes"`
}

func psCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "ps",
		Usage:     "list containers",
		ArgsUsage: "[-q]",
		Description: `Shows all containers, mounted or not, and what each has written (UPPER, as it
stands on disk). A dead one is still mounted, but its process is gone: mount
it again, or unmount it.`,
		Flags: []cli.Flag{
			jsonFlag(), noTruncFlag(),
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print ids only"},
			&cli.BoolFlag{Name: "all", Aliases: []string{"a"}, Usage: "accepted for those who are used to it: all are always shown"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 0); err != nil {
				return err
			}
			list, err := p.listContainers()
			if err != nil {
				return err
			}
			switch {
			case c.Bool("json"):
				return p.printJSON(list)
			case c.Bool("quiet"):
				return p.printIDs(list, c.Bool("no-trunc"))
			}
			t := newTable("CONTAINER ID", "IMAGE", "CREATED", "STATUS", "MOUNTPOINT", "UPPER", "NAME")
			for _, ct := range list {
				id := container.ID(ct.ID).Short()
				if c.Bool("no-trunc") {
					id = ct.ID
				}
				t.AppendRow([]any{id, ct.Reference, ago(ct.Created), ct.Status, ct.Mountpoint, size(ct.UpperBytes), ct.Name})
			}
			return p.printTable(t)
		},
	}
}

// listContainers returns all containers, the newest first.
func (p *program) listContainers() ([]containerJSON, error) {
	containers, err := p.openContainers()
	if err != nil {
		return nil, err
	}
	list, err := containers.List()
	if err != nil {
		return nil, err
	}
	shown := []containerJSON{}
	for _, ct := range list {
		state, err := ct.State()
		if err != nil {
			return nil, err
		}
		upper, err := ct.UpperSize()
		if gone := (*container.NotFoundError)(nil); errors.As(err, &gone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		j := containerJSON{
			ID: string(ct.ID), Name: ct.Name, Reference: ct.Reference, Image: string(ct.Image), Chain: string(ct.Chain),
			Created: ct.Created, Status: string(state.Status), UpperBytes: upper.Bytes, UpperNodes: upper.Inodes,
		}
		if r := state.Record; r != nil {
			j.Mountpoint, j.Options, j.PID = r.Mountpoint, r.Options, r.PID
		}
		shown = append(shown, j)
	}
	return shown, nil
}

func (p *program) printIDs(list []containerJSON, whole bool) error {
	for _, ct := range list {
		id := container.ID(ct.ID).Short()
		if whole {
			id = ct.ID
		}
		if err := p.println(id); err != nil {
			return err
		}
	}
	return nil
}
