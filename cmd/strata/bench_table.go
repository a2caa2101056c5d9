package main

import (
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"strata/bench"
)

// printFSReport shows for people what was measured.
func (p *program) printFSReport(r *bench.FSReport, against string, targets bool) error {
	if err := p.println(strings.Join(r.Facts(), "\n") + "\n"); err != nil {
		return err
	}
	if err := p.printTable(fsTable(r, against)); err != nil {
		return err
	}
	if r.Rough() {
		if err := p.println("~ half of the measurements differ by more than a quarter of the median"); err != nil {
			return err
		}
	}
	for _, note := range r.Notes() {
		if err := p.println(note); err != nil {
			return err
		}
	}
	if !targets {
		return nil
	}
	if err := p.println(""); err != nil {
		return err
	}
	return p.printTable(targetTable(r))
}

// fsTable has a row for each workload and a column for each contender.
func fsTable(r *bench.FSReport, against string) table.Writer {
	header := []any{"WORKLOAD", "PER"}
	var names []string
	for _, c := range r.Contenders {
		if c.Missing == "" {
			names = append(names, c.Name)
			header = append(header, strings.ToUpper(c.Name))
		}
	}
	t := newTable(header...)
	for _, w := range r.Workloads {
		per := w.Unit
		if w.Figure {
			per = ""
		}
		row := []any{w.Name, per}
		for _, name := range names {
			row = append(row, fsCell(&w, name, against))
		}
		t.AppendRow(row)
	}
	return t
}

func fsCell(w *bench.WorkloadReport, contender, against string) string {
	r := w.Result(contender)
	switch {
	case r == nil || r.LeftOut != "":
		return "-"
	case r.Failed != "":
		return "failed"
	}
	cell := w.Quantity(r.Summary.Median)
	if r.Summary.Rough() {
		cell = "~" + cell
	}
	if times := bench.Times(r.Ratios[against]); times != "" && contender != against {
		cell += " " + times
	}
	return cell
}

func targetTable(r *bench.FSReport) table.Writer {
	t := newTable("WANTED", "", "OF", "IS", "", "FLOOR", "ABOVE IT")
	for _, g := range r.Targets {
		met := "met"
		if !g.Met {
			met = "NOT MET"
		}
		floor := ""
		if g.Floor > 0 {
			floor = g.Show(g.Floor)
		}
		t.AppendRow([]any{g.Work, g.Wanted, g.Contender, g.Show(g.Value), met, floor, bench.Times(g.Above)})
	}
	return t
}
