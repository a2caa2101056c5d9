package container

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"strata/fusefs"
)

func TestKilledServer(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir, record := w.detach(t, ct)
	write(t, filepath.Join(dir, "kept"), "kept")
	if err := syscall.Kill(record.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return !record.Alive() })
	if state, err := ct.State(); err != nil || state.Status != Dead {
		t.Errorf("state %+v, %v, want dead", state, err)
	}
	eventually(t, "the dead mount answers ENOTCONN", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, syscall.ENOTCONN)
	})
	again, _ := w.detach(t, ct)
	if again != dir {
		t.Errorf("mounted again at %s, not at %s", again, dir)
	}
	wantFile(t, filepath.Join(dir, "kept"), "kept")
}

func TestKilledServerWithoutARecord(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	dir, record := w.detach(t, ct)
	if err := os.Remove(w.run.recordFile(string(ct.ID))); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(record.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return !record.Alive() })
	again, _ := w.detach(t, ct)
	if again != dir {
		t.Errorf("mounted again at %s, not at %s", again, dir)
	}
	wantFile(t, filepath.Join(dir, "etc/motd"), "hello\n")
}

func TestDeadMountCanBeUnmountedAndRemoved(t *testing.T) {
	w := newWorld(t)
	kill := func(name string) *Container {
		ct := w.create(t, name)
		_, record := w.detach(t, ct)
		if err := syscall.Kill(record.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the process is gone", func() bool { return !record.Alive() })
		return ct
	}
	ct := kill("one")
	if err := ct.Unmount(t.Context(), UnmountOptions{}); err != nil {
		t.Error(err)
	}
	if state, err := ct.State(); err != nil || state.Status != Created {
		t.Errorf("state %+v, %v, want created", state, err)
	}
	if _, err := kill("two").Remove(t.Context(), false); err != nil {
		t.Error(err)
	}
}

func TestARecordWithAReusedPIDIsNotAlive(t *testing.T) {
	start, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if r := (&Record{PID: os.Getpid(), StartTime: start}); !r.Alive() {
		t.Error("this process does not live")
	}
	if r := (&Record{PID: os.Getpid(), StartTime: start + 1}); r.Alive() {
		t.Error("a process that began at another time is taken for the one of the record")
	}
}

func TestADeadMountsSuccessorIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.dir, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	one, two := w.create(t, "one"), w.create(t, "two")
	_, record := w.detach(t, one, dir)
	if err := syscall.Kill(record.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process is gone", func() bool { return !record.Alive() })
	if err := fusefs.Unmount(dir, true); err != nil { // by hand: the record stays
		t.Fatal(err)
	}
	w.detach(t, two, dir)
	if state, err := one.State(); err != nil || state.Status != Created {
		t.Errorf("the state of the one that was killed: %+v, %v, want created", state, err)
	}
	w.detach(t, one)
	wantFile(t, filepath.Join(dir, "etc/motd"), "hello\n")
	if state, err := two.State(); err != nil || state.Status != Mounted {
		t.Errorf("the state of the one that is mounted: %+v, %v", state, err)
	}
}
