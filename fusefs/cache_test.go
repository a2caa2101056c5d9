package fusefs

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What the kernel has asked once it does not ask again.
func TestKernelCaches(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) {
		for i := range 300 {
			write(t, fmt.Sprintf("%s/f%03d", lower, i), "f")
		}
		os.Symlink("f001", lower+"/link")
	})
	use := func() {
		for _, name := range names(t, m.dir) {
			stat(t, m.path(name))
		}
		os.Stat(m.path("missing"))
		os.Readlink(m.path("link"))
	}
	use()
	before := m.counts()
	if before.Lookups > 20 {
		t.Errorf("%d lookups beside readdirplus", before.Lookups)
	}
	use()
	after := m.counts()
	if after.Lookups != before.Lookups || after.Getattrs != before.Getattrs || after.Readdirs != before.Readdirs {
		t.Errorf("asked again: before %+v, after %+v", before, after)
	}

	write(t, m.path("missing"), "now")
	if st := stat(t, m.path("missing")); st.Size != 3 {
		t.Errorf("size %d", st.Size)
	}
	if !slices.Contains(names(t, m.dir), "missing") {
		t.Error("a new name is not listed")
	}
	os.Remove(m.path("f000"))
	if slices.Contains(names(t, m.dir), "f000") {
		t.Error("a removed name is listed")
	}
}

func TestObserveAsksAlways(t *testing.T) {
	m := newMount(t, Options{Observe: true}, func(lower string) { write(t, lower+"/f", "f") })
	for range 3 {
		stat(t, m.path("f"))
		os.Stat(m.path("missing"))
		wantContent(t, m.path("f"), "f")
	}
	if n := m.counts(); n.Lookups < 9 || n.Reads < 3 {
		t.Errorf("%+v", n)
	}
}

func TestBigDirectory(t *testing.T) {
	const n = 1200
	m := newMount(t, Options{}, func(lower string) {
		os.Mkdir(lower+"/d", 0o755)
		for i := range n / 2 {
			write(t, fmt.Sprintf("%s/d/lower-with-a-long-name-%05d", lower, i), "")
		}
	})
	for i := range n / 2 {
		write(t, fmt.Sprintf("%s/upper-%05d", m.path("d"), i), "")
	}
	if got := names(t, m.path("d")); len(got) != n {
		t.Errorf("%d names, want %d", len(got), n)
	}
	// d_ino and st_ino are the same.
	f := openFile(t, m.path("d"), os.O_RDONLY)
	buf := make([]byte, 4096)
	seen := 0
	for {
		k, err := unix.Getdents(int(f.Fd()), buf)
		if err != nil {
			t.Fatal(err)
		}
		if k == 0 {
			break
		}
		for rec := buf[:k]; len(rec) > 0; {
			ino := *(*uint64)(ptr(rec))
			size := int(rec[16]) | int(rec[17])<<8
			name := unix.ByteSliceToString(rec[19:size])
			if st := stat(t, m.path("d/"+name)); st.Ino != ino {
				t.Fatalf("%s: d_ino %d, st_ino %d", name, ino, st.Ino)
			}
			seen++
			rec = rec[size:]
		}
	}
	if seen != n+2 {
		t.Errorf("%d entries, want %d", seen, n+2)
	}

	// Going back to where one was goes on there, though names come and go.
	f.Seek(0, 0)
	first, _ := f.Readdirnames(100)
	pos, _ := f.Seek(0, 1)
	rest, _ := f.Readdirnames(-1)
	os.Remove(m.path("d/" + first[0]))
	f.Seek(pos, 0)
	again, _ := f.Readdirnames(-1)
	if len(rest) == 0 || len(again) == 0 || again[len(again)-1] != rest[len(rest)-1] {
		t.Errorf("%d names after seeking, %d before", len(again), len(rest))
	}
}

func TestRenameFlags(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) {
		write(t, lower+"/a", "a")
		write(t, lower+"/b", "b")
	})
	rename := func(flags uint) error {
		return unix.Renameat2(unix.AT_FDCWD, m.path("a"), unix.AT_FDCWD, m.path("b"), flags)
	}
	if err := rename(unix.RENAME_NOREPLACE); err != unix.EEXIST {
		t.Errorf("NOREPLACE: %v", err)
	}
	if err := rename(unix.RENAME_EXCHANGE); err != nil {
		t.Errorf("EXCHANGE: %v", err)
	} else {
		wantContent(t, m.path("a"), "b")
		wantContent(t, m.path("b"), "a")
	}
	if err := rename(0); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(m.path("a")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestDescriptorsAreBounded(t *testing.T) {
	m := newMount(t, Options{}, func(lower string) { write(t, lower+"/f", strings.Repeat("a", 4096)) })
	for range 2000 {
		f, err := os.Open(m.path("f"))
		if err != nil {
			t.Fatal(err)
		}
		mem, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			t.Fatal(err)
		}
		unix.Munmap(mem)
		f.Close()
	}
	if n := settled(0, func() int { return m.counts().Files + m.counts().Nodes }); n != 0 {
		t.Errorf("%+v", m.counts())
	}
	fds, err := os.ReadDir("/proc/" + strconv.Itoa(m.cmd.Process.Pid) + "/fd")
	if err != nil || len(fds) > 60 {
		t.Errorf("%d descriptors, %v", len(fds), err)
	}
}

func TestReadOnly(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	spec := mountSpec{Lowers: []string{base + "/lower"}, Mountpoint: base + "/merged"}
	os.Mkdir(spec.Lowers[0], 0o755)
	os.Mkdir(spec.Mountpoint, 0o755)
	write(t, spec.Lowers[0]+"/f", "f")
	m := startMount(t, spec, "/proc/self/exe")
	wantContent(t, m.path("f"), "f")
	if err := os.WriteFile(m.path("g"), nil, 0o644); err == nil || !strings.Contains(err.Error(), syscall.EROFS.Error()) {
		t.Errorf("create: %v", err)
	}
	if err := os.Chmod(m.path("f"), 0o600); err == nil || !strings.Contains(err.Error(), syscall.EROFS.Error()) {
		t.Errorf("chmod: %v", err)
	}
	out, err := exec.Command("findmnt", "-no", "FSTYPE,OPTIONS", m.dir).Output()
	if err != nil || !strings.Contains(string(out), "fuse.strata ro,") {
		t.Errorf("findmnt: %s, %v", out, err)
	}
}
