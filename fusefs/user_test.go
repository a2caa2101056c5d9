package fusefs

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"strata/internal/need"
	"strata/overlay"
)

// userSpec is a mount in which everything belongs to uid.
func userSpec(t *testing.T, uid int) (base string, spec mountSpec) {
	t.Helper()
	base = tempDir(t)
	spec = mountSpec{
		Lowers:     []string{base + "/lower"},
		Upper:      base + "/upper",
		Format:     overlay.FormatUser,
		Mountpoint: base + "/merged",
		Options:    Options{AllowOther: true, SUID: true, Dev: true},
	}
	for _, dir := range []string{spec.Lowers[0], spec.Upper, base + "/work", spec.Mountpoint} {
		os.Mkdir(dir, 0o755)
	}
	write(t, spec.Lowers[0]+"/f", "lower")
	shell(t, base, fmt.Sprintf("chown -R %d:%d .", uid, uid))
	return base, spec
}

// checkUserMount uses the mount m of userSpec from within: inside begins a
// command that enters the namespaces in which it was mounted. It returns the
// mount's line in /proc/mounts.
func checkUserMount(t *testing.T, m *mounted, inside string) string {
	t.Helper()
	got := shell(t, "/", fmt.Sprintf("%s /bin/sh -ec 'cd %s; %s'", inside, m.dir,
		"cat f; echo more >> f; mkdir d; mv f d/g; cat d/g; ln -s d l; chmod 4711 d/g; stat -c %a d/g; ls"))
	if got != "lowerlowermore\n4711\nd\nl" {
		t.Errorf("got %q", got)
	}
	if m.counts().Passthrough {
		t.Error("passthrough is granted to a user")
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", m.cmd.Process.Pid))
	if err != nil {
		t.Error(err)
	}
	line := ""
	for l := range strings.Lines(string(mounts)) {
		if strings.Contains(l, m.dir) {
			line = l
		}
	}
	l := m.unmount()
	if l.Error != "" || len(l.FDs) > len(l.FDsBefore) || l.Goroutines > l.GoroutinesBefore {
		t.Errorf("after unmount: %+v", l)
	}
	wantContent(t, m.lower+"/f", "lower")
	return line
}

// A mount by a user who is not root, through fusermount3.
func TestUserMount(t *testing.T) {
	needRoot(t) // to become another user
	need.Tool(t, "fusermount3")
	base, spec := userSpec(t, 65534)
	// In a mount namespace of its own, with a /dev/fuse that users may open as
	// on most machines.
	const become = "setpriv --reuid=65534 --regid=65534 --clear-groups"
	m := startMount(t, spec, "unshare", "--mount", "/bin/sh", "-ec",
		`mknod "$1/fuse" c 10 229; chmod 666 "$1/fuse"; mount --bind "$1/fuse" /dev/fuse; exec `+become+` "$0"`,
		copyOfTestBinary(t, base), base)
	line := checkUserMount(t, m, fmt.Sprintf("nsenter -t %d -m %s", m.cmd.Process.Pid, become))
	for _, want := range []string{"strata ", "fuse.strata", "nosuid", "nodev", "default_permissions"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %q", want, line)
		}
	}
	if got := strings.Contains(line, "allow_other"); got != userAllowOther(fuseConf) {
		t.Errorf("allow_other in %q", line)
	}
}

// Root in a user namespace mounts as root does, but is granted no passthrough.
func TestUserNamespace(t *testing.T) {
	needRoot(t)
	if out, err := exec.Command("unshare", "--user", "--map-root-user", "--mount", "true").CombinedOutput(); err != nil {
		need.Missing(t, "needs user namespaces: %s", out)
	}
	base, spec := userSpec(t, 0)
	m := startMount(t, spec, "unshare", "--user", "--map-root-user", "--mount", copyOfTestBinary(t, base))
	checkUserMount(t, m, fmt.Sprintf("nsenter -t %d -U -m", m.cmd.Process.Pid))
}

func TestUserAllowOther(t *testing.T) {
	for conf, want := range map[string]bool{
		"":                                      false,
		"#user_allow_other\nmount_max = 1000\n": false,
		"# comment\n user_allow_other \n":       true,
		"user_allow_other":                      true,
	} {
		path := t.TempDir() + "/fuse.conf"
		write(t, path, conf)
		if got := userAllowOther(path); got != want {
			t.Errorf("%q: %v", conf, got)
		}
	}
	if userAllowOther("/none/such") {
		t.Error("a missing file allows")
	}
}
