package layerstore

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// BusyError is returned when the Holds of others have not ended in time.
type BusyError struct {
	Root    string
	Waited  time.Duration
	Holders []Process // those that can be seen from here
}

// Process is a process that holds a store, or what it is doing that for.
type Process struct {
	PID     int
	Command string // its arguments; empty if they cannot be read
}

func (p Process) String() string {
	if p.Command == "" {
		return fmt.Sprintf("process %d", p.PID)
	}
	return fmt.Sprintf("process %d (%s)", p.PID, p.Command)
}

func (e *BusyError) Error() string {
	who := "another process"
	if len(e.Holders) > 0 {
		var names []string
		for _, p := range e.Holders {
			names = append(names, p.String())
		}
		who = strings.Join(names, ", ")
	}
	return fmt.Sprintf("the store %s is in use by %s, also after %v", e.Root, who, e.Waited.Round(time.Second/10))
}

// holders lists who else has path locked. /proc/locks names the process that
// took a lock; one in another pid namespace cannot be seen.
func holders(path string) []Process {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return nil
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	device := fmt.Sprintf("%02x:%02x:", unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev)))
	inode := strconv.FormatUint(st.Ino, 10)
	var exact, similar []int
	for s := bufio.NewScanner(bytes.NewReader(locks)); s.Scan(); {
		// 1: FLOCK  ADVISORY  READ 4711 08:01:131 0 EOF; a waiting one has -> after the number
		f := strings.Fields(s.Text())
		if len(f) < 8 || f[1] != "FLOCK" {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err != nil || pid <= 0 || pid == os.Getpid() || !strings.HasSuffix(f[5], ":"+inode) {
			continue
		}
		similar = append(similar, pid)
		if strings.HasPrefix(f[5], device) {
			exact = append(exact, pid)
		}
	}
	if len(exact) == 0 {
		exact = similar // of a subvolume of btrfs, stat(2) and /proc/locks give different devices
	}
	slices.Sort(exact)
	var list []Process
	for _, pid := range slices.Compact(exact) {
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		list = append(list, Process{pid, strings.TrimSpace(string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})))})
	}
	return list
}
