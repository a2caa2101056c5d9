package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// ask sends one word to the process that serves a mount.
func (d runDir) ask(ctx context.Context, key, word string) (net.Conn, *json.Decoder, error) {
	dir, err := os.Open(string(d))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, errNotMounted
	}
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", shortPath(dir, key))
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil, errNotMounted
	}
	if err != nil {
		return nil, nil, fmt.Errorf("control socket %s: %w", d.socketFile(key), err)
	}
	if _, err := fmt.Fprintln(conn, word); err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, json.NewDecoder(conn), nil
}

// Served is a mount that some process serves.
type Served struct {
	run  runDir
	key  string
	what string // for messages
}

// Served is the container's mount, if it has one.
func (ct *Container) Served() Served {
	return Served{ct.all.run, string(ct.ID), "container " + ct.Name}
}

// ServedAt is the mount of plain directories at dir, if there is one.
func ServedAt(dir, runBase string) (Served, error) {
	run, err := plainRun(runBase)
	if err != nil {
		return Served{}, err
	}
	at, err := resolveDir(dir)
	if err != nil {
		return Served{}, err
	}
	return Served{run, hashName(at), dir}, nil
}

// IsPlainMount tells whether there is a mount of plain directories at dir, dead or
// alive.
func IsPlainMount(dir, runBase string) bool {
	s, err := ServedAt(dir, runBase)
	if err != nil {
		return false
	}
	record, err := s.run.read(s.key)
	return err == nil && record != nil
}

// Sync returns when all that was written through the mount is on disk: syncfs(2)
// and sync(1) never reach a FUSE server.
func (s Served) Sync(ctx context.Context) error {
	if err := s.sync(ctx); err != nil {
		return fmt.Errorf("sync: %s %w", s.what, err)
	}
	return nil
}

func (s Served) sync(ctx context.Context) error {
	conn, in, err := s.run.ask(ctx, s.key, "sync")
	if err != nil {
		return err
	}
	defer conn.Close()
	unhook := context.AfterFunc(ctx, func() { conn.Close() })
	defer unhook()
	var answer refusal
	if err := in.Decode(&answer); err != nil {
		return fmt.Errorf("was unmounted before it was done: %w", err)
	}
	if answer.Error != "" {
		return fmt.Errorf("could not be written: %s", answer.Error)
	}
	return nil
}

// Trace calls header once and then event for every operation that reaches the
// mount, until ctx is done or the mount is gone.
func (s Served) Trace(ctx context.Context, header func(TraceHeader) error, event func(TraceEvent) error) error {
	if err := s.trace(ctx, header, event); err != nil {
		return fmt.Errorf("trace: %s %w", s.what, err)
	}
	return nil
}

func (s Served) trace(ctx context.Context, header func(TraceHeader) error, event func(TraceEvent) error) error {
	conn, in, err := s.run.ask(ctx, s.key, "trace")
	if err != nil {
		return err
	}
	defer conn.Close()
	unhook := context.AfterFunc(ctx, func() { conn.Close() })
	defer unhook()
	var h struct {
		TraceHeader
		refusal
	}
	if err := in.Decode(&h); err != nil {
		return fmt.Errorf("does not answer: %w", err)
	}
	if h.Error != "" {
		return errors.New(h.Error)
	}
	if err := header(h.TraceHeader); err != nil {
		return err
	}
	for {
		var e TraceEvent
		switch err := in.Decode(&e); {
		case ctx.Err() != nil, errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			return nil
		case err != nil:
			return err
		}
		if err := event(e); err != nil {
			return err
		}
	}
}
