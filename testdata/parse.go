package testdata

import (
	"embed"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/tools/txtar"
)

//go:embed *.txtar
var files embed.FS

// Image is one image: its layers and the part of its config that the text
// describes.
type Image struct {
	Ref     string // as it stands in the layout's index, such as demo/web:1
	Created time.Time
	Config  Config
	Layers  []*Layer // base first
	Plain   bool     // its blobs are the tars as they are; otherwise gzip
}

// Config is the part of an image config that says how to run it.
type Config struct {
	User       string            `json:",omitempty"`
	Env        []string          `json:",omitempty"`
	Entrypoint []string          `json:",omitempty"`
	Cmd        []string          `json:",omitempty"`
	WorkingDir string            `json:",omitempty"`
	Labels     map[string]string `json:",omitempty"`
}

// Layer is one layer of an image.
type Layer struct {
	Name    string
	Comment string // its line in the history
	created time.Time
	entries []*entry
	below   []*Layer        // base first
	bare    map[string]bool // directories without an entry
}

// Load parses the file of this package that is called NAME.txtar.
func Load(name string) ([]*Image, error) {
	text, err := files.ReadFile(name + ".txtar")
	if err != nil {
		return nil, fmt.Errorf("there is no test image file of that name: %w", err)
	}
	return Parse(name+".txtar", text)
}

// Parse reads the text described in the package comment. Name appears in
// errors only.
func Parse(name string, text []byte) ([]*Image, error) {
	archive := txtar.Parse(text)
	p := parser{sections: map[string][]byte{}, used: map[string]bool{}}
	for _, f := range archive.Files {
		p.sections[f.Name] = f.Data
	}
	for i, line := range strings.Split(string(archive.Comment), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if err := p.line(fields); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	for _, f := range archive.Files {
		if err := p.leftover(f.Name); err != nil {
			return nil, fmt.Errorf("%s: section %s: %w", name, f.Name, err)
		}
	}
	if len(p.images) == 0 {
		return nil, fmt.Errorf("%s: no image line", name)
	}
	return p.images, nil
}

type parser struct {
	images   []*Image
	layers   []*Layer // all, in the order of the text
	sections map[string][]byte
	used     map[string]bool // sections that a file line has taken
}

// line obeys one line of the description.
func (p *parser) line(fields []string) error {
	word, args := fields[0], fields[1:]
	if word == "image" {
		return p.image(args)
	}
	if len(p.images) == 0 {
		return fmt.Errorf("%s before the first image line", word)
	}
	if len(args) == 0 {
		return fmt.Errorf("%s wants an argument", word)
	}
	img := p.images[len(p.images)-1]
	rest := strings.Join(args, " ")
	switch word {
	case "created":
		t, err := time.Parse(time.RFC3339, rest)
		img.Created = t.UTC()
		return err
	case "env":
		img.Config.Env = append(img.Config.Env, rest)
	case "cmd":
		img.Config.Cmd = args
	case "entrypoint":
		img.Config.Entrypoint = args
	case "user":
		img.Config.User = rest
	case "workdir":
		img.Config.WorkingDir = rest
	case "label":
		key, value, _ := strings.Cut(rest, "=")
		if img.Config.Labels == nil {
			img.Config.Labels = map[string]string{}
		}
		img.Config.Labels[key] = value
	case "compression":
		if rest != "none" && rest != "gzip" {
			return fmt.Errorf("compression is none or gzip, not %s", rest)
		}
		img.Plain = rest == "none"
	case "layer":
		l := &Layer{Name: args[0], Comment: strings.Join(args[1:], " "), created: img.Created,
			below: slices.Clone(img.Layers), bare: map[string]bool{}}
		img.Layers = append(img.Layers, l)
		p.layers = append(p.layers, l)
	default:
		if len(img.Layers) == 0 || img.Layers[len(img.Layers)-1] != p.lastLayer() {
			return fmt.Errorf("%s before the first layer line of %s", word, img.Ref)
		}
		return p.entry(p.lastLayer(), word, args)
	}
	return nil
}

func (p *parser) lastLayer() *Layer {
	if len(p.layers) == 0 {
		return nil
	}
	return p.layers[len(p.layers)-1]
}

// image begins a new image: "REF" or "REF from REF".
func (p *parser) image(args []string) error {
	img := &Image{Created: time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)}
	switch {
	case len(args) == 1:
	case len(args) == 3 && args[1] == "from":
		i := slices.IndexFunc(p.images, func(m *Image) bool { return m.Ref == args[2] })
		if i < 0 {
			return fmt.Errorf("image %s: no image %s above it", args[0], args[2])
		}
		base := p.images[i]
		img.Created, img.Config, img.Plain = base.Created, base.Config, base.Plain
		img.Config.Env = slices.Clone(base.Config.Env)
		img.Config.Labels = nil
		img.Layers = slices.Clone(base.Layers)
	default:
		return fmt.Errorf("image wants REF or REF from REF")
	}
	img.Ref = args[0]
	p.images = append(p.images, img)
	return nil
}

// entry adds what one line makes to layer l.
func (p *parser) entry(l *Layer, word string, args []string) error {
	e := &entry{name: path.Clean(args[0]), mtime: l.created}
	words, attrs := args[1:], args[1:]
	for i, a := range args[1:] {
		if strings.Contains(a, "=") {
			words, attrs = args[1:][:i], args[1:][i:]
			break
		}
		attrs = nil
	}
	want := map[string]int{"symlink": 1, "link": 1, "char": 2, "block": 2}[word]
	if len(words) != want {
		return fmt.Errorf("%s %s: %d words follow the path, not %d", word, e.name, len(words), want)
	}
	if strings.HasPrefix(e.name, "/") || strings.HasPrefix(e.name, "..") {
		return fmt.Errorf("%s %s: the path is not relative to the root", word, e.name)
	}
	if word == "implicit" {
		l.bare[e.name] = true
		return nil
	}
	if err := e.setKind(word, words); err != nil {
		return fmt.Errorf("%s %s: %w", word, e.name, err)
	}
	if word == "file" {
		section := l.Name + "/" + e.name
		e.data, p.used[section] = p.sections[section], true
	}
	size, seed := int64(-1), e.name
	for _, a := range attrs {
		key, value, _ := strings.Cut(a, "=")
		var err error
		switch key {
		case "size":
			size, err = parseSize(value)
		case "seed":
			seed = value
		default:
			err = e.setAttr(key, value)
		}
		if err != nil {
			return fmt.Errorf("%s %s: %s: %w", word, e.name, a, err)
		}
	}
	if size >= 0 {
		e.data = noise(seed, size)
	}
	l.entries = append(l.entries, e)
	return nil
}

// leftover makes a file of a section that no line has mentioned.
func (p *parser) leftover(section string) error {
	if p.used[section] {
		return nil
	}
	layer, name, _ := strings.Cut(section, "/")
	i := slices.IndexFunc(p.layers, func(l *Layer) bool { return l.Name == layer })
	if i < 0 || name == "" {
		return fmt.Errorf("is not LAYER/PATH of a layer above")
	}
	return p.entry(p.layers[i], "file", []string{name})
}

// parseSize reads a number of bytes with an optional K or M.
func parseSize(s string) (int64, error) {
	unit := int64(1)
	if d, ok := strings.CutSuffix(s, "K"); ok {
		s, unit = d, 1<<10
	} else if d, ok := strings.CutSuffix(s, "M"); ok {
		s, unit = d, 1<<20
	}
	n, err := strconv.ParseInt(s, 10, 32)
	return n * unit, err
}
