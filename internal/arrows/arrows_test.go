package arrows

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "strata"
)

// imported is one import line.
type imported struct {
	room, path string
	file       string // with the line, for messages
	test       bool   // stands in a test file
}

// imports reads the import lines of all Go files, whatever platform or tag
// they are for.
func imports(t *testing.T) []imported {
	t.Helper()
	var all []imported
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && name != "."
			inputs := d.Name() == "testdata" && name != "testdata"
			if hidden || inputs {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(files, file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			all = append(all, imported{
				room: filepath.ToSlash(filepath.Dir(name)), path: imp, test: strings.HasSuffix(name, "_test.go"),
				file: name + ":" + strconv.Itoa(files.Position(spec.Pos()).Line),
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no import was found: is this the module?")
	}
	return all
}

// below tells whether the package is the module or room, or lies in it.
func below(pkg, in string) bool { return pkg == in || strings.HasPrefix(pkg, in+"/") }

// standard tells whether a package belongs to the standard library, or is so
// near to the kernel that any room may use it.
func standard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return below(pkg, "golang.org/x/sys") || first != module && !strings.Contains(first, ".")
}

func TestArrows(t *testing.T) {
	for _, imp := range imports(t) {
		i := slices.IndexFunc(rooms, func(r room) bool { return r.name == imp.room })
		if i < 0 {
			t.Errorf("%s: %s is no room of the table: give it a row, with what it may import and why", imp.file, imp.room)
			continue
		}
		if standard(imp.path) || imp.test && slices.ContainsFunc(forTests, func(m string) bool { return below(imp.path, m) }) {
			continue
		}
		if to, ours := strings.CutPrefix(imp.path, module+"/"); ours {
			self := imp.test && to == imp.room
			if !self && !slices.Contains(rooms[i].may, to) {
				t.Errorf("%s: %s must not import %s: %s", imp.file, imp.room, to, rooms[i].why)
			}
			continue
		}
		known := false
		for _, o := range outside {
			if below(imp.path, o.module) {
				known = true
				if !slices.Contains(o.rooms, imp.room) {
					t.Errorf("%s: only %s may import %s: %s", imp.file, strings.Join(o.rooms, " and "), o.module, o.why)
				}
			}
		}
		if !known {
			t.Errorf("%s: %s is from a module that the table does not have: say who may import it, and why", imp.file, imp.path)
		}
	}
}

// Arrows that ran back would be found by the compiler only where there is code.
func TestArrowsPointDown(t *testing.T) {
	for i, r := range rooms {
		for _, to := range r.may {
			switch j := slices.IndexFunc(rooms, func(r room) bool { return r.name == to }); {
			case j < 0:
				t.Errorf("%s may import %s, which has no row", r.name, to)
			case j >= i && to != "testdata":
				t.Errorf("%s may import %s, which stands above it", r.name, to)
			}
		}
	}
}

func TestNothingShippedImportsTesting(t *testing.T) {
	for _, imp := range imports(t) {
		if !imp.test && (below(imp.path, "testing") || path.Base(imp.path) == "httptest") {
			t.Errorf("%s: imports %s, which belongs to test files", imp.file, imp.path)
		}
	}
}

func TestNothingElseInTheRoot(t *testing.T) {
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && !slices.Contains(topLevel, e.Name()) {
			t.Errorf("%s stands in the root, where only these do: %s", e.Name(), strings.Join(topLevel, " "))
		}
	}
}

// The README's table of rooms says the same.
func TestReadmeHasTheRooms(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{} // room: what it may import, as it is shown
	for line := range strings.Lines(string(data)) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) == 5 && strings.HasPrefix(cells[1], " `") {
			shown[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[3])
		}
	}
	for _, r := range rooms {
		if _, err := os.Stat(filepath.Join(root, r.name)); err != nil || slices.Contains([]string{"internal/arrows", "internal/histories", "internal/need"}, r.name) {
			continue // not there yet, or none that the program is made of
		}
		want := "-"
		switch {
		case r.name == "cmd/strata":
			want = "all"
		case len(r.may) > 0:
			want = "`" + strings.Join(r.may, "`, `") + "`"
		}
		if entries, _ := os.ReadDir(filepath.Join(root, r.name)); len(entries) == 0 {
			continue // an empty folder is kept by no checkout
		}
		if shown[r.name] != want {
			t.Errorf("README.md says that %s may import %q, the table says %q", r.name, shown[r.name], want)
		}
	}
}
