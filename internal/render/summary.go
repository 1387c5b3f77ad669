package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"iothub-runner/spec"
)

// Style is what a terminal can show.
type Style struct{ Color bool }

const (
	red   = "\x1b[31m"
	plain = "\x1b[0m"
)

// Summary writes how a run went: what did not go well first, each with its
// count, three devices and what to do, then a line for each job. Again is the
// command that goes on with the run; empty if there is none.
func Summary(w io.Writer, rep *spec.Report, s Style, again string) error {
	return summary(w, rep, s, again, "\nA row for each device: --report FILE, or --report - for here.\n")
}

func summary(w io.Writer, rep *spec.Report, s Style, again, more string) error {
	var b strings.Builder
	for i := range rep.Summary.Causes {
		s.cause(&b, &rep.Summary.Causes[i], again)
	}
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tSTATUS\tTARGETS\tOUTCOMES")
	for i := range rep.Jobs {
		j := &rep.Jobs[i]
		targets := fmt.Sprint(j.Targets)
		if j.Listing == spec.ListingIncomplete {
			targets = "at least " + targets
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", j.Name, j.Status, targets, outcomes(j.Outcomes))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	if len(rep.Summary.Causes) > 0 {
		b.WriteString(more)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// CauseLine is a cause in one line, for who reads no more than that.
func CauseLine(c *spec.Cause) string {
	line := fmt.Sprintf("%s %s in job %s", thousands(c.Count), c.Outcome, c.Job)
	if text := why(c); text != "" {
		line += ": " + text
	}
	names := make([]string, len(c.Devices))
	for i, id := range c.Devices {
		names[i] = Printable(id)
	}
	line += " (" + strings.Join(names, ", ")
	if more := c.Count - len(c.Devices); more > 0 {
		line += fmt.Sprintf(" and %s more", thousands(more))
	}
	return line + ")"
}

// cause is what rows have in common that did not go well.
func (s Style) cause(b *strings.Builder, c *spec.Cause, again string) {
	head := fmt.Sprintf("%d %s in job %s", c.Count, c.Outcome, c.Job)
	if why := why(c); why != "" {
		head += ": " + why
	}
	if s.Color && bad(c.Outcome) {
		head = red + head + plain
	}
	b.WriteString(head + "\n    ")
	for i, id := range c.Devices {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(Printable(id))
	}
	if more := c.Count - len(c.Devices); more > 0 {
		fmt.Fprintf(b, " and %d more", more)
	}
	if hint := Hint(c, again); hint != "" {
		b.WriteString("\n    hint: " + hint)
	}
	b.WriteString("\n\n")
}

func bad(o spec.Outcome) bool {
	return o != spec.OutcomeSkipped && o != spec.OutcomeNotReached && o != spec.OutcomeOffline
}

// why says what the hub or the devices answered.
func why(c *spec.Cause) string {
	if c.Outcome == spec.OutcomeRejected {
		text := fmt.Sprintf("the devices answered status %d", c.Status)
		if len(c.Answer) > 0 {
			text += " " + Printable(oneLine(c.Answer))
		}
		return text
	}
	text := c.Name
	if c.Code != 0 {
		text = strings.TrimSpace(fmt.Sprint(c.Code) + " " + c.Name)
	}
	if c.Message != "" && !strings.Contains(c.Message, "\n") {
		if text != "" {
			text += ", "
		}
		text += cut(Printable(c.Message), longest)
	}
	return text
}

// oneLine writes JSON without the white space that a report is indented with.
func oneLine(text []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return string(text)
	}
	return b.String()
}

// longest is how much of a message is shown.
const longest = 160

func cut(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return text
}

// Hint says what can be done about a cause, with the command that goes on with the run
// if there is one.
func Hint(c *spec.Cause, again string) string {
	switch {
	case again == "":
	case c.Outcome == spec.OutcomeNotReached:
		return "not touched; go on with " + again
	case c.Outcome == spec.OutcomeRejected, c.Outcome == spec.OutcomeOffline:
		return c.Hint + "; then " + again + " --only " + string(c.Outcome)
	}
	return c.Hint
}

// outcomes is "2 succeeded, 1 offline".
func outcomes(all map[spec.Outcome]int) string {
	var parts []string
	for _, o := range spec.Outcomes() {
		if n := all[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	return strings.Join(parts, ", ")
}
