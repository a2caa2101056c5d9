package fusefs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"strata/internal/need"
)

var lockSorts = []lockSort{sortPOSIX, sortOFD, sortFlock}

// lockModes are the mounts that lock tests are run on.
var lockModes = map[string]Options{
	"passthrough": {},
	"coherent":    {Coherent: true},
	"observe":     {Observe: true},
}

// wantNoLocks fails if the server thinks that there is something locked. RELEASE
// comes late.
func (m *mounted) wantNoLocks() {
	m.t.Helper()
	left := func() int { n := m.counts(); return n.Locks + n.LockWaiters }
	if n := settled(0, left); n > 0 {
		m.t.Errorf("%d locks are left, and those who wait for them", n)
	}
}

// untilWaiting returns when n requests wait for locks.
func (m *mounted) untilWaiting(n int) {
	m.t.Helper()
	for range 2000 {
		if m.counts().LockWaiters == n {
			return
		}
	}
	m.t.Fatalf("%d wait for locks, want %d", m.counts().LockWaiters, n)
}

// Locks exclude each other when one process has the lower open and another the
// upper, whichever was first and by whatever name.
func TestLocksAcrossCopyUp(t *testing.T) {
	for mode, o := range lockModes {
		m := newMount(t, o, func(lower string) {
			for _, sort := range lockSorts {
				for _, name := range []string{"same name ", "other name "} {
					write(t, lower+"/"+name+string(sort), "lower")
					if err := os.Link(lower+"/"+name+string(sort), lower+"/linked "+name+string(sort)); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
		reader, writer := newLocker(t), newLocker(t)
		for _, sort := range lockSorts {
			for _, name := range []string{"same name ", "other name "} {
				t.Run(fmt.Sprint(mode, "/", sort, "/", name), func(t *testing.T) {
					path := m.path(name + string(sort))
					other := path
					if name == "other name " {
						other = m.path("linked " + name + string(sort))
					}
					splits := m.counts().Splits
					reader.open(0, path, os.O_RDONLY)
					reader.lock(0, sort, lockRead, 0)
					writer.open(0, other, os.O_RDWR)
					if want := mode == "passthrough" && m.counts().Passthrough; (m.counts().Splits > splits) != want {
						t.Fatalf("the file is two inodes: %v, want %v", !want, want)
					}
					writer.lock(0, sort, lockRead, 0)
					writer.lock(0, sort, lockWrite, unix.EAGAIN)
					if sort == sortFlock {
						writer.lock(0, sort, lockRead, 0) // it was lost
					} else if a := writer.do(lockerCall{Call: "test", Sort: sort, Kind: lockWrite}); a.Found == nil || a.Found.Type != unix.F_RDLCK {
						t.Errorf("the writer finds %+v in its way", a.Found)
					}
					writer.blocks(0, sort, lockWrite)
					m.untilWaiting(1)
					reader.lock(0, sort, lockUnlock, 0)
					if a := writer.result(); a.Errno != 0 {
						t.Error(a.Errno)
					}

					reader.lock(0, sort, lockRead, unix.EAGAIN)
					reader.blocks(0, sort, lockRead)
					m.untilWaiting(1)
					writer.close(0)
					if a := reader.result(); a.Errno != 0 {
						t.Error(a.Errno)
					}
					writer.open(0, other, os.O_RDWR)
					writer.lock(0, sort, lockWrite, unix.EAGAIN)
					reader.close(0)
					writer.lock(0, sort, lockWrite, 0)
					writer.close(0)
					m.wantNoLocks()
				})
			}
		}
	}
}

// Processes that lock and close at random get the same answers from the mount
// as from a plain directory.
func TestLocksAnswerAsOnAPlainDirectory(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "lower") })
	plain := filepath.Join(tempDir(t), "f")
	write(t, plain, "plain")
	const slots = 3
	// Each process has the file of the mount as descriptors 0, 1, ..., and the plain
	// one as slots, slots+1, ...
	lockers := []*locker{newLocker(t), newLocker(t), newLocker(t)}
	// From now on whoever opens it is asked when he closes it.
	lockers[0].open(0, m.path("f"), os.O_RDWR)
	lockers[0].lock(0, sortFlock, lockRead, 0)
	lockers[0].close(0)

	rapid.Check(t, func(t *rapid.T) {
		open := func(l *locker, slot, flags int) {
			l.open(slot, m.path("f"), flags)
			l.open(slots+slot, plain, flags)
		}
		for _, l := range lockers {
			for slot := range slots {
				open(l, slot, os.O_RDWR)
			}
		}
		defer func() {
			for _, l := range lockers {
				for slot := range 2 * slots {
					l.do(lockerCall{Call: "close", FD: slot})
				}
			}
		}()
		steps := map[string]func(*rapid.T){}
		for _, call := range []string{"lock", "lock more", "test", "close", "open", "dup"} {
			steps[call] = func(t *rapid.T) {
				l := rapid.SampledFrom(lockers).Draw(t, "process")
				slot := rapid.IntRange(0, slots-1).Draw(t, "descriptor")
				c := lockerCall{Call: strings.Fields(call)[0], FD: slot}
				switch c.Call {
				case "close":
					if rapid.IntRange(0, 3).Draw(t, "chance") > 0 {
						return
					}
				case "open":
					if rapid.IntRange(0, 3).Draw(t, "chance") > 0 {
						return
					}
					for fd := range 2 * slots {
						if fd%slots == slot {
							l.do(lockerCall{Call: "close", FD: fd})
						}
					}
					open(l, slot, rapid.SampledFrom([]int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR}).Draw(t, "flags"))
					return
				case "dup":
					c.To = (slot + 1) % slots
					for fd := range 2 * slots {
						if fd%slots == c.To {
							l.do(lockerCall{Call: "close", FD: fd})
						}
					}
				default:
					c.Sort = rapid.SampledFrom(lockSorts).Draw(t, "sort")
					c.Kind = rapid.SampledFrom([]lockKind{lockRead, lockWrite, lockUnlock}).Draw(t, "kind")
					c.Start = rapid.Int64Range(0, 7).Draw(t, "start")
					c.Len = rapid.Int64Range(0, 4).Draw(t, "length")
					if c.Call == "test" && c.Sort == sortFlock {
						c.Sort = sortPOSIX
					}
				}
				got := l.do(c)
				c.FD += slots
				c.To += slots
				want := l.do(c)
				if c.Call == "test" && got.Found != nil && want.Found != nil {
					// Which sort of lock it is, FUSE has no word for.
					got.Found.Pid, want.Found.Pid = 0, 0
				}
				if got.Errno != want.Errno || (got.Found == nil) != (want.Found == nil) || got.Found != nil && *got.Found != *want.Found {
					t.Fatalf("process %d %+v: %v %+v, want %v %+v", l.cmd.Process.Pid, c, got.Errno, got.Found, want.Errno, want.Found)
				}
			}
		}
		t.Repeat(steps)
	})
	m.wantNoLocks()
}

// A process's POSIX locks go with the first descriptor of the file that it
// closes; OFD locks and flock stay until the last one of theirs is.
func TestLocksAndClose(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) {
		write(t, lower+"/f", "lower")
		write(t, lower+"/h", "lower")
		if err := os.Link(lower+"/f", lower+"/g"); err != nil {
			t.Fatal(err)
		}
	})
	plain := tempDir(t)
	shell(t, plain, "echo > f; ln f g; echo > h")
	holder, other := newLocker(t), newLocker(t)
	for _, c := range []struct {
		name  string
		calls []lockerCall // by the holder of the lock on descriptor 0, opened O_RDWR
		stays map[lockSort]bool
	}{
		{"dup", []lockerCall{{Call: "dup", To: 1}, {Call: "close"}}, map[lockSort]bool{sortOFD: true, sortFlock: true}},
		{"all", []lockerCall{{Call: "dup", To: 1}, {Call: "close"}, {Call: "close", FD: 1}}, nil},
		{"second", []lockerCall{{Call: "open", FD: 1, Path: "f", Flags: os.O_RDWR}, {Call: "close", FD: 1}}, map[lockSort]bool{sortOFD: true, sortFlock: true}},
		{"second, to read", []lockerCall{{Call: "open", FD: 1, Path: "f"}, {Call: "close", FD: 1}}, map[lockSort]bool{sortOFD: true, sortFlock: true}},
		{"second, by another name", []lockerCall{{Call: "open", FD: 1, Path: "g"}, {Call: "close", FD: 1}}, map[lockSort]bool{sortOFD: true, sortFlock: true}},
		{"another file", []lockerCall{{Call: "open", FD: 1, Path: "h", Flags: os.O_RDWR}, {Call: "close", FD: 1}}, map[lockSort]bool{sortPOSIX: true, sortOFD: true, sortFlock: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, sort := range lockSorts {
				for _, dir := range []string{plain, m.dir} {
					holder.open(0, filepath.Join(dir, "f"), os.O_RDWR)
					other.open(0, filepath.Join(dir, "f"), os.O_RDWR)
					holder.lock(0, sort, lockWrite, 0)
					for _, call := range c.calls {
						call.Path = filepath.Join(dir, call.Path)
						holder.want(call, 0)
					}
					want := syscall.Errno(0)
					if c.stays[sort] {
						want = unix.EAGAIN
					}
					other.lock(0, sort, lockWrite, want)
					for fd := range 2 {
						holder.do(lockerCall{Call: "close", FD: fd})
					}
					other.lock(0, sort, lockWrite, 0)
					other.close(0)
				}
			}
			m.wantNoLocks()
		})
	}
}

// An inherited open file description is the same owner of OFD locks and flock
// in the child, and the child's own of POSIX locks.
func TestLocksAreInherited(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "lower") })
	plain := filepath.Join(tempDir(t), "f")
	write(t, plain, "plain")
	for _, path := range []string{plain, m.path("f")} {
		for _, sort := range lockSorts {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			a, b, other := newLocker(t, f), newLocker(t, f), newLocker(t)
			f.Close()
			other.open(0, path, os.O_RDWR)
			a.lock(0, sort, lockWrite, 0)
			if sort == sortPOSIX {
				b.lock(0, sort, lockRead, unix.EAGAIN)
			} else {
				b.lock(0, sort, lockWrite, 0)
			}
			a.kill()
			if sort == sortPOSIX {
				other.lock(0, sort, lockWrite, 0)
			} else {
				other.lock(0, sort, lockWrite, unix.EAGAIN)
			}
			b.kill()
			other.lock(0, sort, lockWrite, 0)
			other.kill()
		}
	}
	m.wantNoLocks()
}

func TestPOSIXDeadlock(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "lower") })
	a, b := newLocker(t), newLocker(t)
	for i, l := range []*locker{a, b} {
		l.open(0, m.path("f"), os.O_RDWR)
		l.want(lockerCall{Call: "lock", Sort: sortPOSIX, Kind: lockWrite, Start: int64(i), Len: 1}, 0)
	}
	a.start(lockerCall{Call: "lock", Sort: sortPOSIX, Kind: lockWrite, Start: 1, Len: 1, Wait: true})
	m.untilWaiting(1)
	b.want(lockerCall{Call: "lock", Sort: sortPOSIX, Kind: lockWrite, Start: 0, Len: 1, Wait: true}, unix.EDEADLK)
	b.close(0)
	if r := a.result(); r.Errno != 0 {
		t.Error(r.Errno)
	}
	a.close(0)
	m.wantNoLocks()
}

// Two wait; the holder is killed, then one that waits is.
func TestKillWhileLocksAreWaitedFor(t *testing.T) {
	for _, sort := range lockSorts {
		t.Run(string(sort), func(t *testing.T) {
			m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "lower") })
			holder, first, second, third := newLocker(t), newLocker(t), newLocker(t), newLocker(t)
			for i, l := range []*locker{holder, first, second, third} {
				l.open(0, m.path("f"), os.O_RDWR)
				if i == 0 {
					l.lock(0, sort, lockWrite, 0)
					continue
				}
				l.blocks(0, sort, lockWrite)
				m.untilWaiting(i)
			}
			second.kill()
			m.untilWaiting(2)
			holder.kill()
			if a := first.result(); a.Errno != 0 {
				t.Error(a.Errno)
			}
			m.untilWaiting(1)
			first.kill()
			if a := third.result(); a.Errno != 0 {
				t.Error(a.Errno)
			}
			third.kill()
			m.wantNoLocks()
		})
	}
}

// Nothing is left of a mount that goes while a lock is waited for.
func TestUnmountWhileALockIsWaitedFor(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "lower") })
	holder, waiter := newLocker(t), newLocker(t)
	holder.open(0, m.path("f"), os.O_RDWR)
	holder.lock(0, sortPOSIX, lockWrite, 0)
	waiter.open(0, m.path("f"), os.O_RDWR)
	waiter.blocks(0, sortPOSIX, lockWrite)
	m.untilWaiting(1)
	if left := m.unmount(); !strings.Contains(left.Error, "in use") {
		t.Errorf("unmounting while two use it: %q", left.Error)
	}
	m.untilWaiting(1)
	unix.Unmount(m.dir, unix.MNT_FORCE) // EBUSY, but all requests are ended
	if a := waiter.result(); a.Errno == 0 {
		t.Error("the lock was granted")
	}
	holder.kill()
	waiter.kill()
	left := m.unmount()
	if left.Error != "" || left.Goroutines > left.GoroutinesBefore || len(left.FDs) > len(left.FDsBefore) {
		t.Errorf("left: %+v", left)
	}
	if err := unix.Unmount(m.dir, unix.MNT_DETACH); err != nil { // its server is gone, it is not
		t.Error(err)
	}
}

// A lock is free as soon as close(2) has returned, or the process that had it is
// gone, though RELEASE comes later.
func TestLockIsFreeAfterClose(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) {
		for _, sort := range lockSorts {
			write(t, lower+"/"+string(sort), "lower")
		}
	})
	// Two processes, so that the second is served by whoever is free.
	a, b := newLocker(t), newLocker(t)
	for _, sort := range lockSorts {
		flags := os.O_RDWR
		for i := range 300 {
			if sort == sortFlock {
				flags = i & 1 // O_RDONLY, O_WRONLY
			}
			for _, l := range []*locker{a, b} {
				l.open(0, m.path(string(sort)), flags)
				l.lock(0, sort, lockWrite, 0)
				l.close(0)
			}
		}
	}
	m.wantNoLocks()

	// The kernel sends only so many RELEASEs at once.
	for range 5 {
		holder := newLocker(t)
		for fd := range 200 {
			holder.open(fd, m.path("POSIX"), os.O_RDONLY)
		}
		holder.open(200, m.path("flock"), os.O_RDONLY)
		holder.lock(200, sortFlock, lockWrite, 0)
		a.open(0, m.path("flock"), os.O_RDONLY)
		holder.kill()
		a.lock(0, sortFlock, lockWrite, 0)
		a.close(0)
	}
	m.run(0, `i=0; while [ $i -lt 300 ]; do flock -n flock true; i=$((i+1)); done`)
}

func TestFlockCommand(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "lower") })
	out := m.run(0, `
		exec 8<f 9<>f          # the lower, and after the split the upper
		flock -s 8
		flock -n -x 9 && echo refused not
		flock -x -w 0.2 9 && echo waited not; echo waited $?
		flock -n -s 9
		flock -u 8
		flock -n -x 9
		flock -n f true && echo third refused not; echo third $?
		(exit)                 # a child that closes what it has inherited
		flock -n f true && echo fourth refused not; echo fourth $?
		exec 9>&-
		flock -n f echo free`)
	if want := "waited 1\nthird 1\nfourth 1\nfree"; out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	m.wantNoLocks()
}

func TestSQLite(t *testing.T) {
	sqlite := need.Tool(t, "sqlite3")
	m := newMount(t, Options{}, func(lower string) {
		shell(t, lower, sqlite+" db 'create table t(n); insert into t values (0)'")
	})
	holder := exec.Command(sqlite, m.path("db"))
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
	fmt.Fprintln(stdin, "begin exclusive; select 'begun';")
	if _, err := stdout.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(sqlite, m.path("db"), "update t set n = 1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "locked") {
		t.Errorf("a second writer: %v %s", err, out)
	}
	fmt.Fprintln(stdin, "update t set n = 2; commit;")
	stdin.Close()
	if err := holder.Wait(); err != nil {
		t.Fatal(err)
	}
	// Four that count, a hundred times each.
	m.run(0, `
		n=0; while [ $n -lt 25 ]; do echo 'update t set n = n + 1;'; n=$((n+1)); done > script
		for p in 1 2 3 4; do `+sqlite+` -cmd '.timeout 20000' db < script & pids="$pids $!"; done
		for p in $pids; do wait $p; done`)
	if got := m.run(0, sqlite+" db 'select n from t; pragma integrity_check'"); got != "102\nok" {
		t.Errorf("counted to %q", got)
	}
	m.wantNoLocks()
}

// Only those who may have locked something are asked when they close it.
func TestFlushIsForThoseWhoLock(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "lower") })
	flushes := func(name string, flags int) int64 {
		t.Helper()
		before := m.counts().Flushes
		f, err := os.OpenFile(m.path(name), flags, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		return m.counts().Flushes - before
	}
	for i, when := range []string{"before", "after"} {
		if got := flushes("f", os.O_RDONLY) + flushes("f", os.O_WRONLY); got != 2*int64(i) {
			t.Errorf("%s it was locked, closing a file twice asked %d times", when, got)
		}
		if got := flushes("new "+when, os.O_WRONLY|os.O_CREATE); got != 0 {
			t.Errorf("closing a new file asked %d times", got)
		}
		if got := flushes("f", os.O_RDWR); got != 1 {
			t.Errorf("closing a file that was open O_RDWR asked %d times", got)
		}
		m.run(0, "flock f true")
	}
}

// What a process notices of it that locks are served here; doc.go lists it.
func TestLocksThatDifferFromAPlainDirectory(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) {
		for _, name := range []string{"f", "g", "h"} {
			write(t, lower+"/"+name, "lower")
		}
	})
	holder, other := newLocker(t), newLocker(t)

	t.Run("close that is not announced", func(t *testing.T) {
		holder.open(0, m.path("f"), os.O_RDONLY)
		holder.lock(0, sortPOSIX, lockRead, 0)
		holder.want(lockerCall{Call: "dup", To: 1}, 0)
		holder.close(0)
		other.open(0, m.path("f"), os.O_RDWR)
		other.lock(0, sortPOSIX, lockWrite, unix.EAGAIN) // it is free elsewhere
		holder.close(1)
		other.lock(0, sortPOSIX, lockWrite, 0)
		other.close(0)
	})
	t.Run("process of an OFD lock", func(t *testing.T) {
		holder.open(0, m.path("g"), os.O_RDWR)
		other.open(0, m.path("g"), os.O_RDWR)
		for _, sort := range []lockSort{sortOFD, sortPOSIX} {
			holder.lock(0, sort, lockWrite, 0)
			for asked, want := range map[lockSort]int{sortOFD: -1, sortPOSIX: holder.cmd.Process.Pid} {
				a := other.do(lockerCall{Call: "test", Sort: asked, Kind: lockRead})
				if a.Found == nil || int(a.Found.Pid) != want {
					t.Errorf("asked as for %s locks, a lock is %+v, want pid %d", asked, a.Found, want)
				}
			}
			holder.lock(0, sort, lockUnlock, 0)
		}
		holder.close(0)
		other.close(0)
	})
	t.Run("proc locks", func(t *testing.T) {
		holder.open(0, m.path("h"), os.O_RDWR)
		holder.lock(0, sortPOSIX, lockWrite, 0)
		holder.lock(0, sortFlock, lockWrite, 0)
		listed, err := os.ReadFile("/proc/locks")
		if err != nil || strings.Contains(string(listed), fmt.Sprintf(" %d ", holder.cmd.Process.Pid)) {
			t.Errorf("listed: %v\n%s", err, listed)
		}
		holder.close(0)
	})
	t.Run("lease", func(t *testing.T) {
		f := openFile(t, m.path("h"), os.O_RDONLY)
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
			t.Fatal(err)
		}
		if fd, err := unix.Open(m.path("h"), unix.O_RDWR|unix.O_NONBLOCK, 0); err != unix.EAGAIN {
			t.Errorf("opening what is leased: %v", err)
			unix.Close(fd)
		}
	})
	m.wantNoLocks()
}
