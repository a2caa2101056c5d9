package main

import (
	"fmt"
	"path"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"strata/overlay/tree"
)

// explainJSON is what explain --json prints.
type explainJSON struct {
	Path  string     `json:"path"`            // where the path leads to
	Links []linkJSON `json:"links,omitempty"` // that led there, the first first
	Seen  bool       `json:"seen"`            // whether programs see something there
	Words []wordJSON `json:"words"`           // topmost layer first
}

// linkJSON is a symlink that stands where the path wants a directory.
type linkJSON struct {
	Path   string `json:"path"`
	Target string `json:"target"`
	Layer  int    `json:"layer"`
}

// wordJSON is what one layer has to say.
type wordJSON struct {
	DiffID string `json:"diffID,omitempty"` // none for the upper of a container
	tree.Word
}

func explainCommand(p *program) *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "show every layer that has a word to say about a path",
		ArgsUsage: "IMAGE|CONTAINER PATH",
		Description: `Topmost layer first, with the upper of a container above all. The word that
decides what programs see is marked with =>. Symlinks on the way to the last
name are followed. A layer may

   add        what no layer below has
   replace    what a layer below has
   merge      a directory with those below; the topmost gives the attributes
   whiteout   a name: nothing of the layers below is seen
   opaque     a directory: nothing of what layers below have in it is seen
   implicit   have names in a directory without an entry of its own for it

Examples:
   strata explain nginx:1 /etc/nginx/nginx.conf
   strata explain web /etc/motd`,
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := wantArgs(c, 2, 2); err != nil {
				return err
			}
			s, err := p.findSubject(c.Args().Get(0))
			if err != nil {
				return err
			}
			layers, err := s.open(p.store, true)
			if err != nil {
				return err
			}
			defer layers.Close()
			name := path.Clean("/" + c.Args().Get(1))
			name, links, words, err := explainPath(layers.trees, name)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return p.printJSON(explained(s, name, links, words))
			}
			return p.printExplained(s, name, links, words)
		},
	}
}

// explainPath is tree.Explain for a path that may lead through symlinks. It
// returns where the path leads to, and by which links.
func explainPath(trees []tree.Tree, name string) (string, []linkJSON, []tree.Word, error) {
	var links []linkJSON
	for {
		words, err := tree.Explain(trees, name)
		if err != nil {
			return name, links, nil, err
		}
		link, ok := linkOnTheWay(name, words)
		if !ok {
			return name, links, words, nil
		}
		const most = 40 // as the kernel
		if len(links) == most {
			return name, links, nil, fmt.Errorf("explain %s: %w", links[0].Path, unix.ELOOP)
		}
		links = append(links, link)
		target := link.Target
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(link.Path), target)
		}
		name = path.Join("/", target, strings.TrimPrefix(name, link.Path))
	}
}

// linkOnTheWay returns the symlink that programs see where name wants a
// directory.
func linkOnTheWay(name string, words []tree.Word) (linkJSON, bool) {
	for _, w := range words {
		at := path.Clean("/" + w.Path)
		if w.Wins && w.Says != tree.Whiteout && w.Mode&tree.ModeType == tree.ModeSymlink && strings.HasPrefix(name, at+"/") {
			return linkJSON{Path: at, Target: w.Target, Layer: w.Layer}, true
		}
	}
	return linkJSON{}, false
}

// seen tells whether the word that wins shows something at name.
func seen(name string, w tree.Word) bool {
	return w.Wins && w.Says != tree.Whiteout && path.Clean("/"+w.Path) == name
}

func explained(s subject, name string, links []linkJSON, words []tree.Word) explainJSON {
	e := explainJSON{Path: name, Links: links, Words: []wordJSON{}}
	for _, w := range words {
		j := wordJSON{Word: w}
		if w.Layer < len(s.layers) {
			j.DiffID = string(s.layers[w.Layer])
		}
		e.Words = append(e.Words, j)
		e.Seen = e.Seen || seen(name, w)
	}
	return e
}

func (p *program) printExplained(s subject, name string, links []linkJSON, words []tree.Word) error {
	for _, l := range links {
		if err := p.println(fmt.Sprintf("%s: %s is a symlink to %s, from %s", s.title, shownText(l.Path), shownText(l.Target), s.layerName(l.Layer))); err != nil {
			return err
		}
	}
	if len(words) == 0 {
		return p.println(fmt.Sprintf("%s: %s does not exist; no layer knows of it", s.title, shownText(name)))
	}
	for _, w := range words {
		if !w.Wins {
			continue
		}
		verdict := fmt.Sprintf("%s comes from %s", shownText(name), s.layerName(w.Layer))
		if !seen(name, w) {
			verdict = fmt.Sprintf("%s does not exist, because of %s", shownText(name), s.layerName(w.Layer))
		}
		if err := p.println(fmt.Sprintf("%s: %s", s.title, verdict)); err != nil {
			return err
		}
	}
	t := newTable("", "LAYER", "", "SAYS")
	for _, w := range words {
		mark, id := "", ""
		if w.Wins {
			mark = "=>"
		}
		if w.Layer < len(s.layers) {
			id = s.layers[w.Layer].Short()
		}
		says := sentence(w)
		if w.HiddenBy != nil {
			says += " (hidden by " + s.layerName(*w.HiddenBy) + ")"
		}
		t.AppendRow([]any{mark, s.layerName(w.Layer), id, says})
	}
	return p.printTable(t)
}

// layerName is "the upper" or "layer 3".
func (s *subject) layerName(i int) string {
	if i >= len(s.layers) {
		return "the upper"
	}
	return fmt.Sprintf("layer %d", i)
}

// sentence reads a word aloud.
func sentence(w tree.Word) string {
	name := shownText(path.Clean("/" + w.Path))
	switch w.Says {
	case tree.Adds:
		return fmt.Sprintf("adds %s, %s", name, thing(w))
	case tree.Replaces:
		return fmt.Sprintf("replaces %s by %s", name, thing(w))
	case tree.Merges:
		return fmt.Sprintf("merges %s, %s, with the layers below", name, thing(w))
	case tree.Implicit:
		return fmt.Sprintf("has names in %s, but no entry for the directory", name)
	case tree.Opaque:
		return fmt.Sprintf("makes %s opaque: a directory that hides what layers below have in it", name)
	case tree.Whiteout:
		return fmt.Sprintf("has a whiteout for %s: it is removed", name)
	case tree.Lends:
		return fmt.Sprintf("gives the attributes of %s, %s", name, thing(w))
	}
	return w.String()
}

// thing describes what stands at the word's path.
func thing(w tree.Word) string {
	article := "a "
	if w.Kind == "" {
		return "something"
	}
	mode := fmt.Sprintf(" (%04o)", w.Mode&tree.ModePerm)
	switch w.Mode & tree.ModeType {
	case tree.ModeRegular:
		return fmt.Sprintf("%s%s of %d bytes%s", article, w.Kind, w.Size, mode)
	case tree.ModeSymlink:
		return fmt.Sprintf("%s%s to %s", article, w.Kind, shownText(w.Target))
	}
	return article + w.Kind + mode
}
