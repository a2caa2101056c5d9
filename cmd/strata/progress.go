package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/layerstore"
)

// progress shows on stderr how far the layers of an image are read: a bar each
// on a terminal, a line each elsewhere.
type progress struct {
	out  io.Writer
	bars *mpb.Progress // nil if out is no terminal

	mu     sync.Mutex
	layers map[oci.DiffID]*layerProgress
}

type layerProgress struct {
	total, read int64
	known       bool // the store has it
	bar         *mpb.Bar
}

func (p *program) newProgress(store *layerstore.Store, img *oci.Image) *progress {
	g := &progress{out: p.Stderr, layers: map[oci.DiffID]*layerProgress{}}
	if isTerminal(p.Stderr) {
		g.bars = mpb.New(mpb.WithOutput(p.Stderr), mpb.WithWidth(48))
	}
	for _, l := range img.Layers {
		if g.layers[l.DiffID] == nil {
			g.layers[l.DiffID] = &layerProgress{total: l.Size, known: store.HasLayer(l.DiffID)}
		}
	}
	return g
}

// read hears that n bytes more of a layer's blob are done.
func (g *progress) read(id oci.DiffID, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.layers[id]
	if l == nil {
		return
	}
	before := l.read
	l.read += n
	switch {
	case g.bars != nil:
		if l.bar == nil {
			l.bar = g.bars.AddBar(l.total,
				mpb.PrependDecorators(decor.Name(id.Short()+" ")),
				mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f"), decor.Percentage(decor.WCSyncSpace)))
		}
		l.bar.SetCurrent(l.read)
	case before < l.total && l.read >= l.total:
		done := "read"
		if l.known {
			done = "known"
		}
		fmt.Fprintf(g.out, "layer %s: %s %s\n", id.Short(), size(l.total), done)
	}
}

// end leaves the last picture on the terminal.
func (g *progress) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.bars == nil {
		return
	}
	for _, l := range g.layers {
		if l.bar != nil && !l.bar.Completed() {
			l.bar.Abort(false)
		}
	}
	g.bars.Wait()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
