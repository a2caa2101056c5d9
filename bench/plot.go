package bench

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"slices"
	"strings"
)

// ratioPlot draws ratios to a baseline as bars on a logarithmic axis: to the left
// of 1 is less than the baseline, to the right is more. It is an SVG that takes
// its colours from the page, by class: s-NAME for a series.
type ratioPlot struct {
	Rows []ratioRow
}

// ratioRow is one thing that was measured.
type ratioRow struct {
	Label, About string
	Bars         []ratioBar
}

type ratioBar struct {
	Series string
	Ratio  float64
	Text   string // what was measured, for who points at the bar
}

// Lengths in the units of the SVG.
const (
	plotLabel  = 130 // width of the labels
	plotWidth  = 560 // of the area for bars
	plotValue  = 60  // of the figure behind a bar
	plotTop    = 22  // height of the axis
	plotBar    = 9   // of a bar, with the gap to the next
	plotRowGap = 9
)

// axis goes from less than all ratios to more than all, in whole steps of 1, 2,
// 5, 10; what lies beyond a factor of 50 is cut off, and marked.
type axis struct{ low, high float64 }

const axisEnd = 50

func (p *ratioPlot) axis() axis {
	a := axis{0.5, 2}
	for _, r := range p.Rows {
		for _, b := range r.Bars {
			a.low, a.high = min(a.low, b.Ratio), max(a.high, b.Ratio)
		}
	}
	a.low, a.high = max(a.low, 1./axisEnd), min(a.high, axisEnd)
	ticks := ticksWithin(1./axisEnd, axisEnd)
	from := slices.IndexFunc(ticks, func(t float64) bool { return t > a.low*1.001 }) - 1
	to := slices.IndexFunc(ticks, func(t float64) bool { return t >= a.high*0.999 })
	return axis{ticks[max(from, 0)], ticks[to]}
}

// ticksWithin are 1, 2 and 5 times the powers of ten.
func ticksWithin(low, high float64) []float64 {
	var ticks []float64
	for e := -3; e <= 3; e++ {
		for _, m := range []float64{1, 2, 5} {
			if t := m * math.Pow(10, float64(e)); t >= low*0.999 && t <= high*1.001 {
				ticks = append(ticks, t)
			}
		}
	}
	return ticks
}

// at is where a ratio is, in units of the SVG.
func (a axis) at(ratio float64) float64 {
	ratio = min(max(ratio, a.low), a.high)
	return plotLabel + plotWidth*math.Log(ratio/a.low)/math.Log(a.high/a.low)
}

// SVG draws it.
func (p *ratioPlot) SVG() template.HTML {
	a := p.axis()
	height := plotTop
	for _, r := range p.Rows {
		height += len(r.Bars)*plotBar + plotRowGap
	}
	var s strings.Builder
	fmt.Fprintf(&s, `<svg viewBox="0 0 %d %d" role="img" xmlns="http://www.w3.org/2000/svg">`, plotLabel+plotWidth+plotValue, height)
	for _, t := range ticksWithin(a.low, a.high) {
		class := "tick"
		if t == 1 {
			class = "tick one"
		}
		fmt.Fprintf(&s, `<line class="%s" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, class, a.at(t), a.at(t), plotTop-4, height)
		fmt.Fprintf(&s, `<text class="axis" x="%.1f" y="%d" text-anchor="middle">%g</text>`, a.at(t), plotTop-8, t)
	}
	y := plotTop
	for _, r := range p.Rows {
		fmt.Fprintf(&s, `<text class="label" x="%d" y="%.1f" text-anchor="end">%s<title>%s</title></text>`,
			plotLabel-8, float64(y)+float64(len(r.Bars)*plotBar)/2+4, html.EscapeString(r.Label), html.EscapeString(r.About))
		for _, b := range r.Bars {
			p.bar(&s, a, b, y)
			y += plotBar
		}
		y += plotRowGap
	}
	s.WriteString("</svg>")
	return template.HTML(s.String()) // of numbers and escaped names
}

func (p *ratioPlot) bar(s *strings.Builder, a axis, b ratioBar, y int) {
	from, to := min(a.at(1), a.at(b.Ratio)), max(a.at(1), a.at(b.Ratio))
	fmt.Fprintf(s, `<g><title>%s</title><rect class="s-%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`,
		html.EscapeString(b.Text), html.EscapeString(b.Series), from, y, max(to-from, 1.5), plotBar-2)
	mark := ""
	if b.Ratio < a.low*0.999 || b.Ratio > a.high*1.001 {
		mark = "…"
	}
	fmt.Fprintf(s, `<text class="value" x="%.1f" y="%d">%s%s</text></g>`, to+4, y+plotBar-2, Times(b.Ratio), mark)
}
