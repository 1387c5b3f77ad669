package fleet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Error is a fleet file that is not valid: everything that was found in it, in
// the order of the file.
type Error struct {
	Findings []Finding
}

// Finding is one thing that is wrong, with its place. Lines and columns count
// from 1, columns in characters.
type Finding struct {
	File   string
	Line   int
	Column int
	Text   string
}

// Error returns the findings, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// String returns the finding as file:line:column: text.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Text)
}

func sortFindings(all []Finding) []Finding {
	slices.SortStableFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return slices.Compact(all) // an alias is read at every use, and finds the same again
}

// nearest returns a hint that names the candidate that s was probably meant to
// be, or an empty string when none is near.
func nearest(s string, candidates []string) string {
	best, bestAt := "", max(len(s)/3, 1)+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d < bestAt {
			best, bestAt = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance counts the single-character edits between two short words.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
