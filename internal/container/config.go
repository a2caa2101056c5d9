package container

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/overlay"
)

// ID names a container for good: 64 hex digits, random.
type ID string

// Short is the first 12 digits, for people.
func (id ID) Short() string { return string(id[:min(shortLen, len(id))]) }

const (
	idLen    = 64
	shortLen = 12
)

func newID() ID {
	var b [idLen / 2]byte
	rand.Read(b[:]) // never fails
	return ID(hex.EncodeToString(b[:]))
}

func isID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == idLen/2 && s == hex.EncodeToString(b)
}

// Config is what a container is. The store reads Image, Layers and Snapshots of it
// to know what is held. Of one container only Chain, Layers, Upper and Snapshots ever
// change, all in one step, while the container is locked.
type Config struct {
	ID        ID           `json:"id"`
	Name      string       `json:"name"`
	Reference string       `json:"reference"` // what the image was called, for people to read
	Image     oci.Digest   `json:"image"`     // the image's ID: the digest of its config
	Manifest  oci.Digest   `json:"manifest"`  // the digest of its manifest
	Chain     oci.ChainID  `json:"chain"`
	Layers    []oci.DiffID `json:"layers"` // base first
	Format    string       `json:"format"` // of the upper: kernel (made by root) or user
	Created   time.Time    `json:"created"`

	// Upper numbers the upper and work directories: a snapshot begins new ones.
	Upper     int        `json:"upper,omitempty"`
	Snapshots []Snapshot `json:"snapshots,omitempty"` // the oldest first
}

// Snapshot is a state that a container can go back to: its layers, and an empty
// upper.
type Snapshot struct {
	Name    string       `json:"name"`
	Layers  []oci.DiffID `json:"layers"` // base first
	Created time.Time    `json:"created"`
}

// newFormat is the format of uppers that this process makes. Being called root is
// not enough for the kernel's: trusted xattrs need CAP_SYS_ADMIN over the whole
// machine, which root of a user namespace or of most containers does not have.
func newFormat() overlay.Format {
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return overlay.FormatUser
	}
	if f := strings.Fields(string(ids)); len(f) != 3 || f[2] != "4294967295" {
		return overlay.FormatUser
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&head, &data[0]) != nil {
		return overlay.FormatUser
	}
	for _, c := range []uint{unix.CAP_SYS_ADMIN, unix.CAP_CHOWN, unix.CAP_MKNOD, unix.CAP_FOWNER, unix.CAP_DAC_OVERRIDE} {
		if data[c/32].Effective&(1<<(c%32)) == 0 {
			return overlay.FormatUser
		}
	}
	return overlay.FormatKernel
}

const configFile = "config.json"

// errNoContainer says that a directory holds no config.
var errNoContainer = errors.New("no such container")

func readConfig(dir string) (Config, error) {
	var c Config
	data, err := os.ReadFile(filepath.Join(dir, configFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, errNoContainer
	}
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w", filepath.Join(dir, configFile), err)
	}
	if string(c.ID) != filepath.Base(dir) {
		return c, fmt.Errorf("%s: its id is %q, which is not the name of its directory", filepath.Join(dir, configFile), c.ID)
	}
	return c, nil
}

// writeConfig writes config.json into dir, which is not yet the container's
// final place.
func writeConfig(dir string, c Config) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, configFile), append(data, '\n'), 0o600)
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
