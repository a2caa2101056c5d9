package oci

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
)

// Reference names an image the way Docker does: a repository, which begins
// with its registry's host, and a tag, a digest or both. It is kept in its
// canonical form, so that == compares references: "redis" and
// "docker.io/library/redis:latest" parse to the same value. The zero
// Reference names nothing.
type Reference struct {
	repository string // docker.io/library/redis
	tag        string // latest; empty when there is only a digest
	digest     Digest // of a manifest; usually empty
}

// ParseReference reads [HOST/]REPOSITORY[:TAG][@DIGEST]. Without a host it is
// docker.io, without a namespace there it is library, without tag and digest
// the tag is latest.
func ParseReference(s string) (Reference, error) {
	name, digest, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		if _, err := ParseDigest(digest); err != nil {
			return Reference{}, fmt.Errorf("reference %s: %w", quote(s), err)
		}
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		if errors.Is(err, reference.ErrReferenceInvalidFormat) {
			err = explainMalformed(name)
		}
		return Reference{}, fmt.Errorf("reference %s: %w", quote(s), err)
	}
	if !hasDigest {
		named = reference.TagNameOnly(named)
	}
	ref := Reference{repository: named.Name(), digest: Digest(digest)}
	if tagged, ok := named.(reference.Tagged); ok {
		ref.tag = tagged.Tag()
	}
	return ref, nil
}

// ParseReferenceIn is ParseReference for people who have chosen another registry
// to stand where docker.io stands: what begins with no host is there. An empty
// registry is docker.io.
func ParseReferenceIn(registry, s string) (Reference, error) {
	if host, _, found := strings.Cut(s, "/"); registry == "" || registry == "docker.io" ||
		found && (strings.ContainsAny(host, ".:") || host == "localhost" || strings.ToLower(host) != host) {
		return ParseReference(s)
	}
	return ParseReference(registry + "/" + s)
}

// Repository is the name without tag and digest: docker.io/library/redis.
func (r Reference) Repository() string { return r.repository }

// Host is the registry that the repository is in.
func (r Reference) Host() string {
	host, _, _ := strings.Cut(r.repository, "/")
	return host
}

// Tag is empty when the reference holds only a digest.
func (r Reference) Tag() string { return r.tag }

// Digest is the manifest that the reference insists on, or empty.
func (r Reference) Digest() Digest { return r.digest }

// IsZero reports whether r names nothing.
func (r Reference) IsZero() bool { return r == Reference{} }

// String is the canonical form, docker.io/library/redis:latest;
// ParseReference gives r back from it.
func (r Reference) String() string { return r.join(r.repository) }

// Familiar is the short form that Docker shows: redis:latest.
// ParseReference gives r back from it, too.
func (r Reference) Familiar() string { return r.join(familiarRepository(r.repository)) }

// FamiliarRepository is Familiar without tag and digest: redis.
func (r Reference) FamiliarRepository() string { return familiarRepository(r.repository) }

func (r Reference) join(repository string) string {
	if r.tag != "" {
		repository += ":" + r.tag
	}
	if r.digest != "" {
		repository += "@" + string(r.digest)
	}
	return repository
}

// familiarRepository leaves out docker.io and library, unless what is left
// would be read as something else: docker.io/localhost/x is not localhost/x.
func familiarRepository(repository string) string {
	short, ok := strings.CutPrefix(repository, "docker.io/")
	if !ok {
		return repository
	}
	if name, ok := strings.CutPrefix(short, "library/"); ok && !strings.Contains(name, "/") {
		short = name
	}
	if named, err := reference.ParseNormalizedNamed(short); err != nil || named.Name() != repository {
		return repository
	}
	return short
}

var (
	wholeTag       = regexp.MustCompile("^(?:" + reference.TagRegexp.String() + ")$")
	wholeDomain    = regexp.MustCompile("^(?:" + reference.DomainRegexp.String() + ")$")
	wholeComponent = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$`)
)

// explainMalformed finds what is wrong with a name and tag that the grammar
// refused: the library says only that something is.
func explainMalformed(name string) error {
	switch {
	case name == "":
		return errors.New("empty, want [HOST/]REPOSITORY[:TAG][@DIGEST]")
	case strings.Contains(name, "://"):
		return errors.New("a reference has no scheme, it begins with the registry's host or the repository")
	}
	if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.Contains(name[i:], "/") {
		tag := name[i+1:]
		name = name[:i]
		if !wholeTag.MatchString(tag) {
			return fmt.Errorf("tag %s: want 1 to 128 letters, digits, '_', '.' or '-', the first not '.' or '-'", quote(tag))
		}
	}
	components := strings.Split(name, "/")
	if host := components[0]; len(components) > 1 && (strings.ContainsAny(host, ".:[]") || host == "localhost") {
		if !wholeDomain.MatchString(host) {
			return fmt.Errorf("host %s: not a host name, with or without a port", quote(host))
		}
		components = components[1:]
	}
	for _, c := range components {
		if !wholeComponent.MatchString(c) {
			return fmt.Errorf("repository part %s: want lower-case letters and digits, joined by '.', '_', '__' or '-'", quote(c))
		}
	}
	return reference.ErrReferenceInvalidFormat
}
