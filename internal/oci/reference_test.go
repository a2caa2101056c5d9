package oci

import (
	"strings"
	"testing"
)

func TestParseReference(t *testing.T) {
	digest := "sha256:" + hex64
	for _, tc := range []struct {
		in, canonical, familiar string
	}{
		{"redis", "docker.io/library/redis:latest", "redis:latest"},
		{"redis:latest", "docker.io/library/redis:latest", "redis:latest"},
		{"docker.io/redis", "docker.io/library/redis:latest", "redis:latest"},
		{"index.docker.io/library/redis", "docker.io/library/redis:latest", "redis:latest"},
		{"library/redis:7", "docker.io/library/redis:7", "redis:7"},
		{"me/app", "docker.io/me/app:latest", "me/app:latest"},
		{"a/b/c:1", "docker.io/a/b/c:1", "a/b/c:1"},
		{"library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
		{"localhost/app", "localhost/app:latest", "localhost/app:latest"},
		{"localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"},
		{"quay.io/org/app:v1.2-rc_3", "quay.io/org/app:v1.2-rc_3", "quay.io/org/app:v1.2-rc_3"},
		{"[::1]:5000/app:1", "[::1]:5000/app:1", "[::1]:5000/app:1"},
		{"docker.io/localhost/x:1", "docker.io/localhost/x:1", "docker.io/localhost/x:1"},
		{"docker.io/a.b/x:1", "docker.io/a.b/x:1", "docker.io/a.b/x:1"},
		{"redis@" + digest, "docker.io/library/redis@" + digest, "redis@" + digest},
		{"redis:7@" + digest, "docker.io/library/redis:7@" + digest, "redis:7@" + digest},
		{"a__b/c.d-e--f", "docker.io/a__b/c.d-e--f:latest", "a__b/c.d-e--f:latest"},
		{"x:" + strings.Repeat("t", 128), "docker.io/library/x:" + strings.Repeat("t", 128), "x:" + strings.Repeat("t", 128)},
	} {
		ref, err := ParseReference(tc.in)
		if err != nil {
			t.Error(err)
			continue
		}
		if ref.String() != tc.canonical || ref.Familiar() != tc.familiar {
			t.Errorf("%s: String %s, want %s; Familiar %s, want %s", tc.in, ref, tc.canonical, ref.Familiar(), tc.familiar)
		}
		checkRoundTrip(t, ref)
	}
}

func checkRoundTrip(t *testing.T, ref Reference) {
	t.Helper()
	for _, s := range []string{ref.String(), ref.Familiar()} {
		if again, err := ParseReference(s); err != nil || again != ref {
			t.Errorf("%s: parsed again, %s is %s (error: %v)", ref, s, again, err)
		}
	}
}

func TestParseReferenceRefused(t *testing.T) {
	for _, tc := range []struct{ in, reason string }{
		{"", "empty"},
		{"Redis", "lowercase"},
		{"localhost/Redis", "lowercase"},
		{" redis", "repository part"},
		{"re dis", `repository part "re dis"`},
		{"redis:", `tag ""`},
		{"redis:-x", `tag "-x"`},
		{"redis:a b", `tag "a b"`},
		{"redis:" + strings.Repeat("t", 129), "1 to 128"},
		{"redis@", "digest"},
		{"redis@sha256:abc", "3 characters"},
		{"redis@sha256:" + strings.ToUpper(hex64), "lower-case"},
		{"redis@sha512:" + hex64 + hex64, "sha512"},
		{"https://docker.io/redis", "scheme"},
		{"redis//x", `repository part ""`},
		{"/redis", `repository part ""`},
		{"../../etc/passwd", `".."`},
		{"localhost/../x", `".."`},
		{"redis/", `repository part ""`},
		{"-redis", `"-redis"`},
		{"redis_", `"redis_"`},
		{"ex_ample.com:80/x", "host"},
		{"red\x00is", "repository part"},
		{"r\u00e9dis", "repository part"},
		{hex64, "hexadecimal"},
		{strings.Repeat("a", 256), "255"},
	} {
		_, err := ParseReference(tc.in)
		if err == nil {
			t.Errorf("%q is accepted", tc.in)
			continue
		}
		wantError(t, err, "reference", tc.reason)
	}
}

func TestParseReferenceIn(t *testing.T) {
	for _, tc := range []struct{ registry, in, want string }{
		{"", "redis", "docker.io/library/redis:latest"},
		{"docker.io", "redis", "docker.io/library/redis:latest"},
		{"registry.example", "redis", "registry.example/redis:latest"},
		{"localhost:5000", "me/app:1", "localhost:5000/me/app:1"},
		{"localhost:5000", "ghcr.io/me/app:1", "ghcr.io/me/app:1"},
		{"localhost:5000", "localhost/app", "localhost/app:latest"},
		{"localhost:5000", "docker.io/library/redis", "docker.io/library/redis:latest"},
		{"registry.example/mirror", "redis:7", "registry.example/mirror/redis:7"},
	} {
		ref, err := ParseReferenceIn(tc.registry, tc.in)
		if err != nil || ref.String() != tc.want {
			t.Errorf("%s on %q: %s (error: %v), want %s", tc.in, tc.registry, ref, err, tc.want)
		}
	}
	if ref, err := ParseReferenceIn("http://x", "redis"); err == nil {
		t.Errorf("a registry with a scheme gives %s", ref)
	}
}
