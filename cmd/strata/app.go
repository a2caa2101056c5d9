package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/urfave/cli/v2"

	"strata/internal/container"
	"strata/layerstore"
)

// Env is all that the program sees of the world, so that it runs as well
// inside a test.
type Env struct {
	Args           []string // without the program's name
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// Exit statuses. They are a promise to scripts and never change their meaning.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// program is what the commands share: the world, and the store once a command
// has asked for it.
type program struct {
	Env
	log   *slog.Logger
	root  string // of the store
	run   string // of the run state; empty means the default
	store *layerstore.Store

	registry string // where references without a host are; empty means docker.io
}

// commands is the table of contents.
func commands(p *program) []*cli.Command {
	return []*cli.Command{
		loadCommand(p),
		saveCommand(p),
		pullCommand(p),
		pushCommand(p),
		loginCommand(p),
		logoutCommand(p),
		imagesCommand(p),
		historyCommand(p),
		inspectCommand(p),
		tagCommand(p),
		rmiCommand(p),
		createCommand(p),
		mountCommand(p),
		umountCommand(p),
		psCommand(p),
		diffCommand(p),
		lsCommand(p),
		catCommand(p),
		cpCommand(p),
		commitCommand(p),
		snapshotCommand(p),
		rollbackCommand(p),
		forkCommand(p),
		squashCommand(p),
		wasteCommand(p),
		rmCommand(p),
		layersCommand(p),
		explainCommand(p),
		traceCommand(p),
		syncCommand(p),
		dfCommand(p),
		gcCommand(p),
		fsckCommand(p),
		benchCommand(p),
		overlayCommand(p),
		demoCommand(p),
		versionCommand(p),
	}
}

// run runs the program once and returns its exit status.
func run(ctx context.Context, env Env) int {
	p := &program{Env: env}
	app := newApp(p)
	err := app.RunContext(ctx, append([]string{app.Name}, flagsFirst(app, env.Args)...))
	status := p.exitStatus(err)
	if p.store != nil {
		p.store.Close() // what was written is durable already
	}
	return status
}

func newApp(p *program) *cli.App {
	app := &cli.App{
		Name:  "strata",
		Usage: "container images as layers that one can look into",
		UsageText: `strata [--root DIR] COMMAND [ARGUMENTS]

A first look:
   strata pull debian:12               get an image (or: strata load debian.tar)
   strata create --name deb debian:12  make a container of one
   strata mount deb                    mount it; prints the directory
   strata diff deb                     what has been changed in it
   strata explain deb /etc/passwd      where a file comes from
   strata umount deb && strata rm deb`,
		Description: exitStatuses,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "root", Usage: "the store is in `DIR` (STRATA_ROOT; else " + layerstore.DefaultRoot() + ")"},
			&cli.StringFlag{Name: "run", Usage: "mount points and logs are in `DIR` (STRATA_RUN; else /run/strata or $XDG_RUNTIME_DIR/strata)"},
			&cli.StringFlag{Name: "registry", Usage: "names without a host, as redis:7, are on `HOST` (STRATA_REGISTRY; else docker.io)"},
			&cli.BoolFlag{Name: "debug", Usage: "log more to stderr"},
			&cli.BoolFlag{Name: "version", Usage: "print the version of the program"},
		},
		Commands:                  commands(p),
		Writer:                    p.Stdout,
		ErrWriter:                 p.Stderr,
		Reader:                    p.Stdin,
		HideVersion:               true,
		HideHelpCommand:           true, // flagsFirst turns "help X" into "X --help"
		DisableSliceFlagSeparator: true, // commas belong to the words after -o
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              flagError,
		Before: func(c *cli.Context) error {
			p.setUp(c)
			return nil
		},
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				return p.printVersion(false)
			}
			if !c.Args().Present() {
				return cli.ShowAppHelp(c)
			}
			name := c.Args().First()
			return &usageError{message: fmt.Sprintf("%q is not a command", name), hint: nearCommand(c.App, name)}
		},
	}
	plainFlags(app.Flags)
	setUpCommands(app.Name, app.Commands)
	return app
}

// setUpCommands gives all commands, and those below them, what they have in
// common.
func setUpCommands(parent string, commands []*cli.Command) {
	for _, c := range commands {
		plainFlags(c.Flags)
		c.OnUsageError = flagError
		c.UseShortOptionHandling = true
		c.HideHelpCommand = true
		name := parent + " " + c.Name // the library makes the same of it, as HelpName
		c.UsageText = strings.TrimSpace(name + " " + c.ArgsUsage)
		c.Description = strings.TrimSpace(c.Description) + "\n\n" + exitStatuses
		setUpCommands(name, c.Subcommands)
	}
}

// commandWords are those by which the command that runs is called.
func commandWords(c *cli.Context) string {
	_, words, _ := strings.Cut(c.Command.HelpName, " ") // after the program's name
	return words
}

// plainFlags leaves out of the help texts that flags are off by default.
func plainFlags(flags []cli.Flag) {
	for _, f := range flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
}

const exitStatuses = `Exit status: 0 done, 1 it failed, 2 the words were wrong.`

// setUp fills p from the global flags.
func (p *program) setUp(c *cli.Context) {
	first := func(values ...string) string {
		for _, v := range values {
			if v != "" {
				return v
			}
		}
		return ""
	}
	p.root = first(c.String("root"), p.Getenv("STRATA_ROOT"), layerstore.DefaultRoot())
	p.run = first(c.String("run"), p.Getenv("STRATA_RUN"))
	p.registry = first(c.String("registry"), p.Getenv("STRATA_REGISTRY"))
	level := slog.LevelWarn
	if c.Bool("debug") {
		level = slog.LevelDebug
	}
	p.log = slog.New(&logHandler{out: p.Stderr, level: level})
}

// openStore opens the store on first use. It is closed when the program ends.
func (p *program) openStore() (*layerstore.Store, error) {
	if p.store == nil {
		store, err := layerstore.Open(p.root, layerstore.Options{Logger: p.log})
		if err != nil {
			return nil, err
		}
		p.store = store
	}
	return p.store, nil
}

func (p *program) openContainers() (*container.Containers, error) {
	store, err := p.openStore()
	if err != nil {
		return nil, err
	}
	return container.Open(store, p.containerOptions())
}

func (p *program) containerOptions() container.Options {
	return container.Options{RunBase: p.run, Logger: p.log}
}

// usageError says that the words of the command line are wrong.
type usageError struct {
	command string // empty: no command was recognized
	message string
	hint    string // what may have been meant; may be empty
}

func (e *usageError) Error() string { return e.message }

// wrongUsage makes a usageError of the command that runs.
func wrongUsage(c *cli.Context, format string, args ...any) error {
	return &usageError{command: commandWords(c), message: fmt.Sprintf(format, args...)}
}

// wantArgs checks the number of arguments. A negative most means any number.
func wantArgs(c *cli.Context, least, most int) error {
	switch n := c.NArg(); {
	case n < least:
		return wrongUsage(c, "an argument is missing: usage: %s", c.Command.UsageText)
	case most >= 0 && n > most:
		return wrongUsage(c, "there is an argument too many, %q: usage: %s", c.Args().Get(most), c.Command.UsageText)
	}
	return nil
}

// flagError turns a complaint of the flag parser into a usageError.
func flagError(c *cli.Context, err error, isSubcommand bool) error {
	e := &usageError{message: err.Error()}
	flags := c.App.Flags
	if isSubcommand {
		e.command, flags = commandWords(c), append(flags, c.Command.Flags...)
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: "); ok {
		e.message = "there is no flag " + name
		if !isSubcommand {
			e.message += " before the command's name"
		}
		e.hint = nearFlag(flags, name)
	}
	return e
}

// exitStatus tells people what went wrong, and scripts as well.
func (p *program) exitStatus(err error) int {
	if err == nil {
		return exitDone
	}
	var usage *usageError
	var option *container.OptionError
	switch {
	case errors.As(err, &usage):
		where := ""
		if usage.command != "" {
			where = usage.command + ": "
		}
		fmt.Fprintf(p.Stderr, "strata: %s%s\n", where, usage.message)
		if usage.hint != "" {
			fmt.Fprintf(p.Stderr, "strata: did you mean %s?\n", usage.hint)
		}
		fmt.Fprintf(p.Stderr, "strata: see: %s --help\n", strings.TrimSpace("strata "+usage.command))
		return exitUsage
	case errors.As(err, &option):
		fmt.Fprintf(p.Stderr, "strata: %v\n", err)
		return exitUsage
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(p.Stderr, "strata: interrupted")
	default:
		fmt.Fprintf(p.Stderr, "strata: %v\n", err)
	}
	if hint := p.hintFor(err); hint != "" {
		fmt.Fprintf(p.Stderr, "strata: %s\n", hint)
	}
	return exitFailed
}
