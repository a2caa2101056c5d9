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
	// mounted as usual, and mounted without passthrough. What is empty is not
	// asked there.
	Plain, Kernel, InProcess, Mounted, NoPassthrough string

	Why   string // we answer so
	Probe []Step

	// What histories may meet of it: a call, and what a plain directory and the
	// kernel say.
	Call   string
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
		Call:  "renameat2", Errnos: [2]syscall.Errno{0, unix.EXDEV},
	},
	{
		What:  "link to a lower file whose path has more than 256 bytes",
		Plain: "ok", Kernel: "EXDEV", InProcess: "ok", Mounted: "ok", NoPassthrough: "ok",
		Why:   "as above; if the path does not fit even so, the data is copied up",
		Probe: []Step{{Call: "linkat", Path: deepDir + "/file", To: "new"}},
		Call:  "linkat", Errnos: [2]syscall.Errno{0, unix.EXDEV},
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
		What:  "nlink of a file of plain lower directories, one of its names hidden by a layer",
		Plain: "1", Kernel: "2", InProcess: "2", Mounted: "2", NoPassthrough: "2",
		Why:   "counting would read all lowers; an image's tree knows, and says 1",
		Probe: []Step{{Call: "nlink", Path: "left"}},
	},
}

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
	},
	{{Path: "hidden", Kind: Whiteout}},
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

// ProbeHost asks a plain directory and the kernel, in an arena over DifferencesLowers.
func (a *Arena) ProbeHost(d Difference) (plain, kernel string, err error) {
	if err := a.MountKernel(true); err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, a.UnmountKernel()) }()
	ask := func(dir string) (answer string) {
		w, e := OpenDirectory(a.Dir(dir))
		if e == nil {
			answer, e = d.Ask(w)
			e = errors.Join(e, w.Leave())
		}
		err = errors.Join(err, e)
		return answer
	}
	return ask("plain"), ask("kernel"), err
}
