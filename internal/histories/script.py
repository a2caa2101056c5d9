# Each call of a history by its name. AT is where a path begins: 0 the root, -1 the
# working directory, else one more than the slot of an open directory.
import ctypes, errno, mmap as mm, os, socket, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
fds, ROOT, PROC = {}, -1, os.open("/proc", os.O_PATH)
AT_FDCWD, AT_EMPTY_PATH, NOFOLLOW = -100, 0x1000, 0x100

def c(name, *args):
    if getattr(libc, name)(*args) < 0:
        raise OSError(ctypes.get_errno(), "")
def dirfd(at): return ROOT if at == 0 else AT_FDCWD if at == -1 else fds.get(at - 1, -1)
def full(at, path): return path if at == -1 else (b"/" + path if CHROOT else b"/proc/self/fd/%d/" % ROOT + path)
def put(slot, new):
    if slot in fds: os.close(fds.pop(slot))
    if new >= 0: fds[slot] = new
def long(n): return ctypes.c_long(n)
def kind(path): return os.stat(path, dir_fd=ROOT, follow_symlinks=False).st_mode & 0o170000
def fail(e): raise OSError(e, "")

def mkdirat(at=0, path=b"", mode=0): c("mkdirat", dirfd(at), path, mode)
def symlinkat(at=0, path=b"", to=b""): c("symlinkat", to, dirfd(at), path)
def mknodat(at=0, path=b"", mode=0, dev=0): c("mknodat", dirfd(at), path, mode, long(dev))
def unlinkat(at=0, path=b"", flags=0): c("unlinkat", dirfd(at), path, flags)
def renameat2(at=0, path=b"", toat=0, to=b"", flags=0): c("renameat2", dirfd(at), path, dirfd(toat), to, flags)
def linkat(at=0, path=b"", toat=0, to=b"", flags=0): c("linkat", dirfd(at), path, dirfd(toat), to, flags)
def link_a_descriptor(fd=0, toat=0, to=b"", flags=0):
    if flags: c("linkat", fds.get(fd, -1), b"", dirfd(toat), to, flags)
    else: c("linkat", PROC, b"self/fd/%d" % fds.get(fd, -1), dirfd(toat), to, 0x400)
def readlinkat(at=0, path=b""):
    b = ctypes.create_string_buffer(4096)
    c("readlinkat", dirfd(at), path, b, 4096)
    return b.value
def chdir(at=0, path=b""): c("chdir", full(at, path))
def fchdir(fd=0): c("fchdir", fds.get(fd, -1))
def umask(mode=0): return oct(os.umask(mode))
def bind(at=0, path=b""):
    s = socket.socket(socket.AF_UNIX)
    try:
        if len(full(at, path)) > 107: fail(errno.EINVAL)
        s.bind(full(at, path))
    finally: s.close()
def getdents(at=0, path=b"", len=0, mode=0):
    d = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=dirfd(at)) if dirfd(at) != -1 else fail(errno.EBADF)
    try:
        if mode:
            for i in range(3): c("mknodat", d, b".passing%d" % i, 0o100600, long(0))
        names = sorted(n for n in os.listdir(d) if not n.startswith(".passing"))
        for i in range(3 if mode else 0): os.unlink(b".passing%d" % i, dir_fd=d)
        return names
    finally: os.close(d)

def openat(at=0, path=b"", fd=0, flags=0, mode=0):
    new = libc.openat(dirfd(at), path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    if new < 0: fail(ctypes.get_errno())
    put(fd, new)
def open_a_descriptor(fd=0, tofd=0, flags=0):
    new = libc.openat(PROC, b"self/fd/%d" % fds.get(fd, -1), flags | os.O_NONBLOCK | os.O_CLOEXEC, 0)
    if new < 0: fail(ctypes.get_errno())
    put(tofd, new)
def close(fd=0): os.close(fds.pop(fd, -1))
def pread(fd=0, off=0, len=0): return os.pread(fds.get(fd, -1), len, off)[:8]
def read(fd=0, len=0): return os.read(fds.get(fd, -1), len)[:8]
def pwrite(fd=0, off=0, len=0, fill=b""): return os.pwrite(fds.get(fd, -1), fill * len, off)
def write(fd=0, len=0, fill=b""): return os.write(fds.get(fd, -1), fill * len)
def lseek(fd=0, off=0, flags=0):
    if os.fstat(fds.get(fd, -1)).st_mode & 0o170000 == 0o040000: return "a directory"
    if flags < 3: return os.lseek(fds.get(fd, -1), off, flags)
    try: return os.lseek(fds.get(fd, -1), off, flags)
    except OSError as e:
        if e.errno != errno.ENXIO or flags != 3 or off >= os.fstat(fds[fd]).st_size: raise
    finally: os.lseek(fds[fd], off, 0)
def ftruncate(fd=0, len=0): c("ftruncate", fds.get(fd, -1), long(len))
def truncate(at=0, path=b"", len=0): c("truncate", full(at, path), long(len))
def fallocate(fd=0, mode=0, off=0, len=0): c("fallocate", fds.get(fd, -1), mode, long(off), long(len))
def copy_file_range(fd=0, tofd=0, off=0, tooff=0, len=0):
    return os.copy_file_range(fds.get(fd, -1), fds.get(tofd, -1), len, off, tooff)
def fsync(fd=0): c("fsync", fds.get(fd, -1))
def fdatasync(fd=0): c("fdatasync", fds.get(fd, -1))
def mmap(fd=0, off=0, len=0, fill=b""):
    st = os.fstat(fds.get(fd, -1))
    if st.st_mode & 0o170000 == 0o100000 and st.st_size == 0 or st.st_mode & 0o170000 == 0o020000: return "nothing there"
    m = mm.mmap(fds[fd], max(st.st_size, 1), mm.MAP_SHARED, mm.PROT_READ | (mm.PROT_WRITE if fill else 0))
    if not fill: return m[:8]
    off = min(off, st.st_size)
    data = (fill * len)[:st.st_size - off]
    m[off:off + data.__len__()] = data
    m.flush()
def write_program(fd=0): return os.pwrite(fds.get(fd, -1), PROGRAM, 0)
def execve(at=0, path=b""):
    r, w = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try: os.execve(full(at, path), [b"program"], {})
        except OSError as e: os.write(w, b"%d" % e.errno)
        os._exit(127)
    os.close(w)
    failed, status = os.read(r, 9), os.waitpid(pid, 0)[1]
    os.close(r)
    if failed: fail(int(failed))
    return os.waitstatus_to_exitcode(status)

def fchmodat(at=0, path=b"", mode=0): c("fchmodat", dirfd(at), path, mode, 0)
def fchmod(fd=0, mode=0): c("fchmod", fds.get(fd, -1), mode)
def fchownat(at=0, path=b"", uid=0, gid=0, flags=0): c("fchownat", dirfd(at), path, uid, gid, flags)
def fchown(fd=0, uid=0, gid=0): c("fchown", fds.get(fd, -1), uid, gid)
def utimensat(at=0, path=b"", atime=(0, 0), mtime=(0, 0), flags=0):
    c("utimensat", dirfd(at), path, (ctypes.c_long * 4)(*atime, *mtime), flags)
def futimens(fd=0, atime=(0, 0), mtime=(0, 0)): c("futimens", fds.get(fd, -1), (ctypes.c_long * 4)(*atime, *mtime))
def faccessat2(at=0, path=b"", mode=0, flags=0): c("syscall", long(439), dirfd(at), path, mode, flags)
def show(st): return oct(st.st_mode), st.st_uid, st.st_gid, st.st_size, st.st_nlink, st.st_mtime
def statx(at=0, path=b"", flags=0): return fstatat(at, path, flags)
def fstatat(at=0, path=b"", flags=0):
    if dirfd(at) == -1: fail(errno.EBADF)
    return show(os.stat(path, dir_fd=None if at == -1 else dirfd(at), follow_symlinks=not flags & NOFOLLOW))
def fstat(fd=0): return show(os.fstat(fds.get(fd, -1)))
def mtime(path=b""): return os.stat(path, dir_fd=ROOT, follow_symlinks=False).st_mtime
def mode(path=b""): return oct(os.stat(path, dir_fd=ROOT, follow_symlinks=False).st_mode)
def nlink(path=b""): return os.stat(path, dir_fd=ROOT, follow_symlinks=False).st_nlink
def lsetxattr(at=0, path=b"", name=b"", value=b"", flags=0): c("lsetxattr", full(at, path), name, value, long(len(value)), flags)
def fsetxattr(fd=0, name=b"", value=b"", flags=0): c("fsetxattr", fds.get(fd, -1), name, value, long(len(value)), flags)
def lgetxattr(at=0, path=b"", name=b"", len=0): c("lgetxattr", full(at, path), name, ctypes.create_string_buffer(len + 1), long(len))
def fgetxattr(fd=0, name=b"", len=0): c("fgetxattr", fds.get(fd, -1), name, ctypes.create_string_buffer(len + 1), long(len))
def llistxattr(at=0, path=b""): return sorted(os.listxattr(full(at, path), follow_symlinks=False))
def lremovexattr(at=0, path=b"", name=b""): c("lremovexattr", full(at, path), name)
def fremovexattr(fd=0, name=b""): c("fremovexattr", fds.get(fd, -1), name)

# By root: several calls that together do what one call of an overlay does.
def born_as(path, uid, gid, mode):
    d, st = os.stat(os.path.dirname(path) or b".", dir_fd=ROOT), os.stat(path, dir_fd=ROOT, follow_symlinks=False)
    if d.st_mode & 0o2000:
        gid = d.st_gid
        if st.st_mode & 0o170000 == 0o040000: mode |= 0o2000
    os.chown(path, uid, gid, dir_fd=ROOT, follow_symlinks=False)
    os.chmod(path, mode, dir_fd=ROOT)
def make_file(path=b"", len=0, fill=b"", uid=0, gid=0, mode=0):
    f = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, dir_fd=ROOT)
    os.write(f, fill * len)
    os.close(f)
    born_as(path, uid, gid, mode)
def make_directory(path=b"", uid=0, gid=0, mode=0):
    os.mkdir(path, 0o700, dir_fd=ROOT)
    born_as(path, uid, gid, mode)
def make_node(path=b"", mode=0, dev=0):
    os.mknod(path, mode, dev, dir_fd=ROOT)
    os.chmod(path, mode & 0o7777, dir_fd=ROOT)
def open_file(path=b"", fd=0, flags=0):
    put(fd, -1)
    k = kind(path)
    if k != 0o100000: fail({0o040000: errno.EISDIR, 0o120000: errno.ELOOP}.get(k, errno.ENXIO))
    put(fd, os.open(path, flags | os.O_NOFOLLOW, dir_fd=ROOT))
def overwrite(path=b"", len=0, fill=b"", flags=0):
    f = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, dir_fd=ROOT)
    try:
        if os.fstat(f).st_mode & 0o170000 != 0o100000: fail(errno.ENXIO)
        os.pwrite(f, fill * len, 0)
    finally: os.close(f)
def resize(path=b"", len=0):
    k = kind(path)
    if k != 0o100000: fail(errno.EISDIR if k == 0o040000 else errno.EINVAL)
    os.truncate(full(0, path), len)
def set_attributes(path=b"", uid=0, gid=0, mode=0, atime=(0, 0), mtime=(0, 0)):
    os.chown(path, uid, gid, dir_fd=ROOT, follow_symlinks=False)
    if kind(path) != 0o120000: os.chmod(path, mode, dir_fd=ROOT)
    set_times(path, atime, mtime)
def set_times(path=b"", atime=(0, 0), mtime=(0, 0)): utimensat(0, path, atime, mtime, NOFOLLOW)
def wants_xattrs(path):
    if kind(path) not in (0o100000, 0o040000): fail(errno.EPERM)
def set_an_xattr(path=b"", name=b"", value=b""):
    wants_xattrs(path)
    lsetxattr(0, path, name, value)
def remove_an_xattr(path=b"", name=b""):
    wants_xattrs(path)
    lremovexattr(0, path, name)

def become(top, uid, gid, groups, mask):
    global ROOT
    if CHROOT:
        os.chroot(top)
        os.chdir("/")
        ROOT = os.open("/", os.O_PATH)
    else:
        ROOT = os.open(top, os.O_PATH)
    os.umask(mask)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, 0)

def serve(inp, out):
    for line in inp:
        try: said = "ok %r" % (eval(line),)
        except OSError as e: said = errno.errorcode[e.errno]
        out.write(said + "\n")
        out.flush()
    os._exit(0)

def history(top, steps):
    procs = []
    for user in USERS:
        (r1, w1), (r2, w2) = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(w1)
            os.close(r2)
            for i, o in procs:
                i.close()
                o.close()
            become(top, *user)
            serve(os.fdopen(r1), os.fdopen(w2, "w"))
        os.close(r1)
        os.close(w2)
        procs.append((os.fdopen(w1, "w"), os.fdopen(r2)))
    for i, (proc, call) in enumerate(steps):
        to, back = procs[proc]
        to.write(call + "\n")
        to.flush()
        print("%d\t%d\t%s\t%s" % (i, proc, back.readline().strip(), call), flush=True)
    for to, back in procs: to.close()
    for _ in procs: os.wait()
