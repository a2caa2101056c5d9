package oci

import (
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]string{
		"linux/amd64": "linux/amd64", "arm64": "linux/arm64", "linux/arm64/v8": "linux/arm64", "Linux/AARCH64": "linux/arm64",
		"linux/arm/v7": "linux/arm/v7", "armhf": "linux/arm/v7", "x86_64": "linux/amd64", "windows/amd64": "windows/amd64",
	} {
		got, err := ParsePlatform(in)
		if err != nil || got.String() != want {
			t.Errorf("%s: %s (error: %v), want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "/", "linux/", "linux/arm/v7/x", "linux/a b", "linux/\x1b"} {
		if got, err := ParsePlatform(in); err == nil {
			t.Errorf("%q: %s, want an error", in, got)
		}
	}
}

// TestPickPlatform chooses among what an index lists.
func TestPickPlatform(t *testing.T) {
	list := func(platforms ...string) []v1.Descriptor {
		var ds []v1.Descriptor
		for _, s := range platforms {
			d := v1.Descriptor{MediaType: s}
			if s != "" {
				p, err := ParsePlatform(s)
				if err != nil {
					t.Fatal(err)
				}
				d.Platform = &v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
			}
			ds = append(ds, d)
		}
		return ds
	}
	for _, tc := range []struct {
		want string
		from []string
		got  string // "-": none
	}{
		{"linux/arm64", []string{"linux/amd64", "linux/arm64/v8", "linux/arm64/v9"}, "linux/arm64/v8"},
		{"linux/arm/v6", []string{"linux/arm/v7", "linux/arm/v6"}, "linux/arm/v6"},
		{"linux/arm/v6", []string{"linux/arm/v7", "linux/arm"}, "linux/arm"},
		{"linux/arm/v6", []string{"linux/arm/v7"}, "-"},
		{"linux/arm", []string{"linux/arm/v7", "linux/arm/v6"}, "linux/arm/v7"},
		{"linux/arm64", []string{"linux/amd64", "windows/arm64"}, "-"},
		{"linux/arm64", []string{"linux/amd64", ""}, ""},
	} {
		p, err := ParsePlatform(tc.want)
		if err != nil {
			t.Fatal(err)
		}
		d, err := pickPlatform(list(tc.from...), p)
		if err != nil {
			d.MediaType = "-"
		}
		if d.MediaType != tc.got {
			t.Errorf("%s from %v: %q, want %q (error: %v)", tc.want, tc.from, d.MediaType, tc.got, err)
		}
	}
	_, err := pickPlatform(list("linux/s390x"), Platform{OS: "linux", Architecture: "arm64"})
	wantError(t, err, "no image for linux/arm64; there are: linux/s390x")
}
