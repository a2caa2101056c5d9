package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst reorders a command line so that the flag parser, which stops at
// the first other word, finds all flags: those of the program go before the
// command's name, those of the command right behind its name, or its two names.
// What follows -- stays where it is. "help COMMAND" becomes "COMMAND --help".
func flagsFirst(app *cli.App, args []string) []string {
	var global, local, rest []string
	var command *cli.Command
	var names []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			rest = append(rest, args[i:]...)
			i = len(args)
		case len(arg) < 2 || arg[0] != '-':
			if command == nil && arg == "help" {
				local = append(local, "--help")
				continue
			}
			if command == nil {
				if command = findCommand(app.Commands, arg); command == nil {
					return append(global, args[i:]...) // the parser will say what is wrong
				}
				names = append(names, command.Name)
				continue
			}
			if sub := findCommand(command.Subcommands, arg); sub != nil && len(rest) == 0 {
				command, names = sub, append(names, sub.Name)
				continue
			}
			rest = append(rest, arg)
		default:
			to := &local
			flags := app.Flags
			if findFlag(app.Flags, arg) != nil || command == nil {
				to = &global
			} else {
				flags = command.Flags
			}
			if short := arg[:2]; findFlag(flags, arg) == nil && arg[1] != '-' && takesValue(findFlag(flags, short)) {
				*to = append(*to, oneForm(findFlag(flags, short), short), arg[2:])
				continue
			}
			*to = append(*to, oneForm(findFlag(flags, arg), arg))
			if takesValue(findFlag(flags, arg)) && !strings.Contains(arg, "=") && i+1 < len(args) {
				i++
				*to = append(*to, args[i])
			}
		}
	}
	return slices.Concat(global, names, local, rest)
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// findFlag returns the flag that arg, which begins with -, sets.
func findFlag(flags []cli.Flag, arg string) cli.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// oneForm calls a flag that may be given several times by its first name: the
// parser refuses to hear of it by two.
func oneForm(f cli.Flag, arg string) string {
	name, value, ok := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	if _, many := f.(*cli.StringSliceFlag); !many || name == f.Names()[0] {
		return arg
	}
	if arg = "--" + f.Names()[0]; ok {
		arg += "=" + value
	}
	return arg
}

func takesValue(f cli.Flag) bool {
	if f == nil {
		return false
	}
	_, isBool := f.(*cli.BoolFlag)
	return !isBool
}
