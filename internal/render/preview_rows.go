package render

import (
	"fmt"
	"slices"
	"strings"

	"iothub-runner/internal/preview"
)

// What a preview in Markdown shows of the devices: a table with some rows
// for each group of them.

// rowGroup is the rows of a bundle: who is in it, and a row for each property.
type rowGroup struct {
	job   int
	fails bool
	who   string
	rows  []string
	open  int // how many of the rows are not folded away
}

// markdownFails is how many of the rows in the open may be of devices for which
// nothing can be sent.
const markdownFails = markdownRows / 2

// rowGroups chooses what the table shows: what cannot be done, then the first
// bundle of every job, the second and so on, because a large job must not hide
// the others. More than can ever be shown is not chosen; total counts it all the
// same. What fails comes first, the rest in the order of the plan.
func rowGroups(f *preview.Forecast) (all []*rowGroup, total int) {
	chosen, open := 0, 0
	choose := func(job int, b *bundle, most int) {
		if chosen > markdownLimit/50 {
			return
		}
		g := newRowGroup(&f.Jobs[job], b)
		g.job = job
		g.open = min(len(g.rows), max(0, most-open))
		chosen, open = chosen+len(g.rows), open+g.open
		all = append(all, g)
	}
	jobs, deepest := make([][]bundle, len(f.Jobs)), 0
	for i := range f.Jobs {
		jobs[i] = bundles(f.Jobs[i].Groups)
		deepest = max(deepest, len(jobs[i]))
		for k := range jobs[i] {
			b := &jobs[i][k]
			total += rowsOf(b)
			if b.fails() {
				choose(i, b, markdownFails)
			}
		}
	}
	for k := range deepest {
		for i := range jobs {
			if k < len(jobs[i]) && !jobs[i][k].fails() && rowsOf(&jobs[i][k]) > 0 {
				choose(i, &jobs[i][k], markdownRows)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *rowGroup) int {
		switch {
		case a.fails == b.fails:
			return a.job - b.job
		case a.fails:
			return -1
		}
		return 1
	})
	return all, total
}

// maxProperties is how many of the properties that a bundle changes have a row.
const maxProperties = 50

func (b *bundle) fails() bool { return len(b.errors.list) > 0 }

// rowsOf is how many rows a bundle has.
func rowsOf(b *bundle) int {
	properties := min(len(b.parts), maxProperties+1)
	switch {
	case b.unchanged: // the totals count them
		return 0
	case b.fails(), b.call != nil && !b.various:
		return 1
	case b.call != nil:
		return 1 + properties
	}
	return properties
}

func newRowGroup(j *preview.JobForecast, b *bundle) *rowGroup {
	var named []string
	for _, d := range b.devices[:min(markdownDevices, len(b.devices))] {
		named = append(named, code(d, markdownCell))
	}
	devices := strings.Join(named, ", ")
	if more := b.count - len(named); more > 0 {
		devices += fmt.Sprintf(" and %d more", more)
	}
	g := &rowGroup{fails: b.fails(), who: fmt.Sprintf("| %s | %d | %s |", code(j.Name, 64), b.count, devices)}
	switch {
	case g.fails:
		g.rows = []string{" **cannot be done** | | " + b.errors.text(cell) + " |\n"}
		return g
	case b.call != nil && !b.various:
		payload := "no payload"
		if b.call.Payload != nil {
			payload = code(plainJSON(string(b.call.Payload)), 300)
		}
		g.rows = []string{fmt.Sprintf(" call %s | | %s; %s |\n", code(b.call.MethodName, 100), payload, timeoutText(b.call))}
		return g
	case b.call != nil:
		g.rows = []string{fmt.Sprintf(" call %s | | a payload for each device; %s |\n", code(b.call.MethodName, 100), timeoutText(b.call))}
	}
	for i, part := range b.parts {
		if i == maxProperties {
			g.rows = append(g.rows, fmt.Sprintf(" and %s | | |\n", properties(len(b.parts)-i)))
			break
		}
		g.rows = append(g.rows, fmt.Sprintf(" %s | %s | %s |\n", code(part.path, markdownValue), part.before.text(value), part.after.text(value)))
	}
	return g
}

const tableHead = "\n| job | devices | which | what | is | becomes |\n|---|--:|---|---|---|---|\n"

// table writes the first rows in the open and as many of the others as fit
// folded away.
func (m *markdown) table(f *preview.Forecast) {
	all, rows := rowGroups(f)
	if rows == 0 {
		m.add("\nNo device would get anything.\n", markdownReserve)
		return
	}
	m.add(tableHead, markdownReserve)
	shown := 0
	for _, g := range all {
		n := m.rows(g, g.rows[:g.open])
		g.rows = g.rows[n:] // what is in the open no more needs a place
		shown += n
	}
	rest := rows - shown
	if rest == 0 {
		return
	}
	m.add(fmt.Sprintf("\n<details><summary>%s</summary>\n\n%s", Count(rest, "more row"), strings.TrimPrefix(tableHead, "\n")), 0)
	for _, g := range all {
		n := m.rows(g, g.rows)
		rest -= n
		if n < len(g.rows) {
			break
		}
	}
	m.add("\n</details>\n", 0)
	if rest > 0 {
		m.add(fmt.Sprintf("\nThe comment has no room for %d of them; `--format json` shows them all.\n", rest), 0)
	}
}

// rows writes rows of a group, the first of them with who it is about, and
// returns how many there was room for.
func (m *markdown) rows(g *rowGroup, rows []string) int {
	for i, row := range rows {
		who := "| | | |"
		if i == 0 {
			who = g.who
		}
		if !m.add(who+row, markdownReserve) {
			return i
		}
	}
	return len(rows)
}
