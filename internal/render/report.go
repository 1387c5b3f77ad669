package render

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"iothub-runner/internal/fold"
	"iothub-runner/spec"
)

// Report writes a report in some format.
type Report func(w io.Writer, d spec.Document) error

// ReportFormats are the names of the formats.
func ReportFormats() []string {
	return []string{"text", "json", "html", "markdown", "junit", "csv", "ndjson"}
}

// ReportFormat returns what writes a report in a format; nil for none of this name.
func ReportFormat(name string) Report {
	switch name {
	case "text":
		return reportText
	case "json":
		return func(w io.Writer, d spec.Document) error { return spec.WriteReport(&Escaper{Out: w}, d) }
	case "html":
		return reportHTML
	case "markdown":
		return reportMarkdown
	case "junit":
		return reportJUnit
	case "csv":
		return reportCSV
	case "ndjson":
		return reportNDJSON
	}
	return nil
}

// FormatOf returns the format that the name of a file asks for: json, unless its
// ending is that of another.
func FormatOf(file string) string {
	byEnding := map[string]string{".html": "html", ".htm": "html", ".md": "markdown", ".xml": "junit", ".csv": "csv", ".ndjson": "ndjson"}
	if format := byEnding[strings.ToLower(filepath.Ext(file))]; format != "" {
		return format
	}
	return "json"
}

// Verdict says in a sentence how a run went.
func Verdict(rep *spec.Report) string {
	n := rep.Summary.Targets
	bad := BadOutcomes(rep.Summary.Outcomes)
	all, missed := thousands(n)+" target"+plural(n), 0
	for o, k := range rep.Summary.Outcomes {
		if !Good(o) {
			missed += k
		}
	}
	switch rep.Run.Status {
	case spec.StatusSucceeded:
		if bad != "" {
			return fmt.Sprintf("Succeeded: %s, of which the plan tolerates %s.", all, bad)
		}
		return fmt.Sprintf("Succeeded: %s as wanted.", all)
	case spec.StatusDetached:
		return fmt.Sprintf("Detached: the hub goes on by itself with %s.", all)
	case spec.StatusUnfinished:
		return fmt.Sprintf("Unfinished: the run is still going on, or was killed. So far %s.", Tally(n, rep.Summary.Outcomes))
	case spec.StatusFailed, spec.StatusStopped, spec.StatusInterrupted, spec.StatusNotStarted, spec.StatusSkipped:
	}
	head := strings.ToUpper(string(rep.Run.Status[:1])) + string(rep.Run.Status[1:])
	if bad != "" {
		return fmt.Sprintf("%s: %s of %s did not go well (%s).", head, thousands(missed), all, bad)
	}
	if jobs := MissedJobs(rep); jobs != "" {
		return fmt.Sprintf("%s: %s.", head, jobs)
	}
	return head + "."
}

// Took is how long a run took, for people; empty if that is not known.
func Took(rep *spec.Report) string {
	if rep.Run.EndedAt.Before(rep.Run.StartedAt.Time) {
		return ""
	}
	// As the report has them, so that it says the same of a run and of its report.
	return Round(rep.Run.EndedAt.Truncate(time.Millisecond).Sub(rep.Run.StartedAt.Truncate(time.Millisecond))).String()
}

func reportText(w io.Writer, d spec.Document) error {
	rep := d.Head()
	_, err := fmt.Fprintf(w, "%s\nRun %s of plan %s on hub %s, at %s, in %s\n\n", Printable(Verdict(rep)), Printable(rep.Run.ID), Printable(rep.Run.Plan.Name), Printable(rep.Run.Hub), at(rep.Run.StartedAt), Took(rep))
	if err != nil {
		return err
	}
	return summary(w, rep, Style{}, "", "")
}

// eachRow yields the rows of all jobs.
func eachRow(d spec.Document, yield func(job *spec.JobReport, row []byte) error) error {
	rep := d.Head()
	for i := range rep.Jobs {
		if err := d.Rows(i, func(row []byte) error { return yield(&rep.Jobs[i], row) }); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a row.
func decode(text []byte) (*spec.Row, error) {
	row := &spec.Row{}
	if err := json.Unmarshal(text, row); err != nil {
		return nil, fmt.Errorf("read a row of the report: %w", err)
	}
	return row, nil
}

// target is how people write who a row is of.
func targetOf(row *spec.Row) string {
	return spec.DeviceID{Device: row.DeviceID, Module: row.ModuleID}.String()
}

// say is what a row says of why it ended so, in a few words.
func say(row *spec.Row) string {
	switch {
	case row.Error != nil && row.Method == nil:
		text := row.Error.Message
		if row.Error.Code != 0 {
			text = strings.TrimSpace(fmt.Sprintf("%d %s %s", row.Error.Code, row.Error.Name, text))
		}
		return text
	case row.Method != nil:
		text := fmt.Sprintf("status %d", row.Method.Status)
		if len(row.Method.Payload) > 0 && string(row.Method.Payload) != "null" {
			text += " " + string(row.Method.Payload)
		}
		if row.Error != nil && row.Outcome != spec.OutcomeRejected {
			text += "; " + row.Error.Message
		}
		return text
	case row.Twin != nil && row.Twin.Patch != nil:
		return sectionsText(row.Twin.Patch)
	case row.Outcome == spec.OutcomeNotReached:
		return "the run ended first"
	}
	return ""
}

// RowLine is a row in one line, for people.
func RowLine(text []byte) string {
	row, err := decode(text)
	if err != nil {
		return ""
	}
	line := fmt.Sprintf("%s %s", targetOf(row), row.Outcome)
	if row.Hub != "" {
		line = fmt.Sprintf("%s on %s %s", targetOf(row), row.Hub, row.Outcome)
	}
	if why := say(row); why != "" {
		line += ": " + cut(why, longest)
	}
	return Printable(line)
}

func sectionsText(s *spec.Sections) string {
	var parts []string
	if len(s.Desired) > 0 {
		parts = append(parts, "desired "+string(s.Desired))
	}
	if len(s.Tags) > 0 {
		parts = append(parts, "tags "+string(s.Tags))
	}
	return strings.Join(parts, ", ")
}

// took is how long a row took; 0 for one that nothing was done for.
func took(row *spec.Row) time.Duration {
	if row.StartedAt == nil || row.EndedAt == nil {
		return 0
	}
	return row.EndedAt.Sub(row.StartedAt.Time)
}

// reportNDJSON writes a line for the run, for each job and for each row, and the
// summary last.
func reportNDJSON(w io.Writer, d spec.Document) error {
	rep := d.Head()
	out := NewEvents(w)
	out.Run(&rep.Run)
	for i := range rep.Jobs {
		job := rep.Jobs[i]
		err := d.Rows(i, func(row []byte) error { return out.Row(job.Name, row) })
		if err != nil {
			return err
		}
		out.Job(&job)
	}
	return out.End(rep)
}

// wellDone tells whether the rows with an outcome need no look.
func wellDone(o spec.Outcome) bool { return fold.WentWell(o) || o == spec.OutcomeSkipped }

// outcomesInOrder are those that there are, the ones that did not go well first.
func outcomesInOrder(all map[spec.Outcome]int) []spec.Outcome {
	var some []spec.Outcome
	for _, o := range spec.Outcomes() {
		if all[o] > 0 {
			some = append(some, o)
		}
	}
	slices.SortStableFunc(some, func(a, b spec.Outcome) int {
		switch {
		case wellDone(a) == wellDone(b):
			return 0
		case wellDone(b):
			return -1
		}
		return 1
	})
	return some
}
