package tree

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
)

// Verb is what a layer does to a path.
type Verb string

const (
	Adds     Verb = "adds"     // there is nothing below that it could hide
	Replaces Verb = "replaces" // something of another layer, of any kind
	Merges   Verb = "merges"   // a directory with that of the layers below
	Implicit Verb = "implicit" // a directory: the layer has names in it, but no entry for it
	Opaque   Verb = "opaque"   // a directory that hides what the layers below have in it
	Whiteout Verb = "whiteout" // hides what the layers below have
	Lends    Verb = "lends"    // a directory's attributes to an opaque one above, and no names
)

// Word is what one layer has to say about a path, or about a directory above it
// where that decides about the path.
type Word struct {
	Layer int    `json:"layer"` // index of the layer, base is 0
	Says  Verb   `json:"says"`
	Path  string `json:"path"` // what it is about: the path or a directory above it

	// What stands at Path; empty for a whiteout.
	Kind   string `json:"kind,omitempty"`   // "regular file", "directory", "symlink", ...
	Mode   uint32 `json:"mode,omitempty"`   // as in st_mode
	Size   int64  `json:"size,omitempty"`   // of a regular file
	Target string `json:"target,omitempty"` // of a symlink

	// Wins is true of the one word that decides what programs see: of a
	// merged directory, the one that gives the attributes. If that is a
	// whiteout or about a directory above the path, they see nothing there.
	Wins bool `json:"wins"`

	// HiddenBy is the layer whose word overrules this one. Words that neither win nor
	// are hidden add to what is seen (a merged directory) or hide something further down.
	HiddenBy *int `json:"hiddenBy,omitempty"`
}

// String gives the word in words, without the layer: "replaces usr/bin/perl,
// regular file, 3904 bytes".
func (w Word) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s /%s", w.Says, w.Path)
	if w.Kind != "" {
		fmt.Fprintf(&b, ", %s", w.Kind)
	}
	switch w.Mode & ModeType {
	case ModeRegular:
		fmt.Fprintf(&b, ", %d bytes", w.Size)
	case ModeSymlink:
		fmt.Fprintf(&b, " to %q", w.Target)
	}
	return b.String()
}

// Explain returns the words of layers, base first, about name: topmost layer
// first, and of one layer the word about the longest path first. name is a
// path from the root, whose symlinks are not followed: one in the middle is,
// like any file there, a word that nothing is below. Nor are redirects of host
// directories. No words mean that no layer knows of name.
func Explain(layers []Tree, name string) ([]Word, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	x := explainer{prefixes: []string{""}}
	for i := range name {
		if name[i] == '/' {
			x.prefixes = append(x.prefixes, name[:i])
		}
	}
	if name != "" {
		x.prefixes = append(x.prefixes, name)
	}
	for i, l := range layers {
		trail, err := x.follow(l)
		if err != nil {
			return nil, fmt.Errorf("explain /%s: layer %d: %w", name, i, err)
		}
		x.trails = append(x.trails, trail)
	}
	var words []saying
	for i := range slices.Backward(layers) {
		words = append(words, x.words(i)...)
	}
	return judge(words), nil
}

type explainer struct {
	prefixes []string     // "", "usr", "usr/bin", ...
	trails   [][]standing // by layer: what it has at each prefix, as far as it has anything
}

// standing is what a layer has at a path.
type standing struct {
	whiteout, dir, opaque bool
	attr                  Attr
	target                string
}

// follow looks for all prefixes in l, until it has no such name or no
// directory to go on in.
func (x *explainer) follow(l Tree) ([]standing, error) {
	var trail []standing
	e := Entry{ID: Root, Type: ModeDir}
	for i, p := range x.prefixes {
		if i > 0 {
			var err error
			e, err = l.Lookup(e.ID, path.Base(p))
			if errors.Is(err, syscall.ENOENT) {
				return trail, nil
			}
			if err != nil {
				return nil, err
			}
		}
		f := standing{whiteout: e.Whiteout, dir: e.Type == ModeDir}
		var err error
		if !f.whiteout {
			f.attr, err = l.Attr(e.ID)
		}
		if err == nil && f.dir {
			f.opaque, err = l.Opaque(e.ID)
		}
		if err == nil && e.Type == ModeSymlink {
			f.target, err = l.Readlink(e.ID)
		}
		if err != nil {
			return nil, err
		}
		trail = append(trail, f)
		if !f.dir {
			break
		}
	}
	return trail, nil
}

// below returns what layer's entry at prefix i lies over, nil if that is
// nothing or a whiteout.
func (x *explainer) below(layer, i int) *standing {
	for ; ; layer-- {
		for _, f := range x.trails[layer][:min(i, len(x.trails[layer]))] {
			if f.opaque {
				return nil
			}
		}
		if layer == 0 {
			return nil
		}
		trail := x.trails[layer-1]
		switch {
		case len(trail) > i && trail[i].whiteout:
			return nil
		case len(trail) > i:
			return &trail[i]
		case len(trail) > 0 && !trail[len(trail)-1].dir:
			return nil // a whiteout or a file above prefix i
		}
	}
}

// saying is a word with what judge needs to know.
type saying struct {
	Word
	own      bool // about the path itself
	implicit bool // it is about a directory without an entry
	closes   bool // whether it hides what all layers below say
}

// words returns what layer has to say, the longest path first.
func (x *explainer) words(layer int) []saying {
	var words []saying
	last := len(x.prefixes) - 1
	for i, f := range slices.Backward(x.trails[layer]) {
		w := saying{Word: Word{Layer: layer, Path: x.prefixes[i]}, own: i == last && !f.whiteout}
		if f.whiteout {
			w.Says, w.closes = Whiteout, true
			words = append(words, w)
			continue
		}
		w.implicit = f.dir && f.attr.Implicit
		w.Kind, w.Mode, w.Target = kindName(f.attr.Mode), f.attr.Mode, f.target
		if f.attr.IsRegular() {
			w.Size = f.attr.Size
		}
		below := x.below(layer, i)
		switch {
		case f.opaque:
			w.Says, w.closes = Opaque, true
		case below != nil && below.dir != f.dir || below != nil && !f.dir:
			w.Says, w.closes = Replaces, true
		case w.implicit:
			w.Says = Implicit
		case below != nil:
			w.Says = Merges
		default:
			w.Says, w.closes = Adds, !f.dir
		}
		// A directory above the path that hides nothing says nothing about it.
		if w.own || w.closes {
			words = append(words, w)
		}
	}
	return words
}

// judge finds out which word wins and which are hidden.
func judge(sayings []saying) []Word {
	closed := -1            // the layer that hides all below it
	winner, first := -1, -1 // first is the topmost visible directory
	lend := false           // whether an opaque, implicit directory looks for attributes
	for i := range sayings {
		w := &sayings[i]
		dir := w.own && w.Mode&ModeType == ModeDir
		if closed >= 0 {
			switch {
			case w.Layer == closed:
				// It hides in another way what is hidden already.
			case lend && dir && !w.implicit:
				w.Says, winner = Lends, i
			default:
				w.HiddenBy = new(closed)
			}
			lend = lend && dir && winner < 0
			continue
		}
		switch {
		case dir && first < 0:
			first = i
			fallthrough
		case dir:
			if winner < 0 && !w.implicit {
				winner = i
			}
		case first < 0:
			winner = i
		}
		if w.closes {
			closed = w.Layer
			lend = dir && winner < 0 && w.Says == Opaque
		}
	}
	if winner < 0 {
		winner = first
	}
	words := make([]Word, len(sayings))
	for i, w := range sayings {
		words[i] = w.Word
		words[i].Wins = i == winner
	}
	return words
}
