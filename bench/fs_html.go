package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
)

//go:embed fs_page.html
var fsPage string

// WriteHTML writes a page that needs nothing else, and no network.
func (f *FSReport) WriteHTML(w io.Writer) error {
	page, err := template.New("page").Parse(fsPage)
	if err != nil {
		return err
	}
	return page.Execute(w, fsPageData{FSReport: f})
}

// fsPageData is what the page asks for.
type fsPageData struct{ *FSReport }

// Base is what the bars are drawn against: the kernel's overlayfs, or the plain
// directory where that was not measured.
func (d fsPageData) Base() string {
	for _, name := range []string{Overlayfs, Plain} {
		for _, c := range d.Present() {
			if c.Name == name {
				return name
			}
		}
	}
	return ""
}

// Present are the contenders that took part.
func (d fsPageData) Present() []ContenderReport {
	var there []ContenderReport
	for _, c := range d.Contenders {
		if c.Missing == "" {
			there = append(there, c)
		}
	}
	return there
}

// fsGroup is one picture.
type fsGroup struct {
	Name string
	Plot *ratioPlot
}

// Groups are the workloads with what they are shown with.
func (d fsPageData) Groups() []fsGroup {
	var groups []fsGroup
	base := d.Base()
	for _, w := range d.Workloads {
		row := ratioRow{Label: w.Name, About: w.About}
		for _, r := range w.Results {
			if ratio := r.Ratios[base]; ratio > 0 && r.Contender != base {
				row.Bars = append(row.Bars, ratioBar{r.Contender, ratio, fmt.Sprintf("%s, %s: %s, %s of %s", w.Name, r.Contender, w.Quantity(r.Summary.Median), Times(ratio), base)})
			}
		}
		if len(row.Bars) == 0 {
			continue
		}
		if len(groups) == 0 || groups[len(groups)-1].Name != w.Group {
			groups = append(groups, fsGroup{w.Group, &ratioPlot{}})
		}
		g := groups[len(groups)-1]
		g.Plot.Rows = append(g.Plot.Rows, row)
	}
	return groups
}

// fsCell is one cell of the page's table.
type fsCell struct{ Value, Spread, Ratios, Why string }

// Cells are those of one workload.
func (d fsPageData) Cells(w WorkloadReport) []fsCell {
	var cells []fsCell
	for _, c := range d.Present() {
		r := w.Result(c.Name)
		switch {
		case r == nil:
			cells = append(cells, fsCell{Value: "–", Why: w.Missing})
		case r.Summary == nil:
			cells = append(cells, fsCell{Value: "–", Why: r.LeftOut + r.Failed})
		default:
			cells = append(cells, fsCell{
				Value:  w.Quantity(r.Summary.Median),
				Spread: fmt.Sprintf("%s … %s", w.Quantity(r.Summary.Min), w.Quantity(r.Summary.Max)),
				Ratios: fmt.Sprintf("%s / %s", orDash(Times(r.Ratios[Plain])), orDash(Times(r.Ratios[Overlayfs]))),
			})
		}
	}
	return cells
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}
