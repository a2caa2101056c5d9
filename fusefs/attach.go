package fusefs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// attachment is what the kernel is told when a file system is mounted.
type attachment struct {
	source  string
	flags   uintptr // of mount(2); through fusermount3 only ro and noexec can be had
	options []string
}

// mount mounts a new FUSE file system at dir, as root may, and returns its device.
func (a attachment) mount(dir string) (fd int, err error) {
	fd, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: "/dev/fuse", Err: err}
	}
	options := append([]string{
		fmt.Sprintf("fd=%d", fd),
		fmt.Sprintf("rootmode=%o", unix.S_IFDIR),
		fmt.Sprintf("user_id=%d", os.Geteuid()),
		fmt.Sprintf("group_id=%d", os.Getegid()),
	}, a.options...)
	if err := unix.Mount(a.source, dir, "fuse."+fsType, a.flags, strings.Join(options, ",")); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("mount", err)
	}
	return fd, nil
}

// errFusermount says that fusermount3 has failed and said why on standard error.
var errFusermount = errors.New("fusermount3 refused; it said why on standard error")

// fusermount lets fusermount3 mount for a user who may not. It opens the device by
// the user's rights and sends it through the socket that _FUSE_COMMFD names.
func (a attachment) fusermount(dir string) (fd int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socketpair", err)
	}
	defer unix.Close(pair[0])
	theirs := os.NewFile(uintptr(pair[1]), "fusermount3's socket")
	defer theirs.Close()

	escape := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	options := append([]string{"fsname=" + escape.Replace(a.source), "subtype=" + fsType}, a.options...)
	for _, o := range []struct {
		flag uintptr
		word string
	}{{unix.MS_RDONLY, "ro"}, {unix.MS_NOEXEC, "noexec"}} {
		if a.flags&o.flag != 0 {
			options = append(options, o.word)
		}
	}
	cmd := exec.Command("fusermount3", "-o", strings.Join(options, ","), "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			return -1, errFusermount
		}
		return -1, err
	}
	theirs.Close() // or the socket would be waited on for ever if nothing was sent

	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("recvmsg", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err == nil && len(messages) == 1 {
		var fds []int
		if fds, err = unix.ParseUnixRights(&messages[0]); err == nil && len(fds) == 1 {
			return fds[0], nil
		}
	}
	return -1, errors.Join(errors.New("fusermount3 sent no device"), err)
}
