package testdata

import (
	"archive/tar"
	"bytes"
	"io"
	"testing"
)

// The tour mentions every directory, so all of it can belong to one user.
func TestTourBelongsToOneOwner(t *testing.T) {
	images, err := Load("tour")
	if err != nil {
		t.Fatal(err)
	}
	SetOwner(images, 1000, 100)
	for _, img := range images {
		for _, l := range img.Layers {
			data, err := l.Tar()
			if err != nil {
				t.Fatal(err)
			}
			r := tar.NewReader(bytes.NewReader(data))
			for {
				h, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if h.Uid != 1000 || h.Gid != 100 {
					t.Errorf("%s: layer %s: %s belongs to %d:%d, want 1000:100", img.Ref, l.Name, h.Name, h.Uid, h.Gid)
				}
			}
		}
	}
}
