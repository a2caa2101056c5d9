package fusefs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"strata/internal/need"
)

// Programs of others that hammer on a filesystem and check what it answers:
// stress-ng's filesystem class with --verify, and fio with verification of what
// was written. go test runs a few seconds of them. All of it, for ten minutes of
// stress-ng on each kind of mount, and gigabytes of fio:
//
//	STRATA_STRESS=10m go test ./fusefs -run 'TestStressNG|TestFio|TestManyFiles' -v -timeout 90m
//
// with nothing beside it that mounts: stress-ng's fanotify listens to every mount
// of the machine, and holds files of theirs open. Last result, on Linux 6.18 with
// stress-ng 0.15.06 and fio 3.33, two cores, ext4: 9m38s of 45 stressors in
// passthrough mode, 10m30s with Coherent, 9m54s without passthrough; fio over 13
// files of 128 MiB, new ones and the lower's, in each; 100,000 files opened with at
// most 93 descriptors in passthrough mode. No failure, nothing left.

// stressModes are the mounts that are hammered on.
var stressModes = []struct {
	name string
	o    Options
}{
	{"passthrough", Options{SUID: true}},
	{"coherent", Options{SUID: true, Coherent: true}},
	{"passthrough off", Options{SUID: true, Passthrough: PassthroughOff}},
}

// stressTime is how long the full run is to take, 0 for the short one.
func stressTime(t *testing.T) time.Duration {
	t.Helper()
	s := os.Getenv("STRATA_STRESS")
	if s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("STRATA_STRESS: %v", err)
	}
	return d
}

// notStressed are stressors that cannot run here. On a plain directory of ext4
// all others of the class end well, and so they must on a mount.
var notStressed = []string{
	"binderfs", // mounts a filesystem that few kernels have, and none of ours
	"verity",   // FUSE has no fs-verity
	"fiemap",   // nor FS_IOC_FIEMAP
}

// quickStressors are those of the short run, all at once. Those that go through all
// of the machine (getdent, io, fanotify) would meet the mounts of other tests.
var quickStressors = []string{
	"chmod", "copy-file", "dentry", "dir", "fallocate", "filename", "hdd", "iomix", "link", "lockf",
	"mknod", "open", "rename", "symlink", "sync-file", "utime", "xattr",
}

func TestStressNG(t *testing.T) {
	program := need.Tool(t, "stress-ng")
	total := stressTime(t)
	for _, mode := range stressModes {
		if total == 0 && mode.o != stressModes[0].o {
			continue
		}
		t.Run(mode.name, func(t *testing.T) {
			m := newMount(t, mode.o, func(lower string) { write(t, lower+"/f", oldData) })
			before := hash(t, m.lower)
			args := []string{"--verify", "--temp-path", m.dir, "--log-brief"}
			if total == 0 {
				args = append(args, "--timeout", "2s")
				for _, s := range quickStressors {
					args = append(args, "--"+s, "1")
				}
			} else {
				each := max(total/time.Duration(filesystemStressors(t, program)), time.Second)
				args = append(args, "--class", "filesystem", "--exclude", strings.Join(notStressed, ","),
					"--seq", "1", "--timeout", fmt.Sprintf("%ds", each/time.Second))
			}
			cmd := exec.Command(program, args...)
			cmd.Dir = "/"
			start := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("stress-ng %s: %v\n%s", strings.Join(args, " "), err, out)
			}
			t.Logf("%v of stress-ng", time.Since(start).Round(time.Second))
			if names, err := os.ReadDir(m.dir); err != nil || len(names) != 1 {
				t.Errorf("left behind: %v, %v", names, err)
			}
			if hash(t, m.lower) != before {
				t.Error("the lower has changed")
			}
			nothingLeft(t, m)
		})
	}
}

// filesystemStressors is how many stressors the full run has.
func filesystemStressors(t *testing.T, program string) int {
	t.Helper()
	out, _ := exec.Command(program, "--class", "filesystem?").CombinedOutput() // its exit status is that of a mistake
	_, names, ok := strings.Cut(string(out), "stressors:")
	if !ok {
		t.Fatalf("stress-ng --class 'filesystem?': %s", out)
	}
	return len(strings.Fields(names)) - len(notStressed)
}

// nothingLeft unmounts, and looks for what is left then.
func nothingLeft(t *testing.T, m *mounted) {
	t.Helper()
	if n := settled(0, func() int { return m.counts().Files + m.counts().Dirs }); n != 0 {
		t.Errorf("%d handles are open: %+v", n, m.counts())
	}
	if l := m.unmount(); l.Error != "" || len(l.FDs) > len(l.FDsBefore) || l.Goroutines > l.GoroutinesBefore {
		t.Errorf("after unmount: %+v", l)
	}
}

// fioJobs are patterns of writing, each on a file of its own and all at once.
// What is written carries its checksum, and is read and checked at the end.
var fioJobs = []string{
	"name=sequential rw=write bs=128k ioengine=psync",
	"name=random rw=randwrite bs=4k ioengine=psync",
	"name=mixed rw=randwrite bsrange=512-64k ioengine=psync",
	"name=readwrite rw=randrw bs=8k ioengine=psync",
	"name=fsync rw=randwrite bs=16k ioengine=psync fsync=16",
	"name=osync rw=write bs=64k ioengine=psync sync=1",
	"name=mapped rw=randwrite bs=4k ioengine=mmap",
	"name=mapsequential rw=write bs=64k ioengine=mmap fsync=32",
	"name=direct rw=randwrite bs=4k ioengine=psync direct=1",
	"name=libaio rw=randwrite bs=4k ioengine=libaio iodepth=16",
	"name=libaiodirect rw=randwrite bs=4k ioengine=libaio iodepth=16 direct=1",
	"name=uring rw=randwrite bs=4k ioengine=io_uring iodepth=16",
	"name=four rw=randwrite bs=4k ioengine=psync numjobs=4", // each in its quarter of the file
}

func TestFio(t *testing.T) {
	need.Tool(t, "fio")
	size := 1 << 20
	if stressTime(t) > 0 {
		size = 128 << 20
	}
	// What fails on a plain directory says nothing of ours.
	t.Run("plain directory", func(t *testing.T) { runFio(t, tempDir(t), size, false) })
	for _, mode := range stressModes {
		t.Run(mode.name+"/new files", func(t *testing.T) {
			m := newMount(t, mode.o, nil)
			runFio(t, m.dir, size, false)
			nothingLeft(t, m)
		})
		t.Run(mode.name+"/files of the lower", func(t *testing.T) {
			m := newMount(t, mode.o, func(lower string) {
				for _, job := range fioJobs {
					write(t, filepath.Join(lower, fioName(job)), strings.Repeat(oldData, size/len(oldData)))
				}
			})
			before := hash(t, m.lower)
			var readers []*os.File // all the time
			for _, job := range fioJobs {
				r := openFile(t, m.path(fioName(job)), os.O_RDONLY)
				pread(t, r, 1)
				readers = append(readers, r)
			}
			runFio(t, m.dir, size, true)
			if hash(t, m.lower) != before {
				t.Error("the lower has changed")
			}
			for i, job := range fioJobs {
				readers[i].Close()
				data, err := os.ReadFile(m.path(fioName(job)))
				if err != nil || len(data) != size {
					t.Errorf("%d bytes, %v", len(data), err)
				} else if rest := string(data[size/2:]); rest != strings.Repeat(oldData, len(rest)/len(oldData)) && !strings.Contains(job, "numjobs") {
					t.Errorf("%s: what fio did not write has changed", fioName(job))
				}
			}
			nothingLeft(t, m)
		})
	}
}

// runFio runs all jobs in dir.
func runFio(t *testing.T, dir string, size int, half bool) {
	t.Helper()
	script := fioScript(dir, size, half)
	cmd := exec.Command("fio", "--output-format=terse", "--output=/dev/null", "-")
	cmd.Dir = t.TempDir() // for what it writes down of the state of verification
	cmd.Stdin = strings.NewReader(script)
	start := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("fio: %v\n%s\n%s", err, script, out)
	}
	t.Logf("%v of fio, %d MiB in %d files", time.Since(start).Round(time.Second), len(fioJobs)*size>>20, len(fioJobs))
}

// fioScript is what fio is to do. Of files that are there, the first
// half is written; four's all is.
func fioScript(dir string, size int, half bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[global]\ndirectory=%s\nverify=crc32c\nverify_fatal=1\nthread=1\n", dir)
	for _, job := range fioJobs {
		words := strings.Fields(job)
		fmt.Fprintf(&b, "[%s]\nfilename=%[1]s\n", fioName(job))
		for _, w := range words[1:] {
			fmt.Fprintln(&b, w)
		}
		switch {
		case strings.Contains(job, "numjobs"):
			fmt.Fprintf(&b, "size=%d\noffset_increment=%[1]d\n", size/4)
		case half:
			fmt.Fprintf(&b, "size=%d\n", size/2)
		default:
			fmt.Fprintf(&b, "size=%d\n", size)
		}
	}
	return b.String()
}

func fioName(job string) string {
	return strings.TrimPrefix(strings.Fields(job)[0], "name=")
}
