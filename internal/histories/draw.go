package histories

import "math/rand/v2"

// DrawOverlay draws a history of what an overlay can be told to do in-process.
func DrawOverlay(seed uint64, steps int) History {
	r := rand.New(rand.NewPCG(seed, 1))
	h := History{Lowers: drawLowers(r.IntN, false)}
	for range steps {
		h.Steps = append(h.Steps, DrawOverlayStep(r.IntN))
	}
	return h
}

// DrawMounted draws a history of several processes. Every other one has no hard links
// in its lowers.
func DrawMounted(seed uint64, steps int) History {
	r := rand.New(rand.NewPCG(seed, 2))
	h := History{Lowers: drawLowers(r.IntN, true), Mounted: true, NoIndex: seed%2 == 0}
	if h.NoIndex {
		for _, layer := range h.Lowers {
			for i, e := range layer {
				if e.Kind == HardLink {
					layer[i] = Entry{Path: e.Path, Kind: File, Size: 1 + r.IntN(3000), Fill: "l"}
				}
			}
		}
	}
	draw := Calls(r.IntN, len(Users), h.Lowers)
	for len(h.Steps) < steps {
		h.Steps = append(h.Steps, draw()...)
	}
	return h
}
