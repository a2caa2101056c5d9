package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"

	"strata/internal/container"
)

// maker makes trees, the same ones every time. The first failure ends all that
// follows and is what finish returns.
type maker struct {
	ctx  context.Context // of the one call that makes a data set
	dir  string
	old  string // what of it is to look old; all if empty
	rng  *rand.Rand
	data *rand.ChaCha8
	err  error
}

func newMaker(ctx context.Context, dir string) *maker {
	return &maker{ctx: ctx, dir: dir, rng: rand.New(rand.NewPCG(20240229, 1)), data: rand.NewChaCha8([32]byte{'s', 't', 'r', 'a', 't', 'a'})}
}

func (m *maker) finish() error {
	if m.err == nil {
		m.err = settle(filepath.Join(m.dir, m.old))
	}
	return m.err
}

// do runs a step unless one before has failed.
func (m *maker) do(step func() error) {
	if m.err == nil {
		m.err = m.ctx.Err()
	}
	if m.err == nil {
		m.err = step()
	}
}

func (m *maker) mkdir(name string) {
	m.do(func() error { return os.MkdirAll(filepath.Join(m.dir, name), 0o755) })
}

// file makes a file with contents that do not compress, and its directory.
func (m *maker) file(name string, size int64) {
	m.do(func() error {
		path := filepath.Join(m.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.CopyN(f, m.data, size)
		return err
	})
}

// text makes a file with the given contents.
func (m *maker) text(name, contents string) {
	m.do(func() error {
		path := filepath.Join(m.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(contents), 0o644)
	})
}

// distribution makes a tree with about as many names as given, shaped like that of
// a Debian image: an eighth directories, in up to nine levels, a twelfth
// symlinks; a third of the files up to 512 bytes, most of the others a few KiB,
// three in a thousand above 1 MiB.
func (m *maker) distribution(names int) {
	const deepest = 9
	type place struct {
		path  string
		depth int
	}
	places := []place{
		{"bin", 1}, {"etc", 1}, {"usr", 1}, {"usr/bin", 2}, {"usr/lib", 2}, {"usr/share", 2}, {"usr/share/doc", 3},
		{"usr/share/locale", 3}, {"usr/lib/python3", 3}, {"var", 1}, {"var/lib", 2}, {"var/lib/dpkg/info", 4},
	}
	for len(places) < max(names/8, len(places)) {
		in := places[m.rng.IntN(len(places))]
		if in.depth < deepest {
			places = append(places, place{fmt.Sprintf("%s/part-%d", in.path, len(places)), in.depth + 1})
		}
	}
	for _, p := range places {
		m.mkdir(p.path)
	}
	var files []string
	for i := len(places); i < names; i++ {
		in := places[m.rng.IntN(len(places))].path
		if i%12 == 0 && len(files) > 0 {
			target := "/" + files[m.rng.IntN(len(files))]
			link := filepath.Join(m.dir, in, fmt.Sprintf("link-%d.so", i))
			m.do(func() error { return os.Symlink(target, link) })
			continue
		}
		name := fmt.Sprintf("%s/file-%d.conf", in, i)
		m.file(name, m.size())
		files = append(files, name)
	}
}

// size is that of a file in a distribution.
func (m *maker) size() int64 {
	switch k := m.rng.IntN(1000); {
	case k < 3:
		return 1<<20 + m.rng.Int64N(1<<20)
	case k < 330:
		return m.rng.Int64N(513)
	case k < 850:
		return 512 + m.rng.Int64N(8<<10)
	default:
		return 8<<10 + m.rng.Int64N(32<<10)
	}
}

// layeredDirs is how many directories every layer has.
const layeredDirs = 40

// layers makes the files first, first+step, ... of the layered tree, and every
// directory.
func (m *maker) layers(files, first, step int) {
	for d := range layeredDirs {
		m.mkdir(fmt.Sprintf("usr/lib/package-%02d", d))
	}
	for i := first; i < files; i += step {
		m.text(fmt.Sprintf("usr/lib/package-%02d/file-%d", i/step%layeredDirs, i), fmt.Sprintln("file", i))
	}
}

// spread makes the layered tree in n layers below dir, and all of it in the
// maker's own directory. It returns the layers.
func (m *maker) spread(dir string, files, n int) container.LowerDirs {
	var baseFirst []string
	for i := range n {
		layer := newMaker(m.ctx, filepath.Join(dir, fmt.Sprint("layer-", i)))
		layer.layers(files, i, n)
		m.do(layer.finish)
		baseFirst = append(baseFirst, layer.dir)
		m.layers(files, i, n)
	}
	return container.TopmostFirst(baseFirst)
}

// many makes files of a few hundred bytes in directories of 100.
func (m *maker) many(in string, files int) {
	for i := range files {
		m.file(fmt.Sprintf("%s/dir-%03d/file-%d", in, i/100, i), 100+m.rng.Int64N(900))
	}
}
