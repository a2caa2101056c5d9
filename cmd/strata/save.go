package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"strata/internal/oci"
	"strata/layerstore"
)

func saveCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "save",
		Usage:     "write images into an archive",
		ArgsUsage: "[-o FILE] [--format docker|oci] IMAGE...",
		Description: `The archive is a tar that docker load, podman load, skopeo and strata load read;
the same images give the same bytes. Both formats hold an OCI image layout, with
manifests and blobs as they were pulled or loaded; docker adds the file by which
older programs find config and layers. An image named by its id has no name in
the archive.

Examples:
   strata save debian:12 -o debian.tar
   strata save nginx:1 redis:1 | zstd > both.tar.zst
   mkdir layout && strata save --format oci debian:12 | tar -x -C layout`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "-", DefaultText: "standard output", Usage: "write to `FILE`; - is standard output"},
			&cli.StringFlag{Name: "format", Value: string(oci.FormDocker), Usage: "`docker` or oci"},
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 1, -1); err != nil {
				return err
			}
			return p.save(c)
		},
	}
}

func (p *program) save(c *cli.Context) error {
	form, file := oci.ArchiveForm(c.String("format")), c.String("output")
	if form != oci.FormDocker && form != oci.FormOCI {
		return wrongUsage(c, "--format %q is not known, want docker or oci", form)
	}
	if file == "-" && isTerminal(p.Stdout) {
		return wrongUsage(c, "an archive is not for a terminal to show: name a file with -o, or redirect the output")
	}
	if file == "" {
		return wrongUsage(c, "-o needs the name of a file")
	}
	var images []*oci.Image
	for _, name := range c.Args().Slice() {
		img, _, err := p.exported(c, name, layerstore.ExportOptions{})
		if err != nil {
			return err
		}
		images = append(images, img)
	}
	write := func(w io.Writer) error {
		buf := bufio.NewWriterSize(w, 1<<20)
		if err := oci.SaveArchive(c.Context, buf, images, form); err != nil {
			return err
		}
		return buf.Flush()
	}
	if file == "-" {
		return write(p.Stdout)
	}
	return writeWhole(file, write)
}

// writeWhole writes a file that is there when all of it is. What is no regular
// file, such as a FIFO, is written as it is.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	fi, err := os.Stat(path)
	switch {
	case err == nil && fi.IsDir():
		return fmt.Errorf("save: %s is a directory: name a file", path)
	case err == nil && !fi.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("save: %w", err)
		}
		return errors.Join(write(f), f.Close())
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("save: %w", err)
	}
	// Beside it, for only there a rename is one step. An image is for nobody
	// else to read, as docker has it.
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		if named := (*fs.PathError)(nil); errors.As(err, &named) {
			err = named.Err // of a name that nobody has typed
		}
		return fmt.Errorf("save: create %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	if err := errors.Join(write(tmp), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
