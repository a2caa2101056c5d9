package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// ReadyFD is the descriptor that a detached child finds its Ready on.
const ReadyFD = 3

// report is what a detached child tells its parent, as one JSON object.
type report struct {
	Dir   []byte `json:"dir,omitempty"`   // the mount is usable, here; names need not be UTF-8
	Error string `json:"error,omitempty"` // it failed
}

// Detach runs this program again with args (without the program's name) as a
// process that stays behind, in a session of its own and with its output in
// logFile, and returns the mount's directory as soon as it is usable, with what
// the child has logged so far. The child has to call Ready or Failed. If it
// fails, the error is the child's own.
func Detach(ctx context.Context, args []string, logFile string) (dir, logged string, err error) {
	log, err := os.OpenFile(logFile, os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return "", "", fmt.Errorf("log of the mount process: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return "", "", err
	}
	defer r.Close()
	cmd := &exec.Cmd{
		Path:        "/proc/self/exe", // the very same program, though its file may have been replaced
		Args:        append([]string{"strata"}, args...),
		Stdout:      log,
		Stderr:      log,
		ExtraFiles:  []*os.File{w},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := keepInherited(); err != nil {
		return "", "", err
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return "", "", fmt.Errorf("start the mount process: %w", err)
	}
	exited := make(chan struct{})
	go func() { // ends with the child, so that it leaves no zombie if this process lives on
		cmd.Wait()
		close(exited)
	}()
	stop := context.AfterFunc(ctx, func() { cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	data, err := io.ReadAll(r) // ends when the child has reported or is gone
	if err != nil {
		return "", "", fmt.Errorf("hear from the mount process: %w", err)
	}
	const most = 1 << 20
	out, _ := io.ReadAll(io.NewSectionReader(log, 0, most)) // its name may be gone, with the container
	var said report
	switch err := json.Unmarshal(data, &said); {
	case ctx.Err() != nil:
		<-exited
		return "", "", ctx.Err()
	case err != nil:
		<-exited
		return "", "", fmt.Errorf("the mount process died before the mount was usable (%s): %s",
			cmd.ProcessState, strings.TrimSpace(string(out)))
	case said.Error != "":
		<-exited
		return "", "", errors.New(said.Error)
	}
	return string(said.Dir), string(out), nil
}

// keepInherited sees to it that children get none of the descriptors that our
// parent left open. A process that stays for long would keep the lock on a file
// or the end of a pipe that a script had there.
func keepInherited() error {
	const dir = "/proc/self/fd"
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if fd > int(os.Stderr.Fd()) {
			syscall.CloseOnExec(fd) // one that is closed by now does not matter
		}
	}
	return nil
}

// Ready tells the parent of a detached child that the mount is usable at dir.
// From here on the child keeps no directory busy by having it as its own.
func Ready(dir string) error {
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return tellParent(report{Dir: []byte(dir)})
}

// Failed tells the parent of a detached child why there will be no mount.
func Failed(err error) error { return tellParent(report{Error: err.Error()}) }

func tellParent(r report) error {
	f := os.NewFile(ReadyFD, "ready pipe")
	if f == nil {
		return errors.New("tell the parent: there is no pipe")
	}
	err := json.NewEncoder(f).Encode(r)
	return errors.Join(err, f.Close())
}
