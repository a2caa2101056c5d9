package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"strata/internal/oci"
)

func loginCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "login",
		Usage:     "keep the credentials for a registry, once it has taken them",
		ArgsUsage: "[-u USER] [--password-stdin] [HOST]",
		Description: `HOST is docker.io, or what --registry or STRATA_REGISTRY says, unless it is given.
What is missing is asked for. Credentials are kept where docker keeps them, so
that each serves the other: in the credential helper that its config names, else
in ~/.docker/config.json (DOCKER_CONFIG names another directory).

Examples:
   strata login -u ada registry.example
   pass show registry | strata login -u ada --password-stdin registry.example`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "username", Aliases: []string{"u"}, Usage: "the user's `NAME`"},
			&cli.BoolFlag{Name: "password-stdin", Usage: "read the password from standard input"},
			plainHTTPFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			return p.login(c)
		},
	}
}

func logoutCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:        "logout",
		Usage:       "forget the credentials for a registry",
		ArgsUsage:   "[HOST]",
		Description: `HOST is docker.io, or what --registry or STRATA_REGISTRY says, unless it is given.`,
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 0, 1); err != nil {
				return err
			}
			host, err := p.loginHost(c)
			if err != nil {
				return err
			}
			keptIn, had, err := oci.Logout(host)
			if err != nil {
				return err
			}
			if !had {
				return p.println(fmt.Sprintf("Not logged in to %s: there is nothing in %s", host, keptIn))
			}
			return p.println(fmt.Sprintf("Removed the credentials for %s from %s", host, keptIn))
		},
	}
}

func (p *program) loginHost(c *cli.Context) (string, error) {
	return registryHost(c, cmp.Or(c.Args().First(), p.registry, "docker.io"))
}

func (p *program) login(c *cli.Context) error {
	host, err := p.loginHost(c)
	if err != nil {
		return err
	}
	user, password, err := p.askCredentials(c, host)
	if err != nil {
		return err
	}
	keptIn, err := p.registries(c).Login(c.Context, host, user, password)
	if err != nil {
		return err
	}
	return p.println(fmt.Sprintf("Login succeeded; the credentials are kept in %s", keptIn))
}

// askCredentials takes what the flags do not say from the terminal.
func (p *program) askCredentials(c *cli.Context, host string) (user, password string, err error) {
	user = c.String("username")
	if c.Bool("password-stdin") {
		if user == "" {
			return "", "", wrongUsage(c, "--password-stdin needs -u: standard input is the password alone")
		}
		const most = 64 << 10
		b, err := io.ReadAll(io.LimitReader(p.Stdin, most))
		if err != nil {
			return "", "", fmt.Errorf("log in: read the password: %w", err)
		}
		password = strings.TrimRight(string(b), "\r\n")
	} else {
		if !isTerminal(p.Stdin) {
			return "", "", wrongUsage(c, "standard input is no terminal that could be asked for the password: give it with --password-stdin")
		}
		in := bufio.NewReader(p.Stdin)
		if user == "" {
			fmt.Fprintf(p.Stderr, "Username for %s: ", host)
			if user, err = readLine(c.Context, in); err != nil {
				return "", "", err
			}
		}
		fmt.Fprint(p.Stderr, "Password: ")
		if password, err = readSecret(c.Context, p.Stdin.(*os.File), in); err != nil {
			return "", "", err
		}
		fmt.Fprintln(p.Stderr)
	}
	if user == "" || password == "" {
		return "", "", wrongUsage(c, "the user's name and the password must not be empty")
	}
	return user, password, nil
}

// readLine reads a line, or gives up with ctx. Then the one who still reads
// ends with the program.
func readLine(ctx context.Context, in *bufio.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := in.ReadString('\n')
		read <- result{strings.TrimRight(line, "\r\n"), err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case r := <-read:
		if r.err != nil && (r.err != io.EOF || r.line == "") {
			return "", fmt.Errorf("log in: read from the terminal: %w", r.err)
		}
		return r.line, nil
	}
}

// readSecret reads a line that the terminal does not show.
func readSecret(ctx context.Context, terminal *os.File, in *bufio.Reader) (line string, err error) {
	fd := int(terminal.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	silent := *before
	silent.Lflag &^= unix.ECHO
	silent.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return "", fmt.Errorf("log in: %w", err)
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, before)) }()
	return readLine(ctx, in)
}
