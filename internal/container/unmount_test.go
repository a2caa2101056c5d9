package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

func TestUnmountWaitsForTheProcess(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir, record := w.detach(t, ct)
	write(t, filepath.Join(dir, "f"), "f")
	if err := ct.Unmount(t.Context(), UnmountOptions{}); err != nil {
		t.Fatal(err)
	}
	if record.Alive() {
		t.Error("the process still lives")
	}
	wantFile(t, filepath.Join(ct.UpperDir(), "f"), "f")
	wantError(t, ct.Unmount(t.Context(), UnmountOptions{}), "container web is not mounted")
}

func TestUnmountAtOnceFromSeveralSides(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	for range 5 {
		_, record := w.detach(t, ct)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				err := ct.Unmount(context.Background(), UnmountOptions{})
				switch {
				case errors.Is(err, errNotMounted): // it has written its last, and ends
				case err != nil:
					t.Error(err)
				case record.Alive():
					t.Error("the process still lives")
				}
			})
		}
		all.Wait()
	}
}

func TestUnmountOfABusyMountNamesTheUsers(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir, record := w.detach(t, ct)
	sleep := exec.Command("sleep", "60")
	sleep.Dir = filepath.Join(dir, "srv")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Wait()
	defer sleep.Process.Kill()
	err := ct.Unmount(t.Context(), UnmountOptions{})
	wantError(t, err, dir+" is in use", fmt.Sprintf("process %d (sleep): its working directory is %s/srv", sleep.Process.Pid, dir))
	if !errors.Is(err, syscall.EBUSY) {
		t.Errorf("%v is not EBUSY", err)
	}
	if _, err := ct.Remove(t.Context(), true); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("forced remove of a mount in use: %v, want EBUSY", err)
	}
	if err := ct.Unmount(t.Context(), UnmountOptions{Lazy: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "etc")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a lazy unmount: %v", err)
	}
	wantError(t, ct.Unmount(t.Context(), UnmountOptions{}), "was unmounted lazily and is still in use")
	sleep.Process.Kill()
	sleep.Wait()
	eventually(t, "the server ends with its last user", func() bool { return !record.Alive() })
}

func TestRemoveOfAMountedContainer(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir, record := w.detach(t, ct)
	_, err := ct.Remove(t.Context(), false)
	wantError(t, err, "remove container web", dir, fmt.Sprint(record.PID))
	if _, err := ct.Remove(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if record.Alive() {
		t.Error("the process still lives")
	}
	if _, err := w.Find("web"); err == nil {
		t.Error("the container is still there")
	}
}

func TestUnmountAndRemoveOfAMountInThisProcess(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	m := mount(t, ct, DefaultMountOptions())
	write(t, filepath.Join(m.Dir, "f"), "f")
	if err := ct.Unmount(t.Context(), UnmountOptions{}); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(ct.UpperDir(), "f"), "f")
	mount(t, ct, DefaultMountOptions())
	if _, err := ct.Remove(t.Context(), true); err != nil {
		t.Error(err)
	}
}

func TestTerminatedServerUnmounts(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir := filepath.Join(w.dir, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, record := w.detach(t, ct, dir)
	if err := syscall.Kill(record.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process ends", func() bool { return !record.Alive() })
	if state, err := ct.State(); err != nil || state.Status != Created {
		t.Errorf("state %+v, %v, want created", state, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the mount point holds %v, %v", entries, err)
	}
}
