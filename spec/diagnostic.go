package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Severity says whether a finding stops the plan.
type Severity string

// The severities. A plan with warnings alone is valid.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Diagnostic is one finding in a plan. Its texts never hold a secret of the
// plan: what looks like one stands as asterisks, of the same length so that
// the columns stay true.
type Diagnostic struct {
	File      string
	Pos       Pos
	EndColumn int // one past the last column of the thing found; 0 if unknown
	Rule      Rule
	Severity  Severity
	Summary   string // what is wrong with this value
	Hint      string // what would be accepted; may be empty
	Source    string // the line of the plan at Pos, fit for a terminal; of a long line the part around Pos

	Shift int // how many columns of the line Source leaves out at its start
}

// String renders the finding as people read it: a line that editors can jump
// to, the source line with a caret, and a hint.
func (d Diagnostic) String() string {
	var b strings.Builder
	b.WriteString(d.headline())
	if d.Source != "" {
		gutter := fmt.Sprintf("%4d | ", d.Pos.Line)
		fmt.Fprintf(&b, "\n%s%s\n%s| %s", gutter, d.Source, strings.Repeat(" ", len(gutter)-2),
			caret(d.Source, d.Pos.Column-d.Shift, d.EndColumn-d.Shift))
	}
	if d.Hint != "" {
		b.WriteString("\nhint: " + d.Hint)
	}
	return b.String()
}

func (d Diagnostic) headline() string {
	summary := d.Summary
	if d.Severity == SeverityWarning {
		summary = "warning: " + summary
	}
	if d.Pos.Line == 0 {
		return fmt.Sprintf("%s: %s: %s", d.File, d.Rule, summary)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", d.File, d.Pos.Line, d.Pos.Column, d.Rule, summary)
}

// Diagnostics are the findings of one plan, sorted by position.
type Diagnostics []Diagnostic

// HasErrors tells whether the plan is invalid.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == SeverityError })
}

// Count returns the number of errors and of warnings.
func (ds Diagnostics) Count() (errors, warnings int) {
	for _, d := range ds {
		if d.Severity == SeverityError {
			errors++
		}
	}
	return errors, len(ds) - errors
}

// Strict returns the findings with every warning made an error.
func (ds Diagnostics) Strict() Diagnostics {
	strict := slices.Clone(ds)
	for i := range strict {
		strict[i].Severity = SeverityError
	}
	return strict
}

// String renders all findings, one paragraph each.
func (ds Diagnostics) String() string {
	var b strings.Builder
	for _, d := range ds {
		b.WriteString(d.String() + "\n")
	}
	return b.String()
}

// Tidy sorts the findings, those in the plan before those in files that it
// names, and drops those that say the same twice, as happens
// where an alias shows one faulty text in several places.
func (ds Diagnostics) Tidy(plan string) Diagnostics {
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		if inPlan := a.File == plan; inPlan != (b.File == plan) {
			if inPlan {
				return -1
			}
			return 1
		}
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Pos.Line, b.Pos.Line),
			cmp.Compare(a.Pos.Column, b.Pos.Column),
			cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Summary, b.Summary),
		)
	})
	return slices.Compact(ds)
}

// Columns of a source line that are shown, and how many of them before the
// caret when the line is longer.
const (
	windowWidth = 120
	windowLead  = 60
)

// Excerpt cuts a long line down to the part around a column, and returns how
// many columns it left out at the start.
func Excerpt(line string, column int) (part string, shift int) {
	if utf8.RuneCountInString(line) <= windowWidth {
		return line, 0
	}
	runes := []rune(line)
	from := max(0, column-1-windowLead)
	to := min(len(runes), from+windowWidth)
	part = string(runes[from:to])
	if to < len(runes) {
		part += "…"
	}
	if from > 0 {
		part, from = "…"+part, from-1
	}
	return part, from
}

// caret underlines the columns from column up to end. Tabs before it are
// copied, so that the caret stands right whatever a tab's width is.
func caret(text string, column, end int) string {
	var b strings.Builder
	runes := []rune(text)
	for i := range column - 1 {
		if i < len(runes) && runes[i] == '\t' {
			b.WriteByte('\t')
			continue
		}
		b.WriteByte(' ')
	}
	b.WriteByte('^')
	if n := min(end, len(runes)+1) - column - 1; n > 0 {
		b.WriteString(strings.Repeat("~", n))
	}
	return b.String()
}

// Printable replaces what could steer a terminal or hide text: control
// characters, and format characters such as those that reverse a line.
func Printable(line string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, line)
}

// Clip shortens a value for a message.
func Clip(s string) string {
	const most = 60
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	return string(runes[:most-1]) + "…"
}
