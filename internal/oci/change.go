package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Change is an instruction of a Dockerfile that changes an image's config, as
// docker commit --change takes it: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL,
// ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR.
type Change struct {
	name string // in capitals
	args string
	text string // as it was given
}

// ParseChange reads one instruction and tells what is wrong with it.
func ParseChange(text string) (Change, error) {
	name, args, _ := strings.Cut(strings.TrimSpace(text), " ")
	c := Change{name: strings.ToUpper(name), args: strings.TrimSpace(args), text: strings.TrimSpace(text)}
	if strings.Contains(c.args, "$") { // what it comes to depends on the image
		_, err := c.instruction()
		return c, err
	}
	return c, c.apply(&runConfig{fields: map[string]json.RawMessage{}})
}

// runConfig is the member "config" of an image's config while it is changed. What
// nobody touches stays as it is, known or not.
type runConfig struct {
	fields map[string]json.RawMessage
	cmdSet bool // by a change
}

func (r *runConfig) get(key string, v any) error {
	raw, ok := r.fields[key]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("the image's config: %s: %w", key, err)
	}
	return nil
}

func (r *runConfig) set(key string, v any) error {
	raw, err := json.Marshal(v)
	if err == nil {
		r.fields[key] = raw
	}
	return err
}

// env is what instructions expand variables from.
func (r *runConfig) env() ([]string, error) {
	var env []string
	err := r.get("Env", &env)
	return env, err
}

// instruction finds what makes the change.
func (c Change) instruction() (func(*runConfig) error, error) {
	known := map[string]func(*runConfig) error{
		"CMD": c.cmd, "ENTRYPOINT": c.entrypoint, "ENV": c.env, "EXPOSE": c.expose, "HEALTHCHECK": c.healthcheck,
		"LABEL": c.label, "ONBUILD": c.onbuild, "STOPSIGNAL": c.stopsignal, "USER": c.user, "VOLUME": c.volume, "WORKDIR": c.workdir,
	}
	do := known[c.name]
	var err error
	switch {
	case c.name == "":
		err = errors.New("it is empty")
	case do == nil:
		err = fmt.Errorf("%s does not change a config: want %s", c.name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	case c.args == "" && c.name != "CMD" && c.name != "ENTRYPOINT":
		err = fmt.Errorf("%s wants an argument", c.name)
	}
	return do, c.wrap(err)
}

func (c Change) wrap(err error) error {
	if err != nil {
		err = fmt.Errorf("change %s: %w", quote(c.text), err)
	}
	return err
}

// apply makes the change.
func (c Change) apply(r *runConfig) error {
	do, err := c.instruction()
	if err != nil {
		return err
	}
	return c.wrap(do(r))
}

func (c Change) cmd(r *runConfig) error {
	r.cmdSet = true
	return c.setCommand(r, "Cmd")
}

func (c Change) entrypoint(r *runConfig) error {
	if !r.cmdSet { // arguments for another program
		delete(r.fields, "Cmd")
	}
	return c.setCommand(r, "Entrypoint")
}

func (c Change) setCommand(r *runConfig, key string) error {
	words, err := c.command(r)
	if err != nil {
		return err
	}
	return r.set(key, words)
}

// command is a list, or a line for the image's shell.
func (c Change) command(r *runConfig) ([]string, error) {
	if words, ok := jsonWords(c.args); ok {
		return words, nil
	}
	if c.args == "" {
		return []string{}, nil
	}
	shell := []string{}
	if err := r.get("Shell", &shell); err != nil {
		return nil, err
	}
	if len(shell) == 0 {
		shell = []string{"/bin/sh", "-c"}
	}
	return append(shell, c.args), nil
}

// jsonWords reads a list of strings; what is none is a line for a shell.
func jsonWords(args string) ([]string, bool) {
	words := []string{}
	if !strings.HasPrefix(args, "[") || json.Unmarshal([]byte(args), &words) != nil {
		return nil, false
	}
	return words, true
}

// pairs reads KEY=VALUE..., or KEY VALUE with anything in the value.
func (c Change) pairs(r *runConfig) ([][2]string, error) {
	env, err := r.env()
	if err != nil {
		return nil, err
	}
	words, err := splitWords(c.args)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(words[0], "=") {
		key, value, ok := strings.Cut(c.args, " ")
		if !ok {
			return nil, fmt.Errorf("%s wants KEY=VALUE", c.name)
		}
		words = []string{key + "=" + strings.TrimSpace(value)}
	}
	var pairs [][2]string
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			return nil, fmt.Errorf("%q is no KEY=VALUE: a value with spaces is quoted", w)
		}
		if key, err = expandWord(key, env); err != nil {
			return nil, err
		}
		if value, err = expandWord(value, env); err != nil {
			return nil, err
		}
		if key == "" {
			return nil, fmt.Errorf("%q has no key", w)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

func (c Change) env(r *runConfig) error {
	pairs, err := c.pairs(r)
	if err != nil {
		return err
	}
	env, err := r.env()
	if err != nil {
		return err
	}
	for _, p := range pairs {
		i := slices.IndexFunc(env, func(have string) bool { return strings.HasPrefix(have, p[0]+"=") || have == p[0] })
		if i < 0 {
			env = append(env, "")
			i = len(env) - 1
		}
		env[i] = p[0] + "=" + p[1]
	}
	return r.set("Env", env)
}

func (c Change) label(r *runConfig) error {
	pairs, err := c.pairs(r)
	if err != nil {
		return err
	}
	labels := map[string]string{}
	if err := r.get("Labels", &labels); err != nil {
		return err
	}
	if labels == nil { // null
		labels = map[string]string{}
	}
	for _, p := range pairs {
		labels[p[0]] = p[1]
	}
	return r.set("Labels", labels)
}

// words are the expanded arguments.
func (c Change) words(r *runConfig) ([]string, error) {
	env, err := r.env()
	if err != nil {
		return nil, err
	}
	words, err := splitWords(c.args)
	if err != nil {
		return nil, err
	}
	for i, w := range words {
		if words[i], err = expandWord(w, env); err != nil {
			return nil, err
		}
	}
	return words, nil
}

// word is the one argument, which may have spaces in it.
func (c Change) word(r *runConfig) (string, error) {
	env, err := r.env()
	if err != nil {
		return "", err
	}
	return expandWord(c.args, env)
}

// addTo adds members to a set.
func (r *runConfig) addTo(key string, members []string) error {
	set := map[string]struct{}{}
	if err := r.get(key, &set); err != nil {
		return err
	}
	if set == nil {
		set = map[string]struct{}{}
	}
	for _, m := range members {
		set[m] = struct{}{}
	}
	return r.set(key, set)
}

func (c Change) expose(r *runConfig) error {
	words, err := c.words(r)
	if err != nil {
		return err
	}
	var ports []string
	for _, w := range words {
		more, err := parsePorts(w)
		if err != nil {
			return err
		}
		ports = append(ports, more...)
	}
	return r.addTo("ExposedPorts", ports)
}

// parsePorts reads PORT[-PORT][/PROTOCOL].
func parsePorts(s string) ([]string, error) {
	ports, protocol, ok := strings.Cut(s, "/")
	if protocol = strings.ToLower(protocol); !ok {
		protocol = "tcp"
	}
	first, last, ok := strings.Cut(ports, "-")
	if !ok {
		last = first
	}
	from, err := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil || from > to || from == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
		return nil, fmt.Errorf("%q is no PORT[-PORT][/tcp|udp|sctp]", s)
	}
	var list []string
	for p := from; p <= to; p++ {
		list = append(list, fmt.Sprintf("%d/%s", p, protocol))
	}
	return list, nil
}

func (c Change) volume(r *runConfig) error {
	words, ok := jsonWords(c.args)
	if !ok {
		var err error
		if words, err = c.words(r); err != nil {
			return err
		}
	}
	for _, w := range words {
		if strings.TrimSpace(w) == "" {
			return errors.New("a volume cannot be an empty path")
		}
	}
	return r.addTo("Volumes", words)
}

func (c Change) user(r *runConfig) error {
	user, err := c.word(r)
	if err != nil {
		return err
	}
	return r.set("User", user)
}

func (c Change) workdir(r *runConfig) error {
	dir, err := c.word(r)
	if err != nil {
		return err
	}
	if !path.IsAbs(dir) {
		var now string
		if err := r.get("WorkingDir", &now); err != nil {
			return err
		}
		dir = path.Join("/", now, dir)
	}
	return r.set("WorkingDir", path.Clean(dir))
}

func (c Change) stopsignal(r *runConfig) error {
	signal, err := c.word(r)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(signal)
	name := strings.TrimPrefix(strings.ToUpper(signal), "SIG")
	if err == nil && (n < 1 || n > 64) || err != nil && !slices.Contains(signals, name) && !strings.HasPrefix(name, "RT") {
		return fmt.Errorf("%q is no signal", signal)
	}
	return r.set("StopSignal", signal)
}

// signals are Linux's, 1 to 31, and other names of these.
var signals = strings.Fields(`HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT
	CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS IOT CLD POLL`)

func (c Change) onbuild(r *runConfig) error {
	switch name, _, _ := strings.Cut(c.args, " "); strings.ToUpper(name) {
	case "ONBUILD", "FROM", "MAINTAINER":
		return fmt.Errorf("%s cannot be a trigger", strings.ToUpper(name))
	}
	var triggers []string
	if err := r.get("OnBuild", &triggers); err != nil {
		return err
	}
	return r.set("OnBuild", append(triggers, c.args))
}

// healthcheck is docker's, whose durations are in nanoseconds.
type healthcheck struct {
	Test          []string
	Interval      time.Duration `json:",omitempty"`
	Timeout       time.Duration `json:",omitempty"`
	StartPeriod   time.Duration `json:",omitempty"`
	StartInterval time.Duration `json:",omitempty"`
	Retries       int           `json:",omitempty"`
}

func (c Change) healthcheck(r *runConfig) error {
	var h healthcheck
	rest := c.args
	for strings.HasPrefix(rest, "--") {
		var flag string
		flag, rest, _ = strings.Cut(rest, " ")
		rest = strings.TrimSpace(rest)
		if err := h.set(flag); err != nil {
			return err
		}
	}
	kind, args, _ := strings.Cut(rest, " ")
	args = strings.TrimSpace(args)
	switch kind = strings.ToUpper(kind); {
	case kind == "NONE" && args == "" && rest == c.args:
		h.Test = []string{"NONE"}
	case kind == "CMD" && args != "":
		words, ok := jsonWords(args)
		if ok && len(words) == 0 {
			return errors.New("the command is missing")
		}
		h.Test = append([]string{"CMD"}, words...)
		if !ok {
			h.Test = []string{"CMD-SHELL", args}
		}
	default:
		return errors.New("want NONE, or [--interval=D] [--timeout=D] [--start-period=D] [--start-interval=D] [--retries=N] CMD COMMAND")
	}
	return r.set("Healthcheck", h)
}

func (h *healthcheck) set(flag string) error {
	name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
	if name == "retries" {
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return fmt.Errorf("%s wants a number", flag)
		}
		h.Retries = n
		return nil
	}
	to := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}[name]
	if to == nil {
		return fmt.Errorf("there is no flag --%s", name)
	}
	d, err := time.ParseDuration(value)
	if err != nil || d != 0 && d < time.Millisecond {
		return fmt.Errorf("%s wants a duration of at least 1ms, such as 30s", flag)
	}
	*to = d
	return nil
}
