package container

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"strata/fusefs"
)

// MountOptions are what follows -o, apart from which directories are laid over
// which.
type MountOptions struct {
	ReadOnly      bool // changes are EROFS
	Coherent      bool // all data passes through us, so that a copy-up is seen by those who have the file open
	Observe       bool // the kernel caches nothing: every operation reaches us
	NoPassthrough bool // file data passes through us though the kernel could fetch it itself
	AllowOther    bool // users other than the mounter may enter
	Volatile      bool // copied-up data is not synced before its name appears
	NoSUID        bool // set-id bits and file capabilities are ignored
	NoExec        bool // nothing can be executed
	Dev           bool // device nodes can be opened; plain directories only
	NoRedirect    bool // a directory that a lower has cannot be renamed (EXDEV); plain directories only
	NoMetacopy    bool // chmod and its like copy the data, too; plain directories only

	// Exits tells others that this process ends with the mount.
	Exits bool

	given []string // as they were given, for Record.Options
}

// DefaultMountOptions are those of a mount for which none are given: other
// users may enter, if that can be had.
func DefaultMountOptions() MountOptions { return MountOptions{AllowOther: true} }

// fusefs turns the options into those of the server.
func (o *MountOptions) fusefs(source string, log *slog.Logger) fusefs.Options {
	f := fusefs.Options{
		FSName:     source,
		AllowOther: o.AllowOther,
		SUID:       !o.NoSUID,
		NoExec:     o.NoExec,
		Dev:        o.Dev,
		Coherent:   o.Coherent,
		Observe:    o.Observe,
		Logger:     log,
	}
	if o.NoPassthrough {
		f.Passthrough = fusefs.PassthroughOff
	}
	return f
}

// mountOption is one word of -o.
type mountOption struct {
	word string
	set  func(*MountOptions) // nil: accepted, and changes nothing
	help string
}

// mountOptions returns all options that are known.
func mountOptions() []mountOption {
	return []mountOption{
		{"ro", func(o *MountOptions) { o.ReadOnly = true }, "refuse changes"},
		{"rw", func(o *MountOptions) { o.ReadOnly = false }, "take changes (the default)"},
		{"coherent", func(o *MountOptions) { o.Coherent = true }, "a program that has a file open sees what others write to it, from the first change on"},
		{"observe", func(o *MountOptions) { o.Observe = true }, "let the kernel cache nothing, so that every operation is seen"},
		{"nopassthrough", func(o *MountOptions) { o.NoPassthrough = true }, "read and write file data in the mount process"},
		{"volatile", func(o *MountOptions) { o.Volatile = true }, "sync nothing on copy-up: faster, but a power cut may leave empty files"},
		{"allow_other", func(o *MountOptions) { o.AllowOther = true }, "let other users in (the default, where it can be had)"},
		{"noallow_other", func(o *MountOptions) { o.AllowOther = false }, "let only the mounting user in"},
		{"suid", func(o *MountOptions) { o.NoSUID = false }, "honour set-id bits (the default for root)"},
		{"nosuid", func(o *MountOptions) { o.NoSUID = true }, "ignore set-id bits and file capabilities"},
		{"noexec", func(o *MountOptions) { o.NoExec = true }, "let nothing be executed"},
		{"exec", func(o *MountOptions) { o.NoExec = false }, "let programs be executed (the default)"},
		{"nodev", func(o *MountOptions) { o.Dev = false }, "devices cannot be opened (always so for containers)"},
		// What mount(8) hands to every helper, and what is always so.
		{"defaults", nil, ""},
		{"default_permissions", nil, ""},
		{"relatime", nil, ""},
		{"noatime", nil, ""},
		{"auto", nil, ""},
		{"noauto", nil, ""},
		{"nofail", nil, ""},
		{"_netdev", nil, ""},
		{"user", nil, ""},
		{"users", nil, ""},
		{"nouser", nil, ""},
	}
}

// MountOptionHelp describes the options, a line each.
func MountOptionHelp() string {
	var b strings.Builder
	for _, o := range mountOptions() {
		if o.help != "" {
			fmt.Fprintf(&b, "%-14s %s\n", o.word, o.help)
		}
	}
	return b.String()
}

// OptionError says that the words after -o are wrong.
type OptionError struct {
	Option string
	Reason string
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("mount option %q: %s", e.Option, e.Reason)
}

// Set obeys one option.
func (o *MountOptions) Set(word string) error {
	known := mountOptions()
	i := slices.IndexFunc(known, func(k mountOption) bool { return k.word == word })
	switch {
	case i >= 0:
	case strings.HasPrefix(word, "x-"): // for programs that read fstab
		return nil
	default:
		var words []string
		for _, k := range known {
			if k.help != "" {
				words = append(words, k.word)
			}
		}
		return &OptionError{word, "is not known; known are " + strings.Join(words, ", ")}
	}
	if known[i].set != nil {
		known[i].set(o)
	}
	o.given = append(o.given, word)
	return nil
}

// ParseMountOptions reads what was given with -o, each a list with commas, over
// the defaults.
func ParseMountOptions(lists []string) (MountOptions, error) {
	o := DefaultMountOptions()
	for _, list := range lists {
		for _, word := range splitEscaped(list, ',') {
			if word == "" {
				continue
			}
			if err := o.Set(word); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

// splitEscaped splits s at separators that have no backslash before them. The
// backslashes stay.
func splitEscaped(s string, separator byte) []string {
	var parts []string
	begin := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case separator:
			parts = append(parts, s[begin:i])
			begin = i + 1
		}
	}
	return append(parts, s[begin:])
}

// unescape takes away the backslash before each character that has one.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
