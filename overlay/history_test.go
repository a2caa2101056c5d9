package overlay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"strata/overlay/tree"
)

// op is one step of a history: it can be done to an FS and to a plain directory.
type op struct {
	name string
	on   func(x *fixture) error
	in   func(root string) error
}

var past = []unix.Timespec{{Sec: 1e9, Nsec: 123456789}, {Sec: 1e9 + 7, Nsec: 987654321}}

// opFor draws one step on the names of a small world, so that they clash.
func opFor(pick func(n int) int) op {
	dirs := []string{"", "a", "b", "a/d", "b/d", "a/d/e", "n"}
	names := []string{"f", "g", "h", "d", "e", "x"}
	path := func() string { return filepath.Join(dirs[pick(len(dirs))], names[pick(len(names))]) }
	p, q := path(), path()
	mode := []uint32{0o644, 0o600, 0o4755, 0o2711, 0o1777}[pick(5)]
	owner := []uint32{0, 1, 1000}[pick(3)]
	data := strings.Repeat(string(rune('a'+pick(26))), 1+pick(3000))
	size := int64(pick(5000))
	// Through a symlink a path of the plain directory then fails as ours does.
	target := "/dev/" + strings.Repeat("./", pick(4)) + "null"
	ctx := context.Background()
	full := func(root, p string) string { return filepath.Join(root, p) }
	switch pick(15) {
	case 0:
		return op{fmt.Sprintf("create %s", p), func(x *fixture) error {
			return x.in(p, func(dir ID, name string) error {
				n, h, err := x.Create(Caller{UID: owner, GID: owner}, dir, name, mode, unix.O_RDWR)
				if err != nil {
					return err
				}
				defer x.forget(n)
				defer h.Close()
				_, err = h.WriteAt([]byte(data), 0)
				return err
			})
		}, func(root string) error {
			fd, err := unix.Open(full(root, p), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if _, err := unix.Write(fd, []byte(data)); err != nil {
				return err
			}
			return bornAs(full(root, p), owner, mode)
		}}
	case 1:
		return op{fmt.Sprintf("mkdir %s", p), func(x *fixture) error {
			return x.in(p, func(dir ID, name string) error {
				n, err := x.Mkdir(Caller{UID: owner, GID: owner}, dir, name, mode)
				if err == nil {
					x.forget(n)
				}
				return err
			})
		}, func(root string) error {
			if err := unix.Mkdir(full(root, p), 0o700); err != nil {
				return err
			}
			return bornAs(full(root, p), owner, mode)
		}}
	case 2:
		return op{fmt.Sprintf("symlink %s", p), func(x *fixture) error {
			return x.in(p, func(dir ID, name string) error {
				n, err := x.Symlink(Caller{}, dir, name, target)
				if err == nil {
					x.forget(n)
				}
				return err
			})
		}, func(root string) error { return unix.Symlink(target, full(root, p)) }}
	case 3:
		typ := []uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFCHR, unix.S_IFBLK}[pick(4)]
		dev := unix.Mkdev(5, 1)
		return op{fmt.Sprintf("mknod %s %o", p, typ), func(x *fixture) error {
			return x.in(p, func(dir ID, name string) error {
				n, err := x.Mknod(Caller{}, dir, name, typ|0o640, dev)
				if err == nil {
					x.forget(n)
				}
				return err
			})
		}, func(root string) error {
			if err := unix.Mknod(full(root, p), typ|0o640, int(dev)); err != nil {
				return err
			}
			return unix.Chmod(full(root, p), 0o640)
		}}
	case 4, 5:
		return op{fmt.Sprintf("unlink %s", p), func(x *fixture) error {
			return x.in(p, x.Unlink)
		}, func(root string) error { return unix.Unlink(full(root, p)) }}
	case 6:
		return op{fmt.Sprintf("rmdir %s", p), func(x *fixture) error {
			return x.in(p, x.Rmdir)
		}, func(root string) error { return unix.Rmdir(full(root, p)) }}
	case 7:
		return op{fmt.Sprintf("link %s %s", p, q), func(x *fixture) error {
			return x.on(p, func(id ID) error {
				return x.in(q, func(dir ID, name string) error {
					n, err := x.Link(ctx, id, dir, name)
					if err == nil {
						x.forget(n)
					}
					return err
				})
			})
		}, func(root string) error {
			return unix.Linkat(unix.AT_FDCWD, full(root, p), unix.AT_FDCWD, full(root, q), 0)
		}}
	case 8, 9:
		flags := []uint32{0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[pick(4)]
		return op{fmt.Sprintf("rename %s %s %d", p, q, flags), func(x *fixture) error {
			return x.in(p, func(dir ID, name string) error {
				return x.in(q, func(newDir ID, newName string) error {
					return x.Rename(ctx, dir, name, newDir, newName, flags)
				})
			})
		}, func(root string) error {
			return unix.Renameat2(unix.AT_FDCWD, full(root, p), unix.AT_FDCWD, full(root, q), uint(flags))
		}}
	case 10:
		return op{fmt.Sprintf("write %s", p), func(x *fixture) error {
			return x.write(p, data, 0)
		}, func(root string) error { return writeHost(full(root, p), data, 0) }}
	case 11:
		return op{fmt.Sprintf("overwrite %s", p), func(x *fixture) error {
			return x.write(p, data, unix.O_TRUNC)
		}, func(root string) error { return writeHost(full(root, p), data, unix.O_TRUNC) }}
	case 12:
		return op{fmt.Sprintf("truncate %s %d", p, size), func(x *fixture) error {
			return x.on(p, func(id ID) error {
				_, err := x.Setattr(ctx, id, SetAttr{Size: &size})
				return err
			})
		}, func(root string) error {
			var st unix.Stat_t
			if err := unix.Lstat(full(root, p), &st); err != nil {
				return err
			}
			return truncate(inode{dir: unix.AT_FDCWD, name: full(root, p)}, st.Mode&unix.S_IFMT, size)
		}}
	case 13:
		return op{fmt.Sprintf("chown chmod utimes %s", p), func(x *fixture) error {
			return x.on(p, func(id ID) error {
				s := SetAttr{UID: &owner, GID: &owner, Atime: &tree.Time{Sec: past[0].Sec, Nsec: uint32(past[0].Nsec)}, Mtime: &tree.Time{Sec: past[1].Sec, Nsec: uint32(past[1].Nsec)}}
				if a, err := x.Getattr(id); err == nil && !a.IsSymlink() {
					s.Mode = &mode
				}
				_, err := x.Setattr(ctx, id, s)
				return err
			})
		}, func(root string) error {
			if err := asOwner(full(root, p), owner, mode); err != nil {
				return err
			}
			return unix.UtimesNanoAt(unix.AT_FDCWD, full(root, p), past, unix.AT_SYMLINK_NOFOLLOW)
		}}
	default:
		name := []string{"user.one", "user.two", "trusted.overlay.opaque", "trusted.overlay.overlay.x", "security.x"}[pick(5)]
		remove := pick(3) == 0
		return op{fmt.Sprintf("xattr %s %s %v", p, name, remove), func(x *fixture) error {
			return x.on(p, func(id ID) error {
				if a, err := x.Getattr(id); err == nil && !a.IsDir() && !a.IsRegular() {
					return unix.EPERM // for user xattrs, as the kernel decides before it asks
				}
				if remove {
					return x.Removexattr(ctx, id, name)
				}
				return x.Setxattr(ctx, id, name, []byte(data[:1]), 0)
			})
		}, func(root string) error {
			i := inode{dir: unix.AT_FDCWD, name: full(root, p)}
			var st unix.Stat_t
			if err := i.stat(&st); err != nil {
				return err
			}
			if t := st.Mode & unix.S_IFMT; t != unix.S_IFDIR && t != unix.S_IFREG {
				return unix.EPERM
			}
			if remove {
				return unix.Lremovexattr(i.name, name)
			}
			return unix.Lsetxattr(i.name, name, []byte(data[:1]), 0)
		}}
	}
}

// bornAs gives a new inode what it would have if that owner had made it.
func bornAs(path string, owner, mode uint32) error {
	var dir, st unix.Stat_t
	if err := unix.Stat(filepath.Dir(path), &dir); err != nil {
		return err
	}
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	gid := owner
	if dir.Mode&unix.S_ISGID != 0 {
		gid = dir.Gid
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			mode |= unix.S_ISGID
		}
	}
	if err := unix.Lchown(path, int(owner), int(gid)); err != nil {
		return err
	}
	return unix.Chmod(path, mode)
}

func asOwner(path string, owner, mode uint32) error {
	if err := unix.Lchown(path, int(owner), int(owner)); err != nil {
		return err
	}
	if st, err := os.Lstat(path); err != nil || st.Mode()&os.ModeSymlink != 0 {
		return err
	}
	return unix.Chmod(path, mode)
}

func writeHost(path, data string, flags int) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.ENXIO
	}
	_, err = unix.Pwrite(fd, []byte(data), 0)
	return err
}

// makeLayers returns two lower layers, base first, and makes a plain directory below
// top that holds what they merge to, as the kernel's overlayfs sees it. The layers
// are made once: nobody may change them.
func makeLayers(t testing.TB, top string) (layers []string, plain string) {
	t.Helper()
	layersOnce.Do(func() { layersDir = writeLayers(t) })
	if layersDir == "" {
		t.Fatal("there are no layers")
	}
	run(t, top, "cp -a "+layersDir+"/copy plain")
	return []string{layersDir + "/base", layersDir + "/mid"}, top + "/plain"
}

var (
	layersOnce sync.Once
	layersDir  string // removed by TestMain
)

func writeLayers(t testing.TB) string {
	t.Helper()
	script := `
mkdir base mid plain
mkdir -p base/a/d/e base/b/d base/n
echo one > base/f; echo two > base/a/f; echo three > base/a/g; echo four > base/a/d/f
echo five > base/b/f; ln base/b/f base/b/g; ln base/b/f base/a/h
ln -s f base/a/x; mkfifo base/b/h; echo six > base/a/d/e/f; echo seven > base/n/f
chown 1:2 base/a/g; chmod 4711 base/a/g; setfattr -n user.one -v 1 base/a/g base/b
chmod 2775 base/n; chown 0:1000 base/n
mkdir -p mid/a/d mid/n
mknod mid/a/f c 0 0; echo eight > mid/a/d/g; mkdir mid/b; setfattr -n trusted.overlay.opaque -v y mid/n
echo nine > mid/n/g; echo ten > mid/e; head -c 9000 /dev/urandom > mid/x
find base mid -exec touch -h -d '2001-02-03 04:05:06.789' {} +
mount -t overlay overlay -o ro,lowerdir=mid:base plain
cp -a plain copy
umount plain
`
	top, err := os.MkdirTemp(inMemory(), "strata-overlay-layers-")
	if err != nil {
		t.Fatal(err)
	}
	run(t, top, script)
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	return top
}

// TestHistories does random steps to an FS and to a plain directory and wants the
// same answers and, after that and after a remount, the same tree; and that the
// kernel, mounting the same upper, shows it, too.
func TestHistories(t *testing.T) {
	needRoot(t)
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		history(t, rt, tempDir(t), FormatKernel, seed, steps)
	})
}

// failer is what *rapid.T and *testing.T have in common.
type failer interface {
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

func history(t *testing.T, rt failer, top string, format Format, seed uint64, steps int) {
	layers, plain := makeLayers(t, top)
	guardLowers(t, layers...)
	x := newFixtureAt(t, top, format, layers...)
	defer x.close()
	r := rand.New(rand.NewPCG(seed, 0))
	for range steps {
		o := opFor(r.IntN)
		got := errnoOf(o.on(x))
		if got == unix.EXDEV { // a lower directory's rename, which a plain directory can do
			rt.Logf("%s: EXDEV", o.name)
			continue
		}
		want := errnoOf(o.in(plain))
		rt.Logf("%s: %v", o.name, nameOf(want))
		if got != want {
			rt.Fatalf("%s: %v, a plain directory says %v", o.name, nameOf(got), nameOf(want))
		}
	}
	want := dumpDir(t, plain)
	before := x.dump()
	compare(t, "merged", want, before, false)
	x.reopen()
	after := x.dump()
	compare(t, "after remount", before, after, true)
	for path, b := range before {
		if b.attr.Ino != after[path].attr.Ino {
			t.Errorf("%q was inode %d and is %d after remount", path, b.attr.Ino, after[path].attr.Ino)
		}
	}
	x.close()
	if format == FormatKernel {
		compare(t, "kernel's view of the upper", want, kernelView(t, x), false)
	}
	if t.Failed() {
		rt.Fatalf("see above (seed %d, %d steps)", seed, steps)
	}
}

func nameOf(e syscall.Errno) string {
	if e == 0 {
		return "ok"
	}
	return unix.ErrnoName(e)
}

// kernelView mounts the fixture's layers and upper as the kernel's overlayfs and
// describes what is seen.
func kernelView(t testing.TB, x *fixture) map[string]dumped {
	t.Helper()
	dir := t.TempDir()
	topmostFirst := []string{}
	for _, l := range x.layers {
		topmostFirst = append([]string{l}, topmostFirst...)
	}
	opts := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=on,index=off", strings.Join(topmostFirst, ":"), x.upper, x.work)
	if err := unix.Mount("overlay", dir, "overlay", 0, opts); err != nil {
		t.Fatalf("mount overlay -o %s: %v", opts, err)
	}
	defer unix.Unmount(dir, 0)
	return dumpDir(t, dir)
}

// TestHistorySeeds runs some histories that are new each time.
func TestHistorySeeds(t *testing.T) {
	needRoot(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("first seed %d", seed)
	for i := range uint64(count("STRATA_HISTORIES", 10)) {
		for _, format := range []Format{FormatKernel, FormatUser} {
			history(t, t, tempDir(t), format, seed+i, 150)
		}
	}
	history(t, t, t.TempDir(), FormatKernel, seed, 150) // on a disk
}

// count is a number that the environment can make larger, for long runs by hand.
func count(env string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv(env)); err == nil {
		return n
	}
	return usual
}
