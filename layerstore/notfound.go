package layerstore

import (
	"fmt"
	"io/fs"
	"strings"
)

// NotFoundError is returned for what the store does not have. It is a
// fs.ErrNotExist to errors.Is.
type NotFoundError struct {
	Root string   // of the store
	Kind string   // "image", "layer" or "blob"
	Name string   // as it was asked for
	Near []string // what could have been meant

	// Malformed says why Name cannot be a reference at all; nil if it can.
	Malformed error
}

func (e *NotFoundError) Error() string {
	s := fmt.Sprintf("there is no %s %s in the store %s", e.Kind, e.Name, e.Root)
	switch {
	case len(e.Near) > 0:
		s += "; did you mean " + strings.Join(e.Near, " or ") + "?"
	case e.Malformed != nil:
		s += ": " + e.Malformed.Error()
	}
	return s
}

// Is makes errors.Is(err, fs.ErrNotExist) true.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

// maxNear is how many names an error suggests.
const maxNear = 3

// nearNames finds references that look like name.
func nearNames(images []Image, name string) []string {
	name = strings.ToLower(name)
	repository, _, _ := strings.Cut(name, ":")
	var near []string
	for _, image := range images {
		for _, ref := range image.Refs {
			familiar := ref.Familiar()
			base, _, _ := strings.Cut(familiar, ":")
			if base == repository || strings.Contains(familiar, name) ||
				distance(familiar, name) <= 2 || distance(base, repository) <= 2 {
				near = append(near, familiar)
			}
		}
	}
	return near[:min(len(near), maxNear)]
}

// distance is how many bytes must be inserted, deleted or replaced to make b
// of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above+1, row[j]+1, diagonal+cost)
			diagonal = above
		}
	}
	return row[len(b)]
}
