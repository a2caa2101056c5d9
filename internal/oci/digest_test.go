package oci

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

var hex64 = strings.Repeat("0123456789abcdef", 4)

func TestParseDigest(t *testing.T) {
	for _, tc := range []struct {
		in, refusal string
	}{
		{in: "sha256:" + hex64},
		{in: "", refusal: "empty"},
		{in: hex64, refusal: "no algorithm"},
		{in: "sha256:", refusal: "0 characters"},
		{in: "sha256:" + hex64[1:], refusal: "63 characters"},
		{in: "sha256:" + hex64 + "0", refusal: "65 characters"},
		{in: "sha256:" + strings.ToUpper(hex64), refusal: "lower-case"},
		{in: "SHA256:" + hex64, refusal: "algorithm"},
		{in: "sha512:" + hex64 + hex64, refusal: `"sha512" is not supported`},
		{in: "sha256+b64:" + hex64, refusal: "not supported"},
		{in: "sha256:../../../../../../../../../../../../../../../../../../etc/shadow", refusal: "lower-case"},
		{in: "sha256:" + hex64[:63] + "/", refusal: "lower-case"},
		{in: "sha256:" + hex64[:63] + "\x00", refusal: "lower-case"},
		{in: " sha256:" + hex64, refusal: "algorithm"},
		{in: "sha256:" + hex64[:63] + "\n", refusal: "lower-case"},
		{in: "sha256:" + strings.Repeat("a", 1<<20), refusal: "1048576 characters"},
	} {
		d, err := ParseDigest(tc.in)
		_, errDiffID := ParseDiffID(tc.in)
		if tc.refusal == "" {
			if err != nil || errDiffID != nil {
				t.Errorf("%q: %v, %v", tc.in, err, errDiffID)
			}
			if d.String() != tc.in || d.Hex() != hex64 || d.Short() != hex64[:12] {
				t.Errorf("%q: String %q, Hex %q, Short %q", tc.in, d, d.Hex(), d.Short())
			}
			continue
		}
		wantError(t, err, "digest", tc.refusal)
		wantError(t, errDiffID, "diffID", tc.refusal)
		if len(err.Error()) > 512 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}

func TestChain(t *testing.T) {
	ids := []DiffID{"sha256:" + DiffID(strings.Repeat("a", 64)), "sha256:" + DiffID(strings.Repeat("b", 64)), "sha256:" + DiffID(strings.Repeat("c", 64))}
	sum := func(s string) ChainID { return ChainID(fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s)))) }
	two := sum(string(ids[0]) + " " + string(ids[1]))
	three := sum(string(two) + " " + string(ids[2]))
	for n, want := range []ChainID{"", ChainID(ids[0]), two, three} {
		if got := Chain(ids[:n]); got != want {
			t.Errorf("%d layers: %s, want %s", n, got, want)
		}
	}
}
