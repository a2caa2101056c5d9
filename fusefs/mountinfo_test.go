package fusefs

import (
	"slices"
	"strings"
	"testing"
)

func TestParseMounts(t *testing.T) {
	info := "22 1 0:53 / /a\\040b\\134c rw shared:1 - fuse.strata strata:web rw\n" +
		"23 1 0:54 / /cr\rff\f\u00a0nbsp\xff rw - fuse.strata  rw\n" +
		"24 23 0:55 / /many rw - overlay overlay rw,lowerdir=" + strings.Repeat("/layer", 100_000) + "\n"
	want := []mountEntry{
		{"22", "1", `/a b\c`, "fuse.strata"},
		{"23", "1", "/cr\rff\f\u00a0nbsp\xff", "fuse.strata"},
		{"24", "23", "/many", "overlay"},
	}
	got, err := parseMounts(info)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := parseMounts("22 1 0:53 / /a\n"); err == nil {
		t.Error("half a line is understood")
	}
}
