package main

import (
	"fmt"
	"strings"
	"time"
)

// results is what a run found, as Markdown for an issue: what does not hold
// first, for it is what somebody has to change.
type results struct {
	hub     string // its name, which the report does not tell
	at      time.Time
	skipped []Assumption
	found   []Finding
}

func (r *results) String() string {
	var b strings.Builder
	held, wrong, failed := r.sorted()
	fmt.Fprintf(&b, "# Assumptions, checked on %s\n\n%d hold, %d do not hold, %d could not be checked, %d were left out.\n",
		r.at.UTC().Format("2006-01-02"), len(held), len(wrong), len(failed), len(r.skipped))
	r.section(&b, "What does not hold", wrong, func(f Finding) string {
		return cell(f.Seen) + " | " + cell(f.Expect) + f.advice()
	}, "Seen | Expected")
	r.section(&b, "What could not be checked", failed, func(f Finding) string { return cell(f.Err.Error()) }, "Why")
	r.section(&b, "What holds", held, func(f Finding) string { return cell(f.Seen) }, "Seen")
	if len(r.skipped) > 0 {
		b.WriteString("\n## What was left out\n\n")
		for _, a := range r.skipped {
			fmt.Fprintf(&b, "- %s: %s (%s)\n", a.ID, a.Says, a.Disturbs)
		}
	}
	if r.hub == "" {
		return b.String()
	}
	return strings.ReplaceAll(b.String(), r.hub, "HUB")
}

func (r *results) sorted() (held, wrong, failed []Finding) {
	for _, f := range r.found {
		switch {
		case f.Err != nil:
			failed = append(failed, f)
		case f.Holds():
			held = append(held, f)
		default:
			wrong = append(wrong, f)
		}
	}
	return held, wrong, failed
}

func (r *results) section(b *strings.Builder, title string, list []Finding, more func(Finding) string, columns string) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n| Id | Statement | %s |\n|---|---%s|\n", title, columns, strings.Repeat("|---", strings.Count(columns, "|")+1))
	for _, f := range list {
		fmt.Fprintf(b, "| %s | %s | %s |\n", f.ID, f.Says, more(f))
	}
}

// cell makes a text fit for a cell of a table.
func cell(s string) string {
	return "`" + strings.NewReplacer("|", "\\|", "`", "'", "\n", " ").Replace(s) + "`"
}
