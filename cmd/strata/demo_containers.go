package main

import (
	"context"
	"fmt"

	"strata/internal/container"
)

// demoStep is one thing that a container does to its files: as one would type
// it, and as it is done.
type demoStep struct {
	line string
	why  string
	do   func(view) error
}

// demoSteps writes, overwrites, deletes and replaces a directory: something of
// everything that needs a mark in the upper.
func demoSteps(name, image string) []demoStep {
	fresh, page, gone, dir, conf := "var/log/access.log", "srv/www/index.html", "etc/os-release", "etc/httpd", "httpd.conf"
	if image == "demo/db:1" {
		fresh, page, gone, dir, conf = "var/lib/db/journal", "etc/db.conf", "etc/motd", "etc/db.d", "30-"+name+".conf"
	}
	echo := func(text, file string) string { return fmt.Sprintf("echo '%s' > %s", text, file) }
	write := func(text, file string) func(view) error {
		return func(v view) error { return v.write(file, text+"\n") }
	}
	hello, mine, setting := "hello from "+name, "this is "+name, "name "+name
	return []demoStep{
		{echo(hello, fresh), "a new file", write(hello, fresh)},
		{echo(mine, page), "a file of a layer, overwritten", write(mine, page)},
		{"rm " + gone, "a file of a layer, deleted", func(v view) error { return v.remove(gone) }},
		{"rm -r " + dir, "a directory of a layer ...", func(v view) error { return v.remove(dir) }},
		{"mkdir " + dir, "... replaced", func(v view) error { return v.mkdir(dir) }},
		{echo(setting, dir+"/"+conf), "", write(setting, dir+"/"+conf)},
	}
}

// makeContainers creates the containers and opens each: mounted if that can be
// done here.
func (d *demo) makeContainers(ctx context.Context) error {
	containers, err := d.openContainers()
	if err != nil {
		return err
	}
	for _, c := range demoContainers {
		img, err := d.store.Image(c.image)
		if err != nil {
			return err
		}
		ct, err := containers.Create(ctx, img, container.CreateOptions{Name: c.name, Reference: c.image})
		if err != nil {
			return err
		}
		dc := &demoContainer{Container: ct, steps: demoSteps(c.name, c.image)}
		d.containers = append(d.containers, dc)
		if err := d.openView(ctx, dc); err != nil {
			return err
		}
	}
	d.say(`

2. A container adds one directory to write into

Containers of one image see the same files, and none of them gets a copy. What
a container changes goes into a directory of its own, the upper; the kernel and
strata lay it over the layers when somebody looks. Five containers were made.
`)
	if d.noMount != nil {
		d.say(`

Nothing can be mounted here, because of this:

  %v

So the demo goes on without a mount: it makes the same changes by the same code,
within its own process. Only the kernel, and so other programs, cannot look in.
`, d.noMount)
		return nil
	}
	return d.show("mount -t fuse.strata", func() error {
		for _, ct := range d.containers {
			if err := d.println(fmt.Sprintf("%s on %s", ct.Name, ct.view)); err != nil {
				return err
			}
		}
		return nil
	})
}

// change lets each container take its steps and tells those of the first.
func (d *demo) change(ctx context.Context) error {
	first := d.containers[0]
	d.say("\n\nNow %s changes what it sees:\n\n", first.Name)
	for _, ct := range d.containers {
		for _, s := range ct.steps {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.do(ct.view); err != nil {
				return fmt.Errorf("container %s: %s: %w", ct.Name, s.line, err)
			}
			if ct == first {
				d.say("%s\n", trimRight(fmt.Sprintf("  %s$ %-48s %s", ct.Name, s.line, s.why)))
			}
		}
	}
	d.say(`

The others did the same with words of their own. Each sees its own changes and
nobody else's, and the layers are as they were. A for added, C for changed, D for
deleted:
`)
	return d.show("strata diff "+first.Name, func() error {
		changes, err := first.Changes(ctx)
		if err != nil {
			return err
		}
		for _, ch := range changes {
			if err := d.println(ch.Kind.String() + " " + ch.Path); err != nil {
				return err
			}
		}
		return nil
	})
}
