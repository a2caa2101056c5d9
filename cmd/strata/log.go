package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// logHandler writes log records as everything else on stderr is written:
// "strata: the message (name=value, ...)", a line each.
type logHandler struct {
	out   io.Writer
	level slog.Level
	attrs []slog.Attr // of the logger; its groups are part of their keys
	group string      // with a dot at its end, or empty
}

func (h *logHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var facts []string
	add := func(prefix string, a slog.Attr) {
		facts = append(facts, fmt.Sprintf("%s%s=%v", prefix, a.Key, a.Value.Resolve()))
	}
	for _, a := range h.attrs {
		add("", a)
	}
	r.Attrs(func(a slog.Attr) bool {
		add(h.group, a)
		return true
	})
	line := "strata: " + strings.TrimSpace(r.Message)
	if len(facts) > 0 {
		line += " (" + strings.Join(facts, ", ") + ")"
	}
	_, err := io.WriteString(h.out, line+"\n")
	return err
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := *h
	with.attrs = append([]slog.Attr(nil), h.attrs...)
	for _, a := range attrs {
		a.Key = h.group + a.Key
		with.attrs = append(with.attrs, a)
	}
	return &with
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	with := *h
	with.group += name + "."
	return &with
}
