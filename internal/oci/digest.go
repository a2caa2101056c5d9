package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Digest names a blob: the hash of its bytes as they are stored and sent,
// "sha256:" and 64 lower-case hex digits.
type Digest string

// DiffID names a layer: the hash of its uncompressed tar.
type DiffID string

// ChainID names a stack of layers: the hash over their diffIDs, as the OCI
// image specification's identity rules have it.
type ChainID string

// digestPrefix is the one algorithm that strata stores things under. The OCI
// specification registers sha512 too, but no registry or builder in use makes
// such blobs, and one length of name keeps every path and record simple.
const digestPrefix = "sha256:"

// ParseDigest accepts exactly the canonical form. Everything that reaches a
// path has passed through here, so that a digest can be trusted as a file name.
func ParseDigest(s string) (Digest, error) {
	if err := checkDigest(s); err != nil {
		return "", fmt.Errorf("digest %s: %w", quote(s), err)
	}
	return Digest(s), nil
}

// ParseDiffID is ParseDigest for the hash of an uncompressed layer.
func ParseDiffID(s string) (DiffID, error) {
	if err := checkDigest(s); err != nil {
		return "", fmt.Errorf("diffID %s: %w", quote(s), err)
	}
	return DiffID(s), nil
}

func checkDigest(s string) error {
	if s == "" {
		return fmt.Errorf("empty, want sha256: and 64 hex digits")
	}
	hexPart, ok := strings.CutPrefix(s, digestPrefix)
	if !ok {
		algorithm, _, found := strings.Cut(s, ":")
		if !found {
			return fmt.Errorf("no algorithm, want sha256: and 64 hex digits")
		}
		return fmt.Errorf("algorithm %s is not supported, only sha256 is", quote(algorithm))
	}
	if len(hexPart) != 2*sha256.Size {
		return fmt.Errorf("%d characters after sha256:, want 64", len(hexPart))
	}
	for i := range len(hexPart) {
		if c := hexPart[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("character %q at %d, want lower-case hex digits", c, i+len(digestPrefix))
		}
	}
	return nil
}

// DigestBytes is the digest of b.
func DigestBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(digestPrefix + hex.EncodeToString(sum[:]))
}

// Chain is the identity of a stack of layers, base first:
//
//	Chain(d0)          = d0
//	Chain(d0, ..., dn) = sha256(Chain(d0, ..., dn-1) + " " + dn)
//
// A stack of no layers has no identity in the specification; its ChainID is
// empty.
func Chain(diffIDs []DiffID) ChainID {
	if len(diffIDs) == 0 {
		return ""
	}
	chain := ChainID(diffIDs[0])
	for _, d := range diffIDs[1:] {
		chain = ChainID(DigestBytes([]byte(string(chain) + " " + string(d))))
	}
	return chain
}

func (d Digest) String() string  { return string(d) }
func (d DiffID) String() string  { return string(d) }
func (c ChainID) String() string { return string(c) }

// Hex is the 64 hex digits: the name of a blob's file.
func (d Digest) Hex() string  { return hexOf(string(d)) }
func (d DiffID) Hex() string  { return hexOf(string(d)) }
func (c ChainID) Hex() string { return hexOf(string(c)) }

// Short is the first 12 hex digits, for people.
func (d Digest) Short() string  { return shortOf(string(d)) }
func (d DiffID) Short() string  { return shortOf(string(d)) }
func (c ChainID) Short() string { return shortOf(string(c)) }

func hexOf(s string) string { return strings.TrimPrefix(s, digestPrefix) }

func shortOf(s string) string {
	h := hexOf(s)
	return h[:min(12, len(h))]
}

// quote shows a stranger's string in an error, cut where it would drown the
// message.
func quote(s string) string {
	const most = 128
	if len(s) > most {
		return fmt.Sprintf("%q... (%d bytes)", s[:most], len(s))
	}
	return fmt.Sprintf("%q", s)
}
