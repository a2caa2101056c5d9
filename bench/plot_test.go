package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAxisHoldsTheRatios(t *testing.T) {
	for _, c := range []struct {
		name      string
		ratios    []float64
		low, high float64
	}{
		{"nothing", nil, 0.5, 2},
		{"about one", []float64{0.9, 1.1}, 0.5, 2},
		{"on a tick", []float64{0.2, 5}, 0.2, 5},
		{"between ticks", []float64{0.3, 3}, 0.2, 5},
		{"beyond what is shown", []float64{0.0001, 1e6}, 0.02, 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plotOf(c.ratios...)
			a := p.axis()
			if near := func(a, b float64) bool { return a/b > 0.999 && a/b < 1.001 }; !near(a.low, c.low) || !near(a.high, c.high) {
				t.Errorf("axis from %g to %g, want %g to %g", a.low, a.high, c.low, c.high)
			}
			for _, r := range append(c.ratios, 1) {
				if x := a.at(r); x < plotLabel-0.01 || x > plotLabel+plotWidth+0.01 {
					t.Errorf("ratio %g is drawn at %g", r, x)
				}
			}
		})
	}
}

func plotOf(ratios ...float64) *ratioPlot {
	row := ratioRow{Label: "a<b", About: `"quoted" & more`}
	for _, r := range ratios {
		row.Bars = append(row.Bars, ratioBar{Series: "x", Ratio: r, Text: "<&>"})
	}
	return &ratioPlot{Rows: []ratioRow{row}}
}

func TestSVGIsWellFormed(t *testing.T) {
	svg := string(plotOf(0.001, 1, 30, 1e5).SVG())
	d := xml.NewDecoder(strings.NewReader(svg))
	bars := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars != 4 {
		t.Errorf("%d bars, want 4", bars)
	}
}
