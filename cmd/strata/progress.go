package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/sys/unix"

	"strata/internal/oci"
	"strata/layerstore"
)

// progress shows on stderr how far the layers of an image are: a bar each on a
// terminal, a line each elsewhere.
type progress struct {
	out  io.Writer
	bars *mpb.Progress // nil if out is no terminal

	mu     sync.Mutex
	layers map[oci.DiffID]*layerProgress
}

type layerProgress struct {
	total, current int64
	done           string // what to call it once all of it has come; empty: finish says
	finished       bool
	bar            *mpb.Bar
	how            atomic.Value // string: how it has come to its end, for the bar to show
}

func (p *program) newProgress() *progress {
	g := &progress{out: p.Stderr, layers: map[oci.DiffID]*layerProgress{}}
	if isTerminal(p.Stderr) {
		g.bars = mpb.New(mpb.WithOutput(p.Stderr), mpb.WithWidth(48))
	}
	return g
}

// newLoadProgress is for layers that come into the store.
func (p *program) newLoadProgress(store *layerstore.Store, img *oci.Image) *progress {
	g := p.newProgress()
	for _, l := range img.Layers {
		done := "read"
		if store.HasLayer(l.DiffID) {
			done = "known"
		}
		g.add(l, done)
	}
	return g
}

func (g *progress) add(l oci.Layer, done string) {
	if g.layers[l.DiffID] == nil {
		g.layers[l.DiffID] = &layerProgress{total: l.Size, done: done}
	}
}

// move hears that n bytes more of a layer's blob are done, or fewer if n is
// negative.
func (g *progress) move(id oci.DiffID, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.layers[id]
	if l == nil {
		return
	}
	l.current += n
	if l.done != "" && l.current >= l.total {
		g.say(id, l, l.done)
	}
	g.draw(id, l)
}

// finish hears how a layer has come to its end.
func (g *progress) finish(id oci.DiffID, how string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.layers[id]; l != nil {
		l.current = l.total
		g.say(id, l, how)
		g.draw(id, l)
	}
}

func (g *progress) draw(id oci.DiffID, l *layerProgress) {
	if g.bars == nil {
		return
	}
	if l.bar == nil {
		l.bar = g.bars.AddBar(l.total,
			mpb.PrependDecorators(decor.Name(id.Short()+" ")),
			mpb.AppendDecorators(decor.CountersKiloByte("% .1f / % .1f"), decor.Percentage(decor.WCSyncSpace),
				decor.Any(func(decor.Statistics) string {
					how, _ := l.how.Load().(string)
					return how
				})))
	}
	l.bar.SetCurrent(l.current)
}

func (g *progress) say(id oci.DiffID, l *layerProgress, how string) {
	if g.bars == nil && !l.finished {
		fmt.Fprintf(g.out, "layer %s: %s %s\n", id.Short(), size(l.total), how)
	}
	l.finished = true
	l.how.Store(" " + how)
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

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
