package container

import (
	"path"
	"strings"
)

// rootRelative makes paths in a container, as people write them, relative to its
// root, as trees have them. None leads out of it.
func rootRelative(paths []string) []string {
	var rel []string
	for _, p := range paths {
		rel = append(rel, strings.TrimPrefix(path.Clean("/"+p), "/"))
	}
	return rel
}
