package container

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A container's user removes, renames and replaces directories while ps, df
// and du look on.
func TestUpperSizeWhileTheUpperChanges(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		dir := filepath.Join(ct.UpperDir(), "dir")
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, sub := range []string{"a", "b", "c"} {
				if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
					t.Error(err)
				}
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(dir, nil, 0o644); err != nil { // as a whiteout would stand there
				t.Error(err)
			}
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		}
	}()
	for range 2000 {
		if _, err := ct.UpperSize(); err != nil {
			t.Errorf("size: %v", err)
			break
		}
		if _, err := w.store.Usage(t.Context()); err != nil {
			t.Errorf("usage: %v", err)
			break
		}
	}
	close(stop)
	<-stopped
}

func TestUpperSizeOfARemovedContainer(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	if _, err := ct.Remove(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := ct.UpperSize(); !errors.As(err, new(*NotFoundError)) {
		t.Errorf("size of a removed container: %v, want a *NotFoundError", err)
	}
	damaged := w.create(t, "damaged")
	if err := os.RemoveAll(damaged.UpperDir()); err != nil {
		t.Fatal(err)
	}
	if _, err := damaged.UpperSize(); !errors.Is(err, os.ErrNotExist) || errors.As(err, new(*NotFoundError)) {
		t.Errorf("size of a container without an upper: %v, want ErrNotExist", err)
	}
}
