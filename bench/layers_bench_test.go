package bench

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkLayers compares deep:1, which has 61 layers, with an image that has
// the same tree in one layer. Each turn mounts both afresh, so nothing is in the
// kernel's caches. Run it with -benchtime 15x.
//
//	one-us     microseconds for one name, in one layer
//	deep/one   what 61 layers take, relative to that
func BenchmarkLayers(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: the twin must have the same owners")
	}
	family := filepath.Join(images(b), "family")
	strata := strata(b)
	strata("load", family, "deep:1")
	strata("create", "--name", "deep", "deep:1")
	merged := strata("mount", "deep")
	twin := filepath.Join(b.TempDir(), "twin.tar")
	if err := packImage(b.Context(), "twin:1", []string{merged}, b.TempDir(), twin); err != nil {
		b.Fatal(err)
	}
	files, dirs := names(b, merged)
	strata("umount", "deep")
	strata("load", twin)
	strata("create", "--name", "one", "twin:1")

	for _, op := range []struct {
		name string
		over []string
		do   func(path string) error
	}{
		{"missing", files, func(p string) error {
			if _, err := os.Lstat(p + ".none"); err == nil {
				return fmt.Errorf("%s.none is there", p)
			}
			return nil
		}},
		{"stat", files, func(p string) error { _, err := os.Lstat(p); return err }},
		{"readdir", dirs, func(p string) error { _, err := os.ReadDir(p); return err }},
	} {
		b.Run("op="+op.name, func(b *testing.B) {
			took := map[string][]time.Duration{}
			for b.Loop() {
				for _, image := range []string{"one", "deep"} {
					root := strata("mount", image)
					took[image] = append(took[image], timed(func() {
						for _, name := range op.over {
							if err := op.do(filepath.Join(root, name)); err != nil {
								b.Fatal(err)
							}
						}
					}))
					strata("umount", image)
				}
			}
			one, deep := median(took["one"]), median(took["deep"])
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(one/float64(len(op.over))*1e6, "one-us")
			b.ReportMetric(deep/one, "deep/one")
		})
	}
}

// names lists the regular files and the directories below root.
func names(b *testing.B, root string) (files, dirs []string) {
	b.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			dirs = append(dirs, path)
		case d.Type().IsRegular():
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return files, dirs
}
