package overlay

import (
	"bytes"
	"encoding/gob"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strata/internal/histories"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

const nobody = 65534

// TestUserHistories runs histories as a user without privileges; a plain directory
// on which root does the same must look the same.
func TestUserHistories(t *testing.T) {
	needRoot(t)
	seed := uint64(time.Now().UnixNano())
	for i := range uint64(count("STRATA_HISTORIES", 8)) {
		userHistory(t, seed+i, 150)
	}
}

func userHistory(t *testing.T, seed uint64, steps int) {
	top := tempDir(t)
	layers, plain := makeLayers(t, top)
	if err := histories.WriteTreeFile(top, layers...); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(top, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	cmd := child("history", top, itoa(int(seed)), itoa(steps))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	var rep childReport
	if err := gob.NewDecoder(bytes.NewReader(out)).Decode(&rep); err != nil {
		t.Fatal(err)
	}
	for _, e := range rep.Errors {
		t.Errorf("seed %d: %s", seed, e)
	}
	w := &histories.Directory{}
	if err := w.Enter(plain); err != nil {
		t.Fatal(err)
	}
	defer w.Leave()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range steps {
		s := histories.DrawNameStep(r.IntN)
		if want := w.Do(s); rep.Errnos[i] != want.Errno {
			t.Fatalf("seed %d, step %d: %v: %v, a plain directory says %v", seed, i, s, histories.NameOf(rep.Errnos[i]), want)
		}
	}
	before := rep.Before
	compare(t, "merged", dumpDir(t, plain), before, false)
	compare(t, "after remount", before, rep.After, true)
	checkStandIns(t, filepath.Join(top, "upper"), before)
	if t.Failed() {
		t.Fatalf("seed %d", seed)
	}
}

// checkStandIns wants everything in the upper to be a regular file, a directory or
// a whiteout of nobody's that says what it stands for.
func checkStandIns(t *testing.T, upper string, merged histories.Tree) {
	t.Helper()
	err := filepath.WalkDir(upper, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		if st.Uid != nobody || st.Gid != nobody {
			t.Errorf("%s belongs to %d:%d", path, st.Uid, st.Gid)
		}
		if isWhiteout(&st) {
			return nil
		}
		if typ := st.Mode & tree.ModeType; typ != tree.ModeRegular && typ != tree.ModeDir {
			t.Errorf("%s has mode %o", path, st.Mode)
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(path, upper), "/")
		a := merged[rel]
		want := tree.OverrideStat{UID: a.UID, GID: a.GID, Mode: a.Mode, Rdev: a.Rdev}.String()
		if got := standIn(t, path); got != want {
			t.Errorf("%s stands for %q, want %q", path, got, want)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func standIn(t *testing.T, path string) string {
	t.Helper()
	buf := make([]byte, 256)
	n, err := unix.Lgetxattr(path, "user.containers.override_stat", buf)
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return ""
	}
	return string(buf[:n])
}

// TestUserStandIns has the values word for word.
func TestUserStandIns(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatUser, shell(t, `echo f > lower; chown 11:12 lower; chmod 4755 lower; ln -s to lowlink; mkdir -m 2770 lowdir`))
	c := Caller{UID: 1000, GID: 2000}
	mknod := func(name string, mode uint32, rdev uint64) {
		n, err := x.Mknod(c, Root, name, mode, rdev)
		x.must(err)
		x.forget(n)
	}
	mknod("reg", unix.S_IFREG|0o640, 0)
	mknod("pipe", unix.S_IFIFO|0o600, 0)
	mknod("setid", unix.S_IFIFO|0o6711, 0)
	mknod("sock", unix.S_IFSOCK|0o755, 0)
	mknod("null", unix.S_IFCHR|0o666, unix.Mkdev(1, 3))
	mknod("disk", unix.S_IFBLK|0o660, unix.Mkdev(259, 1048575))
	n, err := x.Symlink(c, Root, "link", "/some/where")
	x.must(err)
	x.forget(n)
	n, err = x.Mkdir(c, Root, "dir", 0o1777)
	x.must(err)
	x.forget(n)
	uid := uint32(33)
	x.must(x.setattr("lower", SetAttr{UID: &uid})) // which clears the set-id bit
	x.must(x.setattr("lowlink", SetAttr{UID: &uid}))
	x.must(x.setattr("setid", SetAttr{UID: &uid}))
	x.must(x.create("lowdir/in", "")) // gets that directory's group
	for name, want := range map[string]string{
		"reg": "1000:2000:0640:file", "pipe": "1000:2000:0600:pipe", "setid": "33:2000:0711:pipe", "sock": "1000:2000:0755:socket",
		"null": "1000:2000:0666:char-1-3", "disk": "1000:2000:0660:block-259-1048575",
		"link": "1000:2000:0777:symlink", "dir": "1000:2000:1777:dir",
		"lower": "33:12:0755:file", "lowlink": "33:0:0777:symlink", "lowdir": "0:0:2770:dir", "lowdir/in": "0:0:0644:file",
	} {
		if got := standIn(t, filepath.Join(x.upper, name)); got != want {
			t.Errorf("%s stands for %q, want %q", name, got, want)
		}
		st := x.upperStat(name)
		if mode := st.Mode &^ 0o077; mode != tree.ModeDir|0o700 && mode != tree.ModeRegular|0o600 || st.Mode&0o077 != 0 {
			t.Errorf("%s has mode %o on disk", name, st.Mode)
		}
	}
	if target, err := os.ReadFile(filepath.Join(x.upper, "link")); err != nil || string(target) != "/some/where" {
		t.Errorf("the symlink's file holds %q, %v", target, err)
	}
	wantSameAfterRemount(x)
}

// TestUserDamagedStandIn: a value that says nothing is EIO, not somebody's guess.
func TestUserDamagedStandIn(t *testing.T) {
	needRoot(t)
	x := newFixture(t, FormatUser, shell(t, `echo f > f`))
	x.must(x.create("damaged", "x"))
	x.must(x.create("good", "x"))
	x.close()
	x.must(unix.Setxattr(filepath.Join(x.upper, "damaged"), tree.OverrideStatXattr, []byte("0:zero:644"), 0))
	x.open()
	wantErrno(t, "Lookup", x.on("damaged", func(ID) error { return nil }), unix.EIO)
	if data, err := x.read("good"); err != nil || data != "x" {
		t.Errorf("the others: %q, %v", data, err)
	}
}
