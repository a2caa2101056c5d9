package layerstore

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
)

// fsckState is how far a check has come, in the file fsck.json of the store. It
// is a hint: what is wrong with it makes the next run begin anew.
type fsckState struct {
	Version int       `json:"version"`
	Began   time.Time `json:"began"`
	Step    string    `json:"step"`    // objectsDir or layersDir
	After   string    `json:"after"`   // the hex digits up to which that is done
	Damaged []string  `json:"damaged"` // digits of objects and layers to be looked at again
}

const fsckVersion = 1

// loadState takes up where an interrupted run was.
func (f *fsck) loadState() {
	f.state = fsckState{Version: fsckVersion, Began: time.Now().UTC()}
	f.saved = time.Now()
	if f.o.Restart {
		return
	}
	b, err := os.ReadFile(f.s.path(fsckFile))
	if err != nil {
		return
	}
	var was fsckState
	if json.Unmarshal(b, &was) != nil || was.Version != fsckVersion || was.Step != objectsDir && was.Step != layersDir {
		f.s.log.Info("beginning anew, for the state of the last fsck cannot be read", "path", f.s.path(fsckFile))
		return
	}
	f.resume = was
	f.state.Began, f.report.Resumed = was.Began, was.Began
}

// seen tells whether the run before has looked at something and found no damage.
func (f *fsck) seen(step, digits string) bool {
	return f.resume.reached(step, digits) && !slices.Contains(f.resume.Damaged, digits)
}

// reached tells whether digits, of a step, are not beyond the state.
func (s *fsckState) reached(step, digits string) bool {
	switch s.Step {
	case "":
		return false
	case step:
		return digits <= s.After
	}
	return step == objectsDir // which come first
}

// at says what has just been looked at. While the run before is caught up with,
// its state stays.
func (f *fsck) at(step, digits string) {
	if !f.resume.reached(step, digits) {
		f.state.Step, f.state.After = step, digits
	}
}

func (f *fsck) saveState() error {
	f.saved = time.Now()
	if f.state.Step == "" {
		return nil // nothing that took time
	}
	f.state.Damaged = nil
	for _, d := range f.damages {
		switch d.Kind {
		case "object":
			f.state.Damaged = append(f.state.Damaged, d.object.String())
		case "layer", "blob":
			f.state.Damaged = append(f.state.Damaged, d.layer.Hex())
		}
	}
	b, err := json.Marshal(f.state)
	if err != nil {
		return err
	}
	tmp := f.h.dir
	if tmp == "" { // the Hold was lost; the file's own name is staged beside it
		tmp = filepath.Dir(f.s.path(fsckFile))
	}
	return renameio.WriteFile(f.s.path(fsckFile), append(b, '\n'), 0o600, renameio.WithTempDir(tmp))
}

func (f *fsck) removeState() error {
	if err := os.Remove(f.s.path(fsckFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return os.RemoveAll(f.s.path(fsckFile))
	}
	return nil
}
