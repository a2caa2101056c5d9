package fusefs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"strata/overlay"
)

// lockSort is a sort of lock as a program knows it.
type lockSort string

const (
	sortPOSIX lockSort = "POSIX"
	sortOFD   lockSort = "OFD"
	sortFlock lockSort = "flock"
)

var lockKinds = map[lockKind]struct{ fcntl, flock int }{
	lockRead:   {unix.F_RDLCK, unix.LOCK_SH},
	lockWrite:  {unix.F_WRLCK, unix.LOCK_EX},
	lockUnlock: {unix.F_UNLCK, unix.LOCK_UN},
}

// kernelLock locks a file for real, or unlocks it. A length of 0 is to the end.
func kernelLock(fd int, sort lockSort, kind lockKind, start, length int64, wait bool) error {
	if sort == sortFlock {
		how := lockKinds[kind].flock
		if !wait {
			how |= unix.LOCK_NB
		}
		return unix.Flock(fd, how)
	}
	cmd := map[lockSort]map[bool]int{
		sortPOSIX: {false: unix.F_SETLK, true: unix.F_SETLKW},
		sortOFD:   {false: unix.F_OFD_SETLK, true: unix.F_OFD_SETLKW},
	}[sort][wait]
	lk := unix.Flock_t{Type: int16(lockKinds[kind].fcntl), Start: start, Len: length}
	return unix.FcntlFlock(uintptr(fd), cmd, &lk)
}

// kernelTest asks which record lock is in the way.
func kernelTest(fd int, sort lockSort, kind lockKind, start, length int64) (unix.Flock_t, error) {
	cmd := unix.F_GETLK
	if sort == sortOFD {
		cmd = unix.F_OFD_GETLK
	}
	lk := unix.Flock_t{Type: int16(lockKinds[kind].fcntl), Start: start, Len: length}
	err := unix.FcntlFlock(uintptr(fd), cmd, &lk)
	return lk, err
}

func lockRange(start, length int64) (from, to uint64) {
	if length == 0 {
		return uint64(start), lockEnd
	}
	return uint64(start), uint64(start + length - 1)
}

// checkLocks fails where a list is not in its order.
func checkLocks(t *rapid.T, ls lockList) {
	t.Helper()
	ended := make(map[uint64]bool)
	for i, l := range ls {
		if l.start > l.end || l.kind == lockUnlock || ended[l.owner] {
			t.Fatalf("lock %d is out of place: %v", i, ls)
		}
		if i > 0 && ls[i-1].owner == l.owner {
			if ls[i-1].end >= l.start {
				t.Fatalf("locks %d and %d of one owner overlap: %v", i-1, i, ls)
			}
		} else if i > 0 {
			ended[ls[i-1].owner] = true
		}
		for _, o := range ls[:i] {
			if o.excludes(&l) {
				t.Fatalf("two locks exclude each other: %v", ls)
			}
		}
	}
}

// Whatever one process does to one file through three open file descriptions,
// the table answers as the kernel does for a plain file.
func TestLockTableAnswersAsTheKernel(t *testing.T) {
	dir := t.TempDir()
	const id, process = overlay.ID(7), 1
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, "f")
		table := newLockTable()
		owners := uint64(process)
		type description struct {
			fd     int
			owner  uint64
			holder *lockHolder
		}
		open := func() *description {
			fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			owners++
			return &description{fd, owners, &lockHolder{announced: true}}
		}
		close := func(d *description) {
			table.closed(id, d.holder, process)
			table.released(id, d.holder)
			unix.Close(d.fd)
		}
		open3 := []*description{open(), open(), open()}
		defer func() {
			for _, d := range open3 {
				close(d)
			}
			if f := table.files[id]; f != nil && len(f.records)+len(f.flocks)+len(f.waiters) > 0 {
				t.Errorf("left after all was closed: %+v", f)
			}
		}()

		which := rapid.IntRange(0, len(open3)-1)
		starts, lengths := rapid.Int64Range(0, 7), rapid.Int64Range(0, 4)
		kinds := rapid.SampledFrom([]lockKind{lockRead, lockWrite, lockUnlock})
		sorts := rapid.SampledFrom([]lockSort{sortPOSIX, sortOFD, sortFlock})
		request := func() (*description, lockSort, lockRequest, int64, int64) {
			d, sort, kind := open3[which.Draw(t, "description")], sorts.Draw(t, "sort"), kinds.Draw(t, "kind")
			start, length := starts.Draw(t, "start"), lengths.Draw(t, "length")
			if sort == sortFlock {
				start, length = 0, 0
			}
			r := lockRequest{lock: lock{kind: kind, owner: d.owner, holder: d.holder, pid: uint32(os.Getpid())}, flock: sort == sortFlock}
			if sort == sortPOSIX {
				r.owner = process
			}
			r.start, r.end = lockRange(start, length)
			return d, sort, r, start, length
		}
		steps := map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				d, sort, r, start, length := request()
				want := kernelLock(d.fd, sort, r.kind, start, length, false)
				if got := table.set(nil, id, r); got != want {
					t.Fatalf("%s %+v: %v, want %v", sort, r.lock, got, want)
				}
			},
			"test": func(t *rapid.T) {
				d, sort, r, start, length := request()
				if sort == sortFlock || sort == sortPOSIX && r.kind == lockUnlock {
					return
				}
				want, err := kernelTest(d.fd, sort, r.kind, start, length)
				if err != nil {
					t.Fatal(err)
				}
				got, found := table.test(nil, id, r)
				if found != (want.Type != unix.F_UNLCK) {
					t.Fatalf("%s %+v: found %v, the kernel %+v", sort, r.lock, got, want)
				}
				if !found {
					return
				}
				from, to := lockRange(want.Start, want.Len)
				if got.start != from || got.end != to || int16(lockKinds[got.kind].fcntl) != want.Type || (want.Pid > 0) != (got.owner == process) {
					t.Fatalf("%s %+v: found %+v, the kernel %+v", sort, r.lock, got, want)
				}
			},
			"reopen": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "chance") > 0 {
					return // else there is never much to close
				}
				i := which.Draw(t, "description")
				close(open3[i])
				open3[i] = open()
			},
			"": func(t *rapid.T) {
				if f := table.files[id]; f != nil {
					checkLocks(t, f.records)
					checkLocks(t, f.flocks)
				}
			},
		}
		for range 10 { // histories are long enough only then
			t.Repeat(steps)
		}
	})
}
