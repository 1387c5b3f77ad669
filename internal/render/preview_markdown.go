package render

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"iothub-runner/internal/preview"
)

// Bounds of a preview in Markdown. A comment on GitHub may have 65,536
// characters, and somebody may want to add a few.
const (
	markdownLimit   = 60_000
	markdownRows    = 50 // that are shown at once; the rest is folded away
	markdownReserve = 2_000
	markdownDevices = 3
	markdownValue   = 120
	markdownCell    = 300
)

// markdown collects a text that stays below the limit.
type markdown struct {
	strings.Builder
	chars int
}

// add appends a piece if it fits beside what must still come.
func (m *markdown) add(text string, reserve int) bool {
	n := utf8.RuneCountInString(text)
	if m.chars+n > markdownLimit-reserve {
		return false
	}
	m.WriteString(text)
	m.chars += n
	return true
}

// PreviewMarkdown writes a forecast as the comment of a pull request. It
// is complete in what it counts, whatever it leaves out.
func PreviewMarkdown(w io.Writer, f *preview.Forecast) error {
	m := &markdown{}
	m.add(markdownHead(f), 0)
	m.add(markdownJobs(f), markdownReserve)
	m.table(f)
	m.add(markdownFoot(f), 0)
	_, err := io.WriteString(w, m.String())
	return err
}

func markdownHead(f *preview.Forecast) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Preview of %s: %s\n\n", code(f.Plan.Name, 64), headline(f))
	fmt.Fprintf(&b, "%s on %s. Nothing was sent. Times are those of a run that starts at %s.\n",
		code(f.Plan.File, 200), hubNames(f.Hubs, func(name string) string { return code(name, 100) }), at(f.CreatedAt))
	for i, warning := range f.Warnings {
		if i == 10 {
			fmt.Fprintf(&b, "\n> and %s\n", Count(len(f.Warnings)-i, "more warning"))
			break
		}
		fmt.Fprintf(&b, "\n> :warning: %s\n", cell(warning))
	}
	return b.String()
}

// maxJobRows is how many jobs the table of totals has.
const maxJobRows = 40

// markdownJobs is the table of totals.
func markdownJobs(f *preview.Forecast) string {
	var b strings.Builder
	b.WriteString("\n| job | does | targets | to change | calls | as wanted | cannot be done | starts | takes at least |\n")
	b.WriteString("|---|---|--:|--:|--:|--:|--:|---|---|\n")
	for i := range f.Jobs {
		if i == maxJobRows {
			fmt.Fprintf(&b, "| and %s | | | | | | | | |\n", Count(len(f.Jobs)-i, "more job"))
			break
		}
		j := &f.Jobs[i]
		starts, takes := markdownTimes(j)
		targets := fmt.Sprint(j.Targets)
		if cutOff(j) {
			targets += " (the limit)"
		}
		fmt.Fprintf(&b, "| %s | %s of %s | %s | %d | %d | %d | %d | %s | %s |\n", code(j.Name, 64), actionText(j), code(j.Target, 120),
			targets, j.Changes, j.Calls, j.Unchanged, j.Failing, starts, takes)
	}
	return b.String()
}

// markdownTimes says when a job starts and how long it takes, in two cells.
func markdownTimes(j *preview.JobForecast) (starts, takes string) {
	if why := j.Stopped + j.Error; why != "" {
		fate := "never"
		if j.Skipped {
			fate = "skipped"
		}
		return "**" + fate + "**: " + cell(why), ""
	}
	starts = at(j.StartsAt)
	if len(j.After) > 0 {
		starts = "after " + needsText(j) + "; " + starts
	}
	if text := wavesText(j); text != "" {
		starts += ", " + text
	}
	if j.EndsAt == nil {
		return cell(starts), "?"
	}
	return cell(starts), Round(j.EndsAt.Sub(j.StartsAt.Time)).String()
}

func markdownFoot(f *preview.Forecast) string {
	text := "\n" + loadText(&f.Summary.Load, f.Hubs) + "."
	if quota := quotaText(&f.Summary.Load); quota != "" {
		text += " " + quota + "."
	}
	if unknownSize(f) {
		text += " How long that takes is not known: the plan does not say `hub.sku` and `hub.units`."
	}
	return text + "\n" + sourceText(f) + "\n"
}

// cell makes a text safe to stand in a cell of a table: it cannot end it, be
// markup, or mention anybody.
func cell(s string) string {
	var b strings.Builder
	for _, r := range Clip(s, markdownCell) {
		switch {
		case r == '@', r == '#':
			// A forge looks for mentions and numbers of issues in what the
			// markup has become; a space of no width hides them from it.
			fmt.Fprintf(&b, "&#%d;&#8203;", r)
		case r == '<':
			b.WriteString("&lt;")
		case r == '&':
			b.WriteString("&amp;")
		case strings.ContainsRune("|\\`*_[]~", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// code shows a text as it is. The fence is longer than any in the text, and in
// a table even code must escape the bar: one that a backslash escapes already
// cannot be told from that, and is shown by other means.
func code(s string, most int) string {
	if strings.Contains(s, "\\|") {
		return "<code>" + cell(Clip(s, min(most, markdownCell))) + "</code>"
	}
	s = strings.ReplaceAll(Clip(s, most), "|", "\\|")
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if len(fence) > 1 {
		s = " " + s + " "
	}
	return fence + s + fence
}

// value shows a value of a property.
func value(s string) string {
	switch s {
	case absent, removed:
		return "*" + s + "*"
	case "": // of a payload, which nothing comes before
		return ""
	}
	return code(s, markdownValue)
}
