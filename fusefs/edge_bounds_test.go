package fusefs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// inMemory lets the mounts of a test lie in memory, where many files are made
// quickly.
func inMemory(t *testing.T) {
	t.Helper()
	const dir = "/dev/shm"
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC {
		t.Setenv("TMPDIR", dir)
	}
}

// Many files of lower and upper are opened, mapped and closed, by several at
// once. What the server has open at a time stays bounded, and in the end nothing
// is left: no descriptor, no goroutine, no node.
func TestManyFiles(t *testing.T) {
	inMemory(t)
	files := 5_000
	if stressTime(t) > 0 {
		files = 100_000
	}
	const perDir = 1000
	for name, o := range map[string]Options{"passthrough": {}, "cached": {Passthrough: PassthroughOff}} {
		t.Run(name, func(t *testing.T) {
			fill := func(top string) {
				for i := range files / 2 {
					dir := filepath.Join(top, fmt.Sprintf("%s-%d", filepath.Base(top), i/perDir))
					if i%perDir == 0 {
						if err := os.Mkdir(dir, 0o755); err != nil {
							t.Fatal(err)
						}
					}
					write(t, fmt.Sprintf("%s/%d", dir, i), "data")
				}
			}
			m := newMount(t, o, fill)
			m = refilled(m, fill)
			before := m.counts().FDs

			const workers, mappings = 4, 500
			var most counts
			var wg sync.WaitGroup
			for worker := range workers {
				wg.Go(func() {
					var mapped [][]byte // stay a while: a mapping outlives its descriptor
					defer func() {
						for _, mem := range mapped {
							unix.Munmap(mem)
						}
					}()
					for i := worker; i < files; i += workers {
						top, n := "lower", i/2
						if i%2 == 1 {
							top = "upper"
						}
						f, err := os.Open(m.path(fmt.Sprintf("%s-%d/%d", top, n/perDir, n)))
						if err != nil {
							t.Error(err)
							return
						}
						mem, err := unix.Mmap(int(f.Fd()), 0, 4, unix.PROT_READ, unix.MAP_SHARED)
						if err != nil || string(mem) != "data" {
							t.Errorf("%s: %q, %v", f.Name(), mem, err)
						}
						f.Close()
						if mapped = append(mapped, mem); len(mapped) > mappings {
							unix.Munmap(mapped[0])
							mapped = mapped[1:]
						}
						if worker == 0 && n%100 == 0 {
							now := m.counts()
							most.FDs, most.Files, most.Nodes = max(most.FDs, now.FDs), max(most.Files, now.Files), max(most.Nodes, now.Nodes)
						}
					}
				})
			}
			wg.Wait()
			t.Logf("%d files: at most %d descriptors (%d before), %d handles, %d nodes", files, most.FDs, before, most.Files, most.Nodes)
			// Some directories are kept open, and RELEASE comes late. In cached mode
			// a mapping keeps its file open, in passthrough mode only the kernel's.
			bound := before + 300
			if name == "cached" {
				bound += workers * (mappings + 1)
			}
			if most.FDs > bound {
				t.Errorf("%d descriptors were open, want at most %d", most.FDs, bound)
			}
			if n := settled(0, func() int { c := m.counts(); return c.Files + c.Nodes }); n != 0 {
				t.Errorf("handles or nodes are left: %+v", m.counts())
			}
			if l := m.close(); len(l.FDs) > len(l.FDsBefore) || l.Goroutines > l.GoroutinesBefore {
				t.Errorf("after all was closed: %+v", l)
			}
		})
	}
}

// refilled mounts m again with an upper that fill has filled.
func refilled(m *mounted, fill func(upper string)) *mounted {
	m.t.Helper()
	if l := m.unmount(); l.Error != "" {
		m.t.Fatal(l.Error)
	}
	m.stop()
	fill(m.upper)
	return startMount(m.t, m.spec, "/proc/self/exe")
}

// Who lists a directory of 100,000 entries sees each name that is there all the
// time once, and can go back to where it was, while others create and remove.
func TestHugeDirectoryWhileItChanges(t *testing.T) {
	inMemory(t)
	const half = 50_000
	fill := func(top string) {
		os.Mkdir(top+"/d", 0o755)
		for i := range half {
			name := fmt.Sprintf("%s/d/stays-%s-%d", top, filepath.Base(top), i)
			if err := unix.Mknod(name, unix.S_IFREG|0o644, 0); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 2000 {
			unix.Mknod(fmt.Sprintf("%s/d/goes-%s-%d", top, filepath.Base(top), i), unix.S_IFREG|0o644, 0)
		}
	}
	m := newMount(t, Options{}, fill)
	m = refilled(m, fill)

	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer func() {
		close(stop)
		wg.Wait()
	}()
	for worker := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := m.path(fmt.Sprintf("d/comes-%d-%d", worker, i))
				f, err := os.Create(name)
				if err != nil {
					t.Error(err)
					return
				}
				f.Close()
				if i%3 == 0 {
					err = os.Remove(name)
				} else if i < 2000 {
					err = os.Remove(m.path(fmt.Sprintf("d/goes-%s-%d", []string{"lower", "upper"}[worker], i)))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	d := openFile(t, m.path("d"), os.O_RDONLY)
	all := listFrom(t, d, 0, -1)
	seen := make(map[string]int)
	for _, e := range all {
		seen[e.name]++
	}
	for _, top := range []string{"lower", "upper"} {
		for i := range half {
			if name := fmt.Sprintf("stays-%s-%d", top, i); seen[name] != 1 {
				t.Fatalf("%s was seen %d times", name, seen[name])
			}
		}
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("%s was seen %d times", name, n)
		}
	}
	// telldir and seekdir: what follows a place is what followed it.
	for range 50 {
		i := r.IntN(len(all) - 60)
		got := listFrom(t, d, all[i].next, 50)
		want := all[i+1 : i+51]
		if g, w := stays(got), stays(want); !slices.Equal(g[:min(len(g), len(w))], w[:min(len(g), len(w))]) || len(g) == 0 && len(w) > 0 {
			t.Fatalf("behind entry %d, %s: %q, want %q", i, all[i].name, g, w)
		}
	}
	d.Close()
}

// dirent is a name, and the place behind it.
type dirent struct {
	name string
	next int64
}

// stays are the names that nobody removes, in order.
func stays(list []dirent) (names []string) {
	for _, e := range list {
		if strings.HasPrefix(e.name, "stays-") {
			names = append(names, e.name)
		}
	}
	return names
}

// listFrom lists directory d from a place on, at least most entries or all if
// that is negative.
func listFrom(t *testing.T, d *os.File, place int64, most int) (list []dirent) {
	t.Helper()
	if _, err := unix.Seek(int(d.Fd()), place, 0); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32<<10)
	for most < 0 || len(list) < most {
		n, err := unix.Getdents(int(d.Fd()), buf)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		for rec := buf[:n]; len(rec) > 0; {
			size := int(*(*uint16)(ptr(rec[16:])))
			name := rec[19:size]
			name = name[:bytes.IndexByte(name, 0)]
			list = append(list, dirent{string(name), *(*int64)(ptr(rec[8:]))})
			rec = rec[size:]
		}
	}
	return list
}
