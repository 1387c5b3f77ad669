package render

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"iothub-runner/spec"
)

// errEnough ends the rows of a document early.
var errEnough = errors.New("no more rows are shown")

// reportMarkdown writes a report for the summary of a CI job or a comment on a pull
// request: how it went, why, and the first rows that did not go well.
func reportMarkdown(w io.Writer, d spec.Document) error {
	rep, m := d.Head(), &markdown{}
	m.add(reportHead(rep), 0)
	m.causes(rep)
	if err := m.missed(d); err != nil {
		return err
	}
	_, err := io.WriteString(w, m.String())
	return err
}

func reportHead(rep *spec.Report) string {
	var b strings.Builder
	mark := map[spec.Status]string{spec.StatusSucceeded: "✅", spec.StatusDetached: "⏳", spec.StatusUnfinished: "⏳"}[rep.Run.Status]
	if mark == "" {
		mark = "❌"
	}
	fmt.Fprintf(&b, "## %s %s: %s\n\n", mark, code(rep.Run.Plan.Name, 64), cell(Verdict(rep)))
	fmt.Fprintf(&b, "Run %s on hub %s, %s", code(rep.Run.ID, 100), code(rep.Run.Hub, 300), at(rep.Run.StartedAt))
	if text := Took(rep); text != "" {
		b.WriteString(", in " + text)
	}
	b.WriteString(".\n\n| Job | Status | Targets | Outcomes |\n|---|---|---:|---|\n")
	for i := range rep.Jobs {
		if i == markdownRows {
			fmt.Fprintf(&b, "| and %s | | | |\n", Count(len(rep.Jobs)-i, "more job"))
			break
		}
		j := &rep.Jobs[i]
		targets := fmt.Sprint(j.Targets)
		if j.Listing == spec.ListingIncomplete {
			targets = "at least " + targets
		}
		status := string(j.Status)
		if j.Reason != "" {
			status += ": " + cell(Clip(j.Reason, markdownCell))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", code(j.Name, 64), status, targets, OutcomeList(j.Outcomes))
	}
	return b.String()
}

// causes adds what went wrong.
func (m *markdown) causes(rep *spec.Report) {
	if len(rep.Summary.Causes) == 0 {
		return
	}
	m.add("\n### What did not go well\n\n| Devices | Outcome | Job | Why | What to do | For example |\n|---:|---|---|---|---|---|\n", markdownReserve)
	for i := range rep.Summary.Causes {
		c := &rep.Summary.Causes[i]
		devices := make([]string, len(c.Devices))
		for k, id := range c.Devices {
			devices[k] = code(id, 128)
		}
		row := fmt.Sprintf("| %d | %s | %s | %s | %s | %s |\n", c.Count, c.Outcome, code(c.Job, 64), cell(Clip(why(c), markdownCell)), cell(c.Hint), strings.Join(devices, ", "))
		if !m.add(row, markdownReserve) {
			break
		}
	}
	if more := rep.Summary.MoreCauses; more != nil {
		m.add(fmt.Sprintf("\nand %s, of %s\n", Count(more.Causes, "more cause"), Count(more.Targets, "device")), 0)
	}
}

// missed adds the first rows that did not go well.
func (m *markdown) missed(d spec.Document) error {
	shown, left := 0, 0
	rep := d.Head()
	for o, n := range rep.Summary.Outcomes {
		if !wellDone(o) {
			left += n
		}
	}
	if left == 0 {
		return nil
	}
	m.add(fmt.Sprintf("\n<details><summary>The first of %s that did not go well</summary>\n\n| Device | Job | Outcome | Attempts | Why |\n|---|---|---|---:|---|\n", Count(left, "device")), markdownReserve)
	err := eachRow(d, func(job *spec.JobReport, text []byte) error {
		if shown == markdownRows {
			return errEnough
		}
		row, err := decode(text)
		if err != nil || wellDone(row.Outcome) {
			return err
		}
		name := code(targetOf(row), 128)
		if row.Hub != "" {
			name += " on " + code(row.Hub, 100)
		}
		line := fmt.Sprintf("| %s | %s | %s | %d | %s |\n", name, code(job.Name, 64), row.Outcome, row.Attempts, cell(Clip(say(row), markdownCell)))
		if !m.add(line, markdownReserve) {
			return errEnough
		}
		shown++
		return nil
	})
	m.add("\n</details>\n", 0)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}
