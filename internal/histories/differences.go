package histories

import (
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Difference is a thing in which a plain directory and the kernel's overlayfs do not
// agree, or strata with both.
type Difference struct {
	What string

	// What the last step of Probe answers in each world: strata in-process,
	// mounted as usual, without passthrough, and with observe. What is empty is
	// not asked there.
	Plain, Kernel, InProcess, Mounted, NoPassthrough, Observe string

	Why   string // we answer so
	Probe []Step

	// What histories may meet of it: these calls, and what a plain directory and
	// the kernel say.
	Calls  []string
	Errnos [2]syscall.Errno
}

// Differences is all that is known. A line needs a probe that shows it.
var Differences = []Difference{
	{
		What:  "mknod of the character device 0:0",
		Plain: "ok", Kernel: "EPERM", InProcess: "EPERM", Mounted: "EPERM", NoPassthrough: "EPERM",
		Why:   "it is a whiteout in the upper",
		Probe: []Step{{Call: "mknodat", Path: "new", Mode: unix.S_IFCHR | 0o600}},
	},
	{
		What:  "renameat2 with RENAME_WHITEOUT",
		Plain: "ok", Kernel: "EINVAL", InProcess: "EINVAL", Mounted: "EINVAL", NoPassthrough: "EINVAL",
		Why:   "it would make a whiteout that is seen",
		Probe: []Step{{Call: "renameat2", Path: "file", To: "new", Flags: unix.RENAME_WHITEOUT}},
	},
	{
		What:  "rename of a lower directory whose path has more than 256 bytes",
		Plain: "ok", Kernel: "EXDEV", InProcess: "ok", Mounted: "ok", NoPassthrough: "ok",
		Why:   "overlayfs has redirect_max; a path may be as long as an xattr of the upper's filesystem",
		Probe: []Step{{Call: "renameat2", Path: deepDir, To: "new"}},
		Calls: []string{"renameat2"}, Errnos: [2]syscall.Errno{0, unix.EXDEV},
	},
	{
		What:  "link to a lower file whose path has more than 256 bytes",
		Plain: "ok", Kernel: "EXDEV", InProcess: "ok", Mounted: "ok", NoPassthrough: "ok",
		Why:   "as above; if the path does not fit even so, the data is copied up",
		Probe: []Step{{Call: "linkat", Path: deepDir + "/file", To: "new"}},
		Calls: []string{"linkat", "link a descriptor"}, Errnos: [2]syscall.Errno{0, unix.EXDEV},
	},
	{
		What:  "read from a descriptor that was open when another process first wrote",
		Plain: `"nnn"`, Kernel: `"nnn"`, InProcess: `"ooo"`, Mounted: `"ooo"`, NoPassthrough: `"nnn"`,
		Why: "an open File stays on the file that it opened; passthrough gives its node one backing file for life",
		Probe: []Step{
			{Call: "open file", Path: "data"},
			{Call: "open file", Path: "data", FD: 1, Flags: unix.O_RDWR},
			{Call: "pwrite", FD: 1, Fill: "n", Len: 3},
			{Call: "pread", Len: 3},
		},
	},
	{
		What:  "opening /proc/self/fd/N for writing, where N is open on a lower file",
		Plain: "ok", Kernel: "ok", Mounted: "ESTALE", NoPassthrough: "ok",
		Why: "as above; the kernel looks a name up again upon ESTALE, and here there is none",
		Probe: []Step{
			{Call: "openat", Path: "data"},
			{Call: "open a descriptor", Flags: unix.O_RDWR, ToFD: 1},
		},
	},
	{
		What:  "nlink of a file of plain lower directories, one of its names hidden by a layer",
		Plain: "1", Kernel: "2", InProcess: "2", Mounted: "2", NoPassthrough: "2",
		Why:   "counting would read all lowers; an image's tree knows, and says 1",
		Probe: []Step{{Call: "nlink", Path: "left"}},
	},
	{
		What:  "mtime of a FIFO after a write to it",
		Plain: "now", Kernel: old, Mounted: old, NoPassthrough: old,
		Why: "the pipe is the kernel's, and the inode of a FUSE or an overlay does not hear of it",
		Probe: []Step{
			{Call: "openat", Path: "fifo", Flags: unix.O_RDWR}, {Call: "write", Fill: "x", Len: 1},
			{Call: "mtime", Path: "fifo"},
		},
	},
	{
		What:  "removing an ACL that a lower file does not have",
		Plain: "ok", Kernel: "ENODATA", Mounted: "ok", NoPassthrough: "ok",
		Why:   "overlayfs looks for it before it copies up",
		Probe: []Step{{Call: "lremovexattr", Path: "file", Name: aclAccess}},
		Calls: []string{"lremovexattr", "fremovexattr"}, Errnos: [2]syscall.Errno{0, unix.ENODATA},
	},
	{
		What:  "link to a file from which a write took set-id bits, by who does not own it",
		Plain: "ok", Kernel: "ok", Mounted: "ok", NoPassthrough: "ok", Observe: "EPERM",
		Why: "the kernel refuses links to set-id files, and after direct I/O goes on with the mode that it knows until somebody asks",
		Probe: []Step{
			{Call: "openat", Proc: 1, Path: "setid", Flags: unix.O_RDWR}, {Call: "pwrite", Proc: 1, Fill: "x", Len: 1},
			{Call: "link a descriptor", Proc: 1, To: "new"},
		},
	},
	{
		What:  "set-id bits given twice to a file that is open for writing, after a write by who may not keep them",
		Plain: "mode 100755", Kernel: "mode 100755", Mounted: "mode 104755", NoPassthrough: "mode 100755",
		Why: "it has two inodes once it was opened as a set-id file, and the writer's does not hear of the second time",
		Probe: []Step{
			{Call: "openat", Proc: 2, Path: "new", Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o755},
			{Call: "fchmodat", Proc: 2, Path: "new", Mode: 0o6755}, {Call: "fchmod", Proc: 2, Mode: 0o644},
			{Call: "openat", Path: "new", Flags: unix.O_RDWR}, {Call: "fchmodat", Path: "new", Mode: 0o4755},
			{Call: "pwrite", Proc: 2, Fill: "y", Len: 10}, {Call: "mode", Path: "new"},
		},
	},
	{
		What:  "fchmod of a file that another gave us through a descriptor from before it was first written to",
		Plain: "ok", Kernel: "ok", Mounted: "EPERM", NoPassthrough: "ok",
		Why: "it has two inodes, and the kernel goes on with the owner that it knows until somebody asks",
		Probe: []Step{
			{Call: "openat", Path: "setid"}, {Call: "openat", Proc: 1, Path: "setid", Flags: unix.O_RDWR},
			{Call: "fchown", UID: 1000, GID: 1000}, {Call: "fchmod", Proc: 1, Mode: 0o644},
		},
	},
	{
		What:  "copy_file_range from a descriptor of a set-id file that has grown through another",
		Plain: "3000", Kernel: "3000", Mounted: "1", NoPassthrough: "3000",
		Why: "writes to it go past passthrough, so it has two inodes, and the kernel goes on with the old one's size until somebody asks",
		Probe: []Step{
			{Call: "openat", Path: "setid", Flags: unix.O_RDWR}, {Call: "close"},
			{Call: "openat", Path: "setid"},
			{Call: "openat", Path: "setid", FD: 1, Flags: unix.O_RDWR}, {Call: "pwrite", FD: 1, Fill: "x", Len: 3000},
			{Call: "openat", Path: "new", FD: 2, Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o644},
			{Call: "copy_file_range", ToFD: 2, Len: 3000},
		},
	},
	{
		What:  "fchown of a lower directory that was removed",
		Plain: "ok", Kernel: "ENOTDIR", Mounted: "ok", NoPassthrough: "ok",
		Why: "overlayfs copies it up, and cannot",
		Probe: []Step{
			{Call: "openat", Path: "dir"}, {Call: "unlinkat", Path: "dir", Flags: unix.AT_REMOVEDIR},
			{Call: "fchown", UID: 1},
		},
	},
	{
		What:  "listing what replaced a lower directory, after a change of the replaced one's times",
		Plain: `"." ".."`, Kernel: "ENOENT", Mounted: `"." ".."`, NoPassthrough: `"." ".."`,
		Why: "as above, and it puts it in the place of the new one",
		Probe: []Step{
			{Call: "openat", Path: "dir"}, {Call: "renameat2", Path: "empty", To: "dir"},
			{Call: "futimens", Mtime: past[0]}, {Call: "getdents", Path: "dir", Len: 4096},
		},
	},
	{
		What:  "setting an xattr of a lower file that was removed",
		Plain: "ok", Kernel: "EEXIST", Mounted: "ok", NoPassthrough: "ok",
		Why: "as above, with an index",
		Probe: []Step{
			{Call: "openat", Path: "file"}, {Call: "unlinkat", Path: "file"},
			{Call: "fsetxattr", Name: "user.one", Value: "1"},
		},
	},
	{
		What:  "set-id bits after a fallocate that is refused",
		Plain: "mode 106777", Kernel: "mode 100777", Mounted: "mode 100777", NoPassthrough: "mode 100777",
		Why: "overlayfs takes them away before it asks the upper's filesystem",
		Probe: []Step{
			{Call: "openat", Proc: 1, Path: "setid", Flags: unix.O_RDWR},
			{Call: "fallocate", Proc: 1, Mode: unix.FALLOC_FL_ZERO_RANGE, Len: 1},
			{Call: "mode", Path: "setid"},
		},
	},
	{
		What:  "executing a file that got set-id bits while somebody had it open for writing, and was opened so again",
		Plain: "ETXTBSY", Kernel: "ETXTBSY", Mounted: "ENOEXEC", NoPassthrough: "ETXTBSY",
		Why: "as above: writes to it go past passthrough, so it has two inodes, and the writer has the old one",
		Probe: []Step{
			{Call: "openat", Path: "new", Flags: unix.O_CREAT | unix.O_RDWR, Mode: 0o755}, {Call: "fchmod", Mode: 0o4755},
			{Call: "openat", FD: 1, Path: "new", Flags: unix.O_RDWR}, {Call: "close", FD: 1},
			{Call: "execve", Path: "new"},
		},
	},
	{
		What:  "chown to nobody else (-1, -1) of a set-id file, by who does not own it",
		Plain: "EPERM", Kernel: "EPERM", Mounted: "ok", NoPassthrough: "ok",
		Why:   "FUSE takes the clearing of set-id bits out of chown before the kernel checks who asks; nothing is changed",
		Probe: []Step{{Call: "fchownat", Path: "setid", Proc: 1, UID: -1, GID: -1}},
	},
}

// old is when everything in DifferencesLowers was modified.
const old = "981173106.789000000"

// deepDir is a directory of DifferencesLowers whose path is long.
var deepDir = strings.Repeat(strings.Repeat("n", 200)+"/", 2) + "dir"

// DifferencesLowers are what the probes find.
var DifferencesLowers = Lowers{
	{
		{Path: deepDir + "/file", Kind: File, Size: 3, Fill: "i"},
		{Path: "file", Kind: File, Size: 5, Fill: "f"},
		{Path: "data", Kind: File, Size: 3, Fill: "o"},
		{Path: "left", Kind: File, Size: 1, Fill: "x"},
		{Path: "hidden", Kind: HardLink, To: "left"},
		{Path: "fifo", Kind: FIFO},
		{Path: "setid", Kind: File, Size: 1, Fill: "x", Mode: 0o6777},
		{Path: "dir", Kind: Dir},
		{Path: "empty", Kind: Dir},
	},
	{{Path: ".", Kind: Dir, Mode: 0o777}, {Path: "hidden", Kind: Whiteout}},
}

// Ask makes the steps of the probe and gives the last answer in the words of the table.
func (d Difference) Ask(w World) (string, error) {
	var a Answer
	for _, s := range d.Probe {
		a = w.Do(s)
	}
	if err := w.End(); err != nil {
		return "", err
	}
	if a.Errno == 0 && a.Text != "" {
		return a.Text, nil
	}
	return NameOf(a.Errno), nil
}

// Guest is a world that can be entered and left.
type Guest interface {
	World
	Enter(dir string) error
	Leave() error
}

// ProbeHost asks a plain directory and the kernel, in an arena over DifferencesLowers.
func (a *Arena) ProbeHost(d Difference, inPlain, inKernel Guest) (plain, kernel string, err error) {
	if err := a.MountKernel(true); err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, a.UnmountKernel()) }()
	ask := func(w Guest, dir string) (answer string) {
		e := w.Enter(a.Dir(dir))
		if e == nil {
			answer, e = d.Ask(w)
		}
		err = errors.Join(err, e, w.Leave())
		return answer
	}
	return ask(inPlain, "plain"), ask(inKernel, "kernel"), err
}
