package layerstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/layerstore"
)

// runHolder holds a store until its standard input ends.
func runHolder(root string) error {
	s, err := layerstore.Open(root, layerstore.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	h, err := s.Hold(context.Background())
	if err != nil {
		return err
	}
	fmt.Println("holding")
	bufio.NewReader(os.Stdin).ReadByte()
	return h.Release()
}

// TestGCGivesUp has a process hold the store as a pull does. gc gives up and
// says which one it is; then newcomers come in.
func TestGCGivesUp(t *testing.T) {
	s := openStore(t)
	holder := jobCommand(t, "hold", s.Root())
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "holding\n" {
		t.Fatalf("%q, %v", line, err)
	}
	_, err = s.GC(t.Context(), layerstore.GCOptions{Wait: 200 * time.Millisecond})
	var busy *layerstore.BusyError
	if !errors.As(err, &busy) || len(busy.Holders) != 1 || busy.Holders[0].PID != holder.Process.Pid {
		t.Fatalf("error is %v, want process %d named", err, holder.Process.Pid)
	}
	if !strings.Contains(err.Error(), fmt.Sprintf("is in use by process %d (", holder.Process.Pid)) {
		t.Errorf("error is %v", err)
	}
	h, err := s.Hold(t.Context()) // as others that hold the store may
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	if err := holder.Wait(); err != nil {
		t.Fatal(err)
	}
	gc(t, s)
}

// TestGCLetsNewcomersIn waits for longer than the turnstile may be kept shut.
func TestGCLetsNewcomersIn(t *testing.T) {
	layerstore.SetPatience(t, 50*time.Millisecond)
	s := openStore(t)
	first, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := s.GC(t.Context(), layerstore.GCOptions{Wait: time.Minute})
		done <- err
	}()
	for range 5 {
		waitForTurnstile(t, s)
		second, err := s.Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Release(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-done:
		t.Errorf("gc ran beside a Hold, or gave up: %v", err)
	default:
	}
	if err := first.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// waitForTurnstile waits until gc keeps newcomers out.
func waitForTurnstile(t *testing.T, s *layerstore.Store) {
	t.Helper()
	dir, err := os.Open(filepath.Join(s.Root(), "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		if err := unix.Flock(int(dir.Fd()), unix.LOCK_UN); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}
