package layerstore_test

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"strata/layerstore"
)

// du is what the program says of a directory.
func du(tb testing.TB, path string) int64 {
	tb.Helper()
	out, err := exec.Command("du", "-s", "--block-size=1", path).Output()
	if err != nil {
		tb.Fatalf("du: %v", err)
	}
	field, _, _ := strings.Cut(string(out), "\t")
	n, err := strconv.ParseInt(field, 10, 64)
	if err != nil {
		tb.Fatalf("du: %q", out)
	}
	return n
}

// checkUsage holds Usage against du, and its parts against its sums.
func checkUsage(tb testing.TB, s *layerstore.Store) layerstore.Usage {
	tb.Helper()
	u, err := s.Usage(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if want := du(tb, s.Root()); u.Total.Bytes != want {
		tb.Errorf("Total is %d bytes, du says %d", u.Total.Bytes, want)
	}
	sum := func(parts ...layerstore.Disk) (d layerstore.Disk) {
		for _, p := range parts {
			d.Bytes += p.Bytes
			d.Inodes += p.Inodes
		}
		return d
	}
	kinds := sum(u.Objects, u.Trees, u.Recipes, u.Blobs, u.Chains, u.Documents, u.Containers, u.Staging, u.Other)
	if kinds != u.Total {
		tb.Errorf("the kinds add up to %v, Total is %v", kinds, u.Total)
	}
	objects := sum(u.SharedObjects, u.LooseObjects, u.FanOut)
	for _, image := range u.Images {
		objects = sum(objects, image.Own)
	}
	if objects != u.Objects {
		tb.Errorf("own, shared, loose and fan-out add up to %v, Objects is %v", objects, u.Objects)
	}
	return u
}
