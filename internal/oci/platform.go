package oci

import (
	"fmt"
	"runtime"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform is what an image runs on. The zero Platform is linux on this
// machine's architecture, which a reader can be glad of without asking.
type Platform struct {
	OS           string // linux
	Architecture string // amd64, as GOARCH has it
	Variant      string // v7; empty: any, best one that says none
}

// ParsePlatform reads OS/ARCHITECTURE[/VARIANT], or an architecture alone, in
// Docker's or the kernel's words.
func ParsePlatform(s string) (Platform, error) {
	fail := func(why string) (Platform, error) {
		return Platform{}, fmt.Errorf("platform %s: %s, want OS/ARCHITECTURE[/VARIANT] such as linux/arm64", quote(s), why)
	}
	parts := strings.Split(strings.ToLower(s), "/")
	for _, p := range parts {
		if p == "" || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return fail("a part of it is no name")
		}
	}
	switch len(parts) {
	case 1:
		parts = []string{"linux", parts[0]}
	case 2, 3:
	default:
		return fail("it has more than three parts")
	}
	p := Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p.normalize(), nil
}

// normalize gives one platform one spelling.
func (p Platform) normalize() Platform {
	if p == (Platform{}) {
		p = Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "i386":
		p.Architecture = "386"
	}
	if p.Architecture == "arm64" && p.Variant == "v8" || p.Architecture == "amd64" && p.Variant == "v1" {
		p.Variant = "" // they are what the architecture means
	}
	return p
}

func (p Platform) String() string {
	p = p.normalize()
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// rank is 0 for a platform that is not p, and larger the better it fits.
func (p Platform) rank(of *v1.Platform) int {
	if of == nil {
		return 1 // not said: better than nothing
	}
	want := p.normalize()
	have := Platform{OS: of.OS, Architecture: of.Architecture, Variant: of.Variant}.normalize()
	switch {
	case have.OS != want.OS || have.Architecture != want.Architecture:
		return 0
	case have.Variant == want.Variant:
		return 3
	case have.Variant == "" || want.Variant == "":
		return 2 // the variant may need a newer CPU than there is
	}
	return 0
}
