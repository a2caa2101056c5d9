package container

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"strata/overlay/tree"
)

func TestCreate(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	if !isID(string(ct.ID)) || ct.Name != "web" || ct.Reference != "base:1" || ct.Image != w.image.ID ||
		ct.Manifest != w.image.Digest || !slices.Equal(ct.Layers, w.image.Layers) {
		t.Errorf("config %+v does not fit image %+v", ct.Config, w.image)
	}
	read, err := readConfig(ct.dir)
	if err != nil {
		t.Fatal(err)
	}
	if read.ID != ct.ID || !read.Created.Equal(ct.Created) || read.Chain != ct.Chain {
		t.Errorf("read back %+v, want %+v", read, ct.Config)
	}
	if entries, err := os.ReadDir(filepath.Join(w.store.Root(), "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("staging holds %v, %v after create", entries, err)
	}
}

func TestANewUpperLooksLikeTheImagesRoot(t *testing.T) {
	w := newWorld(t)
	chain, err := w.store.Chain(t.Context(), w.image.Layers)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	want, err := chain.Tree().Attr(tree.Root)
	if err != nil {
		t.Fatal(err)
	}
	if want.Mode&tree.ModePerm != 0o751 {
		t.Fatalf("the image's root has mode %o: the test would prove nothing", want.Mode)
	}
	upper, err := w.create(t, "").OpenUpper()
	if err != nil {
		t.Fatal(err)
	}
	defer upper.Close()
	got, err := upper.Attr(tree.Root)
	if err != nil {
		t.Fatal(err)
	}
	if got.Mode != want.Mode || got.UID != want.UID || got.GID != want.GID || got.Mtime != want.Mtime {
		t.Errorf("upper's root is %o %d:%d %v, want %o %d:%d %v",
			got.Mode, got.UID, got.GID, got.Mtime, want.Mode, want.UID, want.GID, want.Mtime)
	}
	if value, err := upper.Xattr(tree.Root, "user.color"); err != nil || string(value) != "blue" {
		t.Errorf("upper's root has user.color %q, %v, want blue", value, err)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t)
	w.create(t, "web")
	for _, c := range []struct{ name, want string }{
		{"web", `the name "web" belongs to container`},
		{"x", "must be 2 to 128"},
		{"-x", "a letter or digit first"},
		{"a/b", "must be 2 to 128"},
		{"../x", "must be 2 to 128"},
		{"a b", "must be 2 to 128"},
		{strings.Repeat("x", maxName+1), "must be 2 to 128"},
		{strings.Repeat("a1", 32), "looks like an id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := w.Create(t.Context(), w.image, CreateOptions{Name: c.name, Reference: "base:1"})
			wantError(t, err, "create a container of base:1", c.want)
		})
	}
	if list, err := w.List(); err != nil || len(list) != 1 {
		t.Errorf("%d containers, %v, after refused creates, want 1", len(list), err)
	}
}

func TestOneNameForManyCreators(t *testing.T) {
	w := newWorld(t)
	const creators = 8
	made := make(chan *Container, creators)
	var wg sync.WaitGroup
	for range creators {
		wg.Go(func() {
			if ct, err := w.Create(t.Context(), w.image, CreateOptions{Name: "only"}); err == nil {
				made <- ct
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Errorf("%d containers got the same name", len(made))
	}
}

func TestGeneratedNames(t *testing.T) {
	if name := newName(func(string) bool { return false }); !validName.MatchString(name) || !strings.Contains(name, "_") {
		t.Errorf("made up %q", name)
	}
	asked := 0
	newName(func(string) bool { asked++; return asked < 100 })
	if asked != 100 {
		t.Errorf("gave up after %d names", asked)
	}
	for _, words := range [][]string{adjectives, nouns} {
		if sorted := slices.Compact(slices.Sorted(slices.Values(words))); !slices.Equal(sorted, words) {
			t.Errorf("words are not sorted or not distinct: %v", words)
		}
	}
}

func TestFind(t *testing.T) {
	w := newWorld(t)
	web, db := w.create(t, "web-server"), w.create(t, "db")
	for _, name := range []string{"web-server", string(web.ID), web.ID.Short(), string(web.ID)[:8]} {
		if ct, err := w.Find(name); err != nil || ct.ID != web.ID {
			t.Errorf("Find(%q): %v, %v", name, ct, err)
		}
	}
	// A name goes before the beginning of an id.
	begin := string(db.ID)[:6]
	named := w.create(t, begin)
	if ct, err := w.Find(begin); err != nil || ct.ID != named.ID {
		t.Errorf("Find(%q): %v, %v, want the container of that name", begin, ct, err)
	}
	for _, name := range []string{"web-servr", "", strings.Repeat("0", idLen)} {
		var notFound *NotFoundError
		if ct, err := w.Find(name); !errors.As(err, &notFound) || notFound.Name != name {
			t.Errorf("Find(%q): %v, %v", name, ct, err)
		}
	}
}

func TestRemove(t *testing.T) {
	w := newWorld(t)
	ct := w.create(t, "web")
	write(t, filepath.Join(ct.UpperDir(), "big"), strings.Repeat("x", 1<<20))
	freed, err := ct.Remove(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if freed < 1<<20 {
		t.Errorf("freed %d bytes, want at least %d", freed, 1<<20)
	}
	if _, err := os.Stat(ct.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
	if _, err := ct.Remove(t.Context(), false); err == nil {
		t.Error("removed twice")
	}
	if entries, err := os.ReadDir(filepath.Join(w.store.Root(), "tmp")); err != nil || len(entries) > 0 {
		t.Errorf("staging holds %v, %v after remove", entries, err)
	}
}
