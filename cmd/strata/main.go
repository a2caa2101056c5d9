// Command strata keeps container images as layers over shared contents, mounts
// containers of them, and shows how all of that works.
//
// Every command is one file with one constructor; app.go lists them. What
// they have in common is in app.go (flags, store, exit status), output.go
// (tables, JSON, sizes) and hint.go (what may have been meant).
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program right away
	os.Exit(run(ctx, Env{
		Args:   helperArgs(os.Args[0], os.Args[1:]),
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		Getenv: os.Getenv,
	}))
}
