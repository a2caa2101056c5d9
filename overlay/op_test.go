package overlay

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// op is one step of a history: it can be done to an FS and to a plain directory. Its
// name is the command for sh that does about the same.
type op struct {
	name string
	on   func(x *fixture) error
	in   func(root string) error
}

// changesData tells whether the step makes or changes the contents of a file.
func (o op) changesData() bool {
	return strings.Contains(o.name, "printf ") || strings.HasPrefix(o.name, "truncate ")
}

var past = []unix.Timespec{{Sec: 1e9, Nsec: 123456789}, {Sec: 1e9 + 7, Nsec: 987654321}}

var (
	worldDirs  = []string{"", "a", "b", "a/d", "b/d", "a/d/e", "n"}
	worldNames = []string{"f", "g", "h", "d", "e", "x"}
	oddDirs    = []string{"a/d/e/d", "a/d/e/d/e", "n/d", "b/d/e", longName, "n/" + longName}
	oddNames   = []string{longName, longName[:254] + "\xfe", "\xff\xfe not UTF-8", " '\\ \n", "..."}
	longName   = strings.Repeat("long", 63) + "l\xf6n"
)

// drawPath draws a path of a small world; now and then a deeper or odder one.
func drawPath(pick func(n int) int) string {
	dirs, names := worldDirs, worldNames
	if pick(8) == 0 {
		dirs = oddDirs
	}
	if pick(12) == 0 {
		names = oddNames
	}
	return filepath.Join(dirs[pick(len(dirs))], names[pick(len(names))])
}

// quoted makes a word for sh of a name.
func quoted(name string) string {
	if name != "" && !strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune("/-_.", r) && (r < '0' || r > 'z') }) {
		return name
	}
	return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
}

// letters is a command that prints data, one letter many times.
func letters(data string) string { return fmt.Sprintf("printf %%%ds | tr ' ' %c", len(data), data[0]) }

// opFor draws one step on the names of a small world, so that they clash.
func opFor(pick func(n int) int) op {
	path := func() string { return drawPath(pick) }
	p, q := path(), path()
	mode := []uint32{0o644, 0o600, 0o4755, 0o2711, 0o1777}[pick(5)]
	owner := []uint32{0, 1, 1000}[pick(3)]
	data := strings.Repeat(string(rune('a'+pick(26))), 1+pick(3000))
	size := int64(pick(5000))
	// Through a symlink a path of the plain directory then fails as ours does.
	target := "/dev/" + strings.Repeat("./", pick(4)) + "null"
	ctx := context.Background()
	P, Q := quoted(p), quoted(q)
	full := func(root, p string) string { return filepath.Join(root, p) }
	switch pick(15) {
	case 0:
		return op{fmt.Sprintf("(set -C; %s > %s) && chown %d:%d %[2]s && chmod %o %[2]s", letters(data), P, owner, owner, mode), func(x *fixture) error {
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
		return op{fmt.Sprintf("mkdir %s && chown %d:%d %[1]s && chmod %o %[1]s", P, owner, owner, mode), func(x *fixture) error {
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
		return op{fmt.Sprintf("ln -sT %s %s", target, P), func(x *fixture) error {
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
		return op{mknodCommand(typ, P), func(x *fixture) error {
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
		return op{"unlink " + P, func(x *fixture) error {
			return x.in(p, x.Unlink)
		}, func(root string) error { return unix.Unlink(full(root, p)) }}
	case 6:
		return op{"rmdir " + P, func(x *fixture) error {
			return x.in(p, x.Rmdir)
		}, func(root string) error { return unix.Rmdir(full(root, p)) }}
	case 7:
		return op{fmt.Sprintf("ln -PT %s %s", P, Q), func(x *fixture) error {
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
		return op{fmt.Sprintf("mv -T%s %s %s", []string{"", "n", " --exchange"}[flags], P, Q), func(x *fixture) error {
			return x.in(p, func(dir ID, name string) error {
				return x.in(q, func(newDir ID, newName string) error {
					return x.Rename(ctx, dir, name, newDir, newName, flags)
				})
			})
		}, func(root string) error {
			return unix.Renameat2(unix.AT_FDCWD, full(root, p), unix.AT_FDCWD, full(root, q), uint(flags))
		}}
	case 10:
		return op{fmt.Sprintf("%s | dd of=%s conv=notrunc,nocreat status=none", letters(data), P), func(x *fixture) error {
			return x.write(p, data, 0)
		}, func(root string) error { return writeHost(full(root, p), data, 0) }}
	case 11:
		return op{fmt.Sprintf("%s | dd of=%s conv=nocreat status=none", letters(data), P), func(x *fixture) error {
			return x.write(p, data, unix.O_TRUNC)
		}, func(root string) error { return writeHost(full(root, p), data, unix.O_TRUNC) }}
	case 12:
		return op{fmt.Sprintf("truncate -c -s %d %s", size, P), func(x *fixture) error {
			return x.on(p, func(id ID) error {
				_, err := x.Setattr(ctx, id, SetAttr{Size: &size})
				return err
			})
		}, func(root string) error {
			var st unix.Stat_t
			if err := unix.Lstat(full(root, p), &st); err != nil {
				return err
			}
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFREG:
				return unix.Truncate(full(root, p), size)
			case unix.S_IFDIR:
				return unix.EISDIR
			}
			return unix.EINVAL
		}}
	case 13:
		return op{fmt.Sprintf("chown -h %d:%d %s && chmod %o %[3]s && touch -hac -d @%d %[3]s && touch -hmc -d @%d.987654321 %[3]s", owner, owner, P, mode, past[0].Sec, past[1].Sec), func(x *fixture) error {
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
		return op{setfattrCommand(remove, name, data[:1], P), func(x *fixture) error {
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

func mknodCommand(typ uint32, path string) string {
	switch typ {
	case unix.S_IFIFO:
		return fmt.Sprintf("mkfifo -m 640 %s", path)
	case unix.S_IFSOCK:
		return fmt.Sprintf(`python3 -c 'import os, sys; os.mknod(sys.argv[1], 0o140640)' %s`, path)
	case unix.S_IFCHR:
		return fmt.Sprintf("mknod -m 640 %s c 5 1", path)
	}
	return fmt.Sprintf("mknod -m 640 %s b 5 1", path)
}

func setfattrCommand(remove bool, name, value, path string) string {
	if remove {
		return fmt.Sprintf("setfattr -h -x %s %s", name, path)
	}
	return fmt.Sprintf("setfattr -h -n %s -v %s %s", name, value, path)
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
