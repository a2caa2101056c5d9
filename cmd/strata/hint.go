package main

import (
	"crypto/x509"
	"errors"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"

	"strata/internal/container"
	"strata/internal/oci"
	"strata/layerstore"
	"strata/overlay/tree"
)

// nearest returns the word that s is most probably a misspelling of, "" if
// there is none near enough.
func nearest(s string, words []string) string {
	const near = 0.8
	best, found := near, ""
	for _, w := range words {
		if like := smetrics.JaroWinkler(s, w, 0.7, 4); like > best {
			best, found = like, w
		}
	}
	return found
}

func nearCommand(app *cli.App, name string) string {
	// What docker and others call the same thing.
	if ours, ok := map[string]string{
		"list": "ps", "unmount": "umount", "remove": "rm",
		"image": "images", "layer": "layers", "container": "ps", "import": "load", "du": "df", "fetch": "pull",
		"prune": "gc", "check": "fsck", "verify": "fsck",
	}[name]; ok {
		return ours
	}
	var names []string
	for _, c := range app.Commands {
		names = append(names, c.Names()...)
	}
	return nearest(name, names)
}

func nearFlag(flags []cli.Flag, name string) string {
	var names []string
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	found := nearest(strings.TrimLeft(name, "-"), names)
	switch len(found) {
	case 0:
		return ""
	case 1:
		return "-" + found
	}
	return "--" + found
}

// hintFor says what to do about an error, "" if there is nothing to say that
// the error does not say itself.
func (p *program) hintFor(err error) string {
	var noContainer *container.NotFoundError
	var noImage *layerstore.NotFoundError
	var mounted *container.MountedError
	var registry *oci.RegistryError
	var busy *layerstore.BusyError
	var damaged *damagedError
	var corrupt *tree.CorruptError
	switch {
	case errors.As(err, &registry):
		return registryHint(registry)
	case errors.As(err, &busy):
		return "wait for it to end, or let gc wait: strata gc --wait 1h"
	case errors.As(err, &damaged) && !damaged.repair:
		return "mend what can be mended: strata fsck --repair"
	case errors.As(err, &corrupt), errors.Is(err, layerstore.ErrDamaged):
		return "see what is damaged, and what that means: strata fsck"
	case errors.As(err, &noContainer):
		if p.store != nil {
			if _, err := p.store.Image(p.imageName(noContainer.Name)); err == nil {
				return noContainer.Name + " is an image; make a container of it: strata create " + noContainer.Name
			}
		}
		if near := p.nearContainer(noContainer.Name); near != "" {
			return "did you mean " + near + "?"
		}
		return "see: strata ps"
	case errors.As(err, &noImage) && noImage.Kind == "image" && len(noImage.Near) == 0:
		return "see: strata images"
	case errors.As(err, &mounted) && mounted.Record.PID != 0:
		return "unmount it first: strata umount " + mounted.Record.Name
	}
	return ""
}

func registryHint(err *oci.RegistryError) string {
	loggingIn := err.Op == "log in to"
	var untrusted x509.UnknownAuthorityError
	switch {
	case errors.As(err, &untrusted):
		return "if " + err.Host + " is to be trusted, name a file with the certificate of its authority: SSL_CERT_FILE=FILE strata ..."
	case errors.Is(err, oci.ErrPlainHTTP):
		return "if it is to be trusted over this network, add --plain-http"
	case errors.Is(err, oci.ErrUnauthorized) && loggingIn:
		return "user and password are not those of " + err.Host + " (some registries want a token for a password)"
	case errors.Is(err, oci.ErrUnauthorized):
		return "if there is such an image, log in first, as somebody who may: strata login " + err.Host
	case errors.Is(err, oci.ErrNoSuchImage) && loggingIn:
		return "is " + err.Host + " a registry?"
	case errors.Is(err, oci.ErrNoSuchImage):
		return "look at the name, the tag and the registry, which is " + err.Host
	}
	return ""
}

func (p *program) nearContainer(name string) string {
	containers, err := p.openContainers()
	if err != nil {
		return ""
	}
	list, err := containers.List()
	if err != nil {
		return ""
	}
	var names []string
	for _, ct := range list {
		names = append(names, ct.Name)
	}
	return nearest(name, names)
}
