package main

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestLogLines(t *testing.T) {
	var out strings.Builder
	log := slog.New(&logHandler{out: &out, level: slog.LevelWarn})
	log.Info("not shown")
	log.Warn("plain")
	log.With("dir", "/mnt").WithGroup("server").With("pid", 7).Error("with facts", "err", errors.New("it broke"))
	const want = "strata: plain\nstrata: with facts (dir=/mnt, server.pid=7, server.err=it broke)\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}
