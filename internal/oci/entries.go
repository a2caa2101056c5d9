package oci

import (
	"context"
	"fmt"
	"slices"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// entry is one image that an archive lists, or why it cannot be had.
type entry struct {
	refs     []Reference
	digest   Digest       // of what is listed: a manifest, or an index of several; empty while a docker archive's is not known
	platform *v1.Platform // as the index says, if it does
	load     func(refs []Reference) (*Image, error)

	image *Image
	err   error
}

// entries collects what an archive lists: an image that is listed again gets
// further references.
type entries struct {
	list  []entry
	at    map[string]int // by key; index of list
	named map[naming]bool
}

type naming struct {
	at  int
	ref Reference
}

// add returns the entry for key, made by fresh if there is none yet.
func (es *entries) add(key string, fresh entry) int {
	if es.at == nil {
		es.at, es.named = make(map[string]int), make(map[naming]bool)
	}
	at, ok := es.at[key]
	if !ok {
		at = len(es.list)
		es.at[key] = at
		es.list = append(es.list, fresh)
	}
	return at
}

// name gives an entry a reference, which it may have already.
func (es *entries) name(at int, ref Reference) {
	if n := (naming{at, ref}); !es.named[n] {
		es.named[n] = true
		es.list[at].refs = append(es.list[at].refs, ref)
	}
}

// settle sees to it that a reference names one image. Of several that are
// listed under one reference, the one for this machine's platform keeps it, and
// what is left without a name by that is left out. Where no one image is the
// best, each of them is refused: there is no telling which was meant.
func (es *entries) settle(archive string) {
	type claim struct {
		best, winners int // the best rank, and how many entries have it
		err           error
	}
	claims := make(map[Reference]*claim)
	for _, e := range es.list {
		rank := Platform{}.rank(e.platform)
		for _, ref := range e.refs {
			c := claims[ref]
			switch {
			case c == nil || rank > c.best:
				claims[ref] = &claim{best: rank, winners: 1}
			case rank == c.best:
				c.winners++
			}
		}
	}
	for ref, c := range claims {
		if c.winners > 1 {
			c.err = fmt.Errorf("%s: image %s: the reference is given to %d different images, and which is meant cannot be told",
				archive, ref.Familiar(), c.winners)
		}
	}
	es.list = slices.DeleteFunc(es.list, func(e entry) bool {
		return len(e.refs) > 0 && !slices.ContainsFunc(e.refs, func(ref Reference) bool {
			return Platform{}.rank(e.platform) == claims[ref].best
		})
	})
	for i := range es.list {
		e := &es.list[i]
		e.refs = slices.DeleteFunc(e.refs, func(ref Reference) bool {
			return Platform{}.rank(e.platform) != claims[ref].best
		})
		for _, ref := range e.refs {
			if e.err == nil {
				e.err = claims[ref].err
			}
		}
	}
}

// load settles the references and reads the images.
func (es *entries) load(ctx context.Context, archive string) ([]entry, error) {
	es.settle(archive)
	for i := range es.list {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		e := &es.list[i]
		if e.err != nil {
			continue
		}
		if e.image, e.err = e.load(e.refs); e.err == nil && e.digest == "" {
			e.digest = e.image.Digest()
		}
	}
	return es.list, nil
}

// matches reports whether the archive knows the entry by ref.
func (e entry) matches(ref Reference) bool {
	if ref.digest == "" {
		return slices.Contains(e.refs, ref)
	}
	if e.digest != ref.digest && (e.image == nil || e.image.Digest() != ref.digest) {
		return false
	}
	return len(e.refs) == 0 || slices.ContainsFunc(e.refs, func(r Reference) bool {
		return r.repository == ref.repository
	})
}
