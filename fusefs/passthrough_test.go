package fusefs

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/need"
)

// hash returns a hash of all files below dir and their attributes.
func hash(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		io.WriteString(h, strings.Join([]string{path, fi.Mode().String(), fi.ModTime().String(), fmt.Sprint(st.Ctim),
			strconv.FormatInt(fi.Size(), 10), strconv.FormatUint(st.Nlink, 10)}, "\x00"))
		if fi.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			h.Write(data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

func openFile(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func pread(t *testing.T, f *os.File, n int) string {
	t.Helper()
	buf := make([]byte, n)
	k, err := f.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		t.Error(err)
	}
	return string(buf[:k])
}

func stat(t *testing.T, path string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// requirePassthrough ends a test that means nothing without.
func (m *mounted) requirePassthrough() {
	m.t.Helper()
	if !m.counts().Passthrough {
		need.Missing(m.t, "the kernel grants no passthrough here")
	}
}

func TestPassthroughDoesNotAskUs(t *testing.T) {
	data := strings.Repeat("x", 1<<20)
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", data) })
	m.requirePassthrough()
	for range 3 {
		wantContent(t, m.path("f"), data)
	}
	write(t, m.path("new"), data)
	wantContent(t, m.path("new"), data)
	f := openFile(t, m.path("f"), os.O_RDWR)
	f.WriteAt([]byte("changed"), 0)
	if n := m.counts(); n.Reads != 0 || n.Writes != 0 || n.Opens < 4 {
		t.Errorf("%d reads and %d writes reached the server in %d opens", n.Reads, n.Writes, n.Opens)
	}
}

// The lower is open for reading when somebody opens it for writing.
func TestCopyUpWhileOpen(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) {
		write(t, lower+"/f", "before")
		os.Link(lower+"/f", lower+"/g")
	})
	m.requirePassthrough()
	ino := stat(t, m.path("f")).Ino
	stat(t, m.path("g"))
	r := openFile(t, m.path("f"), os.O_RDONLY)
	mem, err := unix.Mmap(int(r.Fd()), 0, 6, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)

	w := openFile(t, m.path("f"), os.O_RDWR)
	if n := m.counts(); n.Splits != 1 {
		t.Errorf("%d inodes have several node ids, want 1", n.Splits)
	}
	if _, err := w.WriteAt([]byte("AFTER and more"), 0); err != nil {
		t.Error(err)
	}
	if got := pread(t, r, 20); got != "before" {
		t.Errorf("the reader sees %q", got)
	}
	if string(mem) != "before" {
		t.Errorf("the old mapping shows %q", mem)
	}
	wantContent(t, m.path("f"), "AFTER and more")
	wantContent(t, m.path("g"), "AFTER and more")
	for _, name := range []string{"f", "g"} {
		if st := stat(t, m.path(name)); st.Ino != ino || st.Size != 14 || st.Nlink != 2 {
			t.Errorf("%s: ino %d (was %d), size %d, nlink %d", name, st.Ino, ino, st.Size, st.Nlink)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(r.Fd()), &st); err != nil || st.Ino != ino || st.Size != 14 {
		t.Errorf("the reader's fstat: ino %d (was %d), size %d, %v", st.Ino, ino, st.Size, err)
	}

	// Changes through either are seen through both.
	if err := r.Chmod(0o600); err != nil {
		t.Error(err)
	}
	if st := stat(t, m.path("g")); st.Mode&0o777 != 0o600 {
		t.Errorf("mode is %o", st.Mode)
	}
	if err := os.Remove(m.path("g")); err != nil {
		t.Error(err)
	}
	if st := stat(t, m.path("f")); st.Nlink != 1 {
		t.Errorf("nlink is %d", st.Nlink)
	}
	again := openFile(t, self(r), os.O_RDONLY)
	if got := pread(t, again, 20); got != "before" {
		t.Errorf("the reader's descriptor, opened again, shows %q", got)
	}
	again.Close()

	// When the reader has gone there is one inode again.
	unix.Munmap(mem)
	r.Close()
	w.Close()
	if n := settled(0, func() int { return m.counts().Nodes - m.counts().Splits }); n != 0 {
		t.Errorf("%+v", m.counts())
	}
	stat(t, m.path("f"))
	before := m.counts().Getattrs
	for range 5 {
		stat(t, m.path("f"))
	}
	if n := m.counts().Getattrs - before; n > 1 {
		t.Errorf("%d of 5 stats were not answered by the kernel", n)
	}
	wantContent(t, m.path("f"), "AFTER and more")
}

func TestCopyUpWhileOpenByAnotherProcess(t *testing.T) {
	m := newMount(t, Options{AllowOther: true}, func(lower string) {
		write(t, lower+"/f", strings.Repeat("old\n", 1000))
		os.Chmod(lower+"/f", 0o666)
	})
	reader := exec.Command("/bin/sh", "-c", "exec < "+m.path("f")+"; echo open; read x <&2; exec cat")
	reader.Stdin = nil
	out, err := reader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	gate, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	gate.Close()
	reader.Stderr = pr
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	io.ReadFull(out, make([]byte, len("open\n")))
	m.run(1000, "for i in 1 2 3; do echo new >> f; done; [ $(tail -n 1 f) = new ]; : > f; echo short > f")
	pw.WriteString("go\n")
	got, _ := io.ReadAll(out)
	if string(got) != strings.Repeat("old\n", 1000) {
		t.Errorf("the reader got %d bytes, ending in %q", len(got), got[max(0, len(got)-10):])
	}
	if err := reader.Wait(); err != nil {
		t.Error(err)
	}
	wantContent(t, m.path("f"), "short\n")
}

func TestCopyUpByTruncate(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", "0123456789") })
	r := openFile(t, m.path("f"), os.O_RDONLY)
	pread(t, r, 10)
	if err := os.Truncate(m.path("f"), 4); err != nil {
		t.Fatal(err)
	}
	if st := stat(t, m.path("f")); st.Size != 4 {
		t.Errorf("size %d", st.Size)
	}
	wantContent(t, m.path("f"), "0123")
	if err := os.Truncate(m.path("f"), 6); err != nil {
		t.Fatal(err)
	}
	wantContent(t, m.path("f"), "0123\x00\x00")
	write(t, m.path("f"), "end")
	wantContent(t, m.path("f"), "end")
}

func TestRunningProgramIsBusy(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) {
		data, err := os.ReadFile("/bin/sleep")
		if err != nil {
			t.Fatal(err)
		}
		write(t, lower+"/program", string(data))
		os.Chmod(lower+"/program", 0o755)
	})
	program := exec.Command(m.path("program"), "60")
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(m.path("program"), os.O_WRONLY, 0)
	if err == nil {
		f.Close()
	}
	if !errors.Is(err, syscall.ETXTBSY) {
		t.Errorf("open for writing: %v", err)
	}
	program.Process.Kill()
	program.Wait()
	write(t, m.path("program"), "text")
}

// With -o coherent, and wherever lowers are not passed through, whoever has the
// lower open sees what is written.
func TestCoherent(t *testing.T) {
	for name, o := range map[string]Options{"coherent": {Coherent: true}, "passthrough off": {Passthrough: PassthroughOff}, "observe": {Observe: true}} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t, o, func(lower string) { write(t, lower+"/f", strings.Repeat("a", 64<<10)) })
			r := openFile(t, m.path("f"), os.O_RDONLY)
			pread(t, r, 10)
			w := openFile(t, m.path("f"), os.O_RDWR)
			for _, off := range []int64{0, 32 << 10, 100 << 10} {
				if _, err := w.WriteAt([]byte("new"), off); err != nil {
					t.Error(err)
				}
				got := make([]byte, 3)
				if _, err := r.ReadAt(got, off); err != nil || string(got) != "new" {
					t.Errorf("at %d the reader sees %q, %v", off, got, err)
				}
			}
			unix.Fadvise(int(r.Fd()), 0, 0, unix.FADV_DONTNEED)
			if got := pread(t, r, 4); got != "newa" {
				t.Errorf("the reader sees %q after its cache was dropped", got)
			}
			w.Close()
			if err := os.Truncate(m.path("f"), 2); err != nil {
				t.Error(err)
			}
			if err := os.Truncate(m.path("f"), 4); err != nil {
				t.Error(err)
			}
			if got := pread(t, r, 10); got != "ne\x00\x00" {
				t.Errorf("the reader sees %q after truncation", got)
			}
			if n := m.counts(); n.Splits != 0 {
				t.Errorf("%d splits", n.Splits)
			}
		})
	}
}

// A mapping's stores are not reported, so attributes are asked for while a file
// is open for writing.
func TestAttributesWhileWriting(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", strings.Repeat("a", 4096)) })
	stat(t, m.path("f"))
	f := openFile(t, m.path("f"), os.O_RDWR)
	mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	before := stat(t, m.path("f")).Mtim
	time.Sleep(20 * time.Millisecond)
	mem[0] = 'b'
	unix.Msync(mem, unix.MS_SYNC)
	if after := stat(t, m.path("f")).Mtim; after == before {
		t.Error("mtime is the same after a store through a mapping")
	}
}

func TestParallelCopyUp(t *testing.T) {
	for name, o := range map[string]Options{"passthrough": {}, "coherent": {Coherent: true}, "off": {Passthrough: PassthroughOff}} {
		t.Run(name, func(t *testing.T) {
			m := newMount(t, o, func(lower string) {
				for i := range 20 {
					write(t, lower+"/f"+strconv.Itoa(i), "0123456789")
				}
			})
			var wg sync.WaitGroup
			for worker := range 8 {
				wg.Go(func() {
					for i := range 200 {
						path := m.path("f" + strconv.Itoa(i%20))
						flags := os.O_RDONLY
						if (i+worker)%3 == 0 {
							flags = os.O_RDWR
						}
						f, err := os.OpenFile(path, flags, 0)
						if err != nil {
							t.Error(err)
							return
						}
						if flags == os.O_RDWR {
							if _, err := f.WriteAt([]byte("abcdefghij"), 0); err != nil {
								t.Error(err)
							}
						}
						if got := pread(t, f, 10); got != "0123456789" && got != "abcdefghij" {
							t.Errorf("read %q", got)
						}
						if fi, err := f.Stat(); err != nil || fi.Size() != 10 {
							t.Errorf("stat: %v", err)
						}
						f.Close()
					}
				})
			}
			wg.Wait()
			for i := range 20 {
				wantContent(t, m.path("f"+strconv.Itoa(i)), "abcdefghij")
			}
			if n := settled(0, func() int { return m.counts().Files }); n != 0 {
				t.Errorf("%d handles left: %+v", n, m.counts())
			}
		})
	}
}
