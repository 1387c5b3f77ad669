package render

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"

	"iothub-runner/spec"
)

// junitCases is up to how many devices of a job each has a case of its own.
const junitCases = 5000

// junit writes a report as test systems read it: a suite for each job, a case for each
// device. A device that said no is a failure; one that was not reached, or of which
// nobody knows, is an error. What the plan tolerates is skipped, so that the tests are
// green where the job is.
type junit struct {
	out *bufio.Writer
	rep *spec.Report
}

// verdicts of a case.
const (
	junitPassed  = ""
	junitFailure = "failure"
	junitError   = "error"
	junitSkipped = "skipped"
)

func reportJUnit(w io.Writer, d spec.Document) error {
	j := &junit{out: bufio.NewWriterSize(w, 64<<10), rep: d.Head()}
	tests := counts{}
	suites := make([]counts, len(j.rep.Jobs))
	for i := range j.rep.Jobs {
		suites[i] = j.count(&j.rep.Jobs[i])
		tests.add(suites[i])
	}
	fmt.Fprintf(j.out, "%s<testsuites name=%s tests=\"%d\" failures=\"%d\" errors=\"%d\" time=\"%s\">\n", xml.Header,
		attr(j.rep.Run.Plan.Name), tests.tests, tests.failures, tests.errors, seconds(j.rep.Run.EndedAt.Sub(j.rep.Run.StartedAt.Time)))
	for i := range j.rep.Jobs {
		if err := j.suite(d, i, suites[i]); err != nil {
			return err
		}
	}
	fmt.Fprintln(j.out, "</testsuites>")
	if err := j.out.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// counts are those of a suite, which stand before its cases.
type counts struct{ tests, failures, errors, skipped int }

func (c *counts) add(other counts) {
	c.tests += other.tests
	c.failures += other.failures
	c.errors += other.errors
	c.skipped += other.skipped
}

func (c *counts) tally(verdict string, n int) {
	c.tests += n
	switch verdict {
	case junitFailure:
		c.failures += n
	case junitError:
		c.errors += n
	case junitSkipped:
		c.skipped += n
	}
}

// count counts the cases of a job.
func (j *junit) count(job *spec.JobReport) (c counts) {
	for o, n := range job.Outcomes {
		if verdict := verdictOf(job, o); verdict != junitPassed || !junitBrief(job) {
			c.tally(verdict, n)
		}
	}
	c.tests += len(goodCases(job))
	c.tally(ownVerdict(job), 1)
	return c
}

// junitBrief tells whether a job has too many devices for a case of each that went well.
func junitBrief(job *spec.JobReport) bool { return job.Targets > junitCases }

func verdictOf(job *spec.JobReport, o spec.Outcome) string {
	switch o {
	case spec.OutcomeSucceeded, spec.OutcomeUnchanged:
		return junitPassed
	case spec.OutcomeSkipped:
		return junitSkipped
	case spec.OutcomeRejected, spec.OutcomeFailed, spec.OutcomeOffline, spec.OutcomeUnanswered, spec.OutcomeUnconfirmed, spec.OutcomeNotReached:
	}
	switch {
	case job.Status == spec.StatusSucceeded: // the plan tolerates it
		return junitSkipped
	case o == spec.OutcomeRejected || o == spec.OutcomeUnconfirmed:
		return junitFailure
	}
	return junitError
}

// ownVerdict is that of the case for the job itself: it may have missed its criteria
// without a device that did.
func ownVerdict(job *spec.JobReport) string {
	switch job.Status {
	case spec.StatusSucceeded, spec.StatusDetached:
		return junitPassed
	case spec.StatusSkipped:
		return junitSkipped
	case spec.StatusFailed:
		return junitFailure
	case spec.StatusStopped, spec.StatusInterrupted, spec.StatusNotStarted, spec.StatusUnfinished:
	}
	return junitError
}

// goodCase stands for many devices that went well.
type goodCase struct {
	name string
	n    int
	took time.Duration
}

// goodCases are those of a job with very many devices: one for each wave.
func goodCases(job *spec.JobReport) (all []goodCase) {
	if !junitBrief(job) {
		return nil
	}
	for _, w := range job.Waves {
		n := w.Outcomes[spec.OutcomeSucceeded] + w.Outcomes[spec.OutcomeUnchanged]
		c := goodCase{name: "wave " + w.Wave, n: n}
		if w.Hub != "" {
			c.name += " on " + w.Hub
		}
		if w.StartedAt != nil && w.EndedAt != nil {
			c.took = w.EndedAt.Sub(w.StartedAt.Time)
		}
		if n > 0 {
			all = append(all, c)
		}
	}
	if n := job.Outcomes[spec.OutcomeSucceeded] + job.Outcomes[spec.OutcomeUnchanged]; len(job.Waves) == 0 && n > 0 {
		all = append(all, goodCase{name: "all that went well", n: n})
	}
	return all
}

func (j *junit) suite(d spec.Document, i int, c counts) error {
	job := &j.rep.Jobs[i]
	took, when := time.Duration(0), job.ScheduledAt
	if job.StartedAt != nil {
		when = *job.StartedAt
		if job.EndedAt != nil {
			took = job.EndedAt.Sub(job.StartedAt.Time)
		}
	}
	fmt.Fprintf(j.out, "  <testsuite name=%s tests=\"%d\" failures=\"%d\" errors=\"%d\" skipped=\"%d\" time=\"%s\" timestamp=\"%s\" hostname=%s>\n",
		attr(job.Name), c.tests, c.failures, c.errors, c.skipped, seconds(took), when.UTC().Format("2006-01-02T15:04:05"), attr(j.rep.Run.Hub))
	j.testCase(job, "job "+job.Name, ownVerdict(job), string(job.Status), job.Reason, took)
	for _, g := range goodCases(job) {
		j.testCase(job, g.name+": "+Count(g.n, "device"), junitPassed, "", "", g.took)
	}
	err := d.Rows(i, func(text []byte) error {
		row, err := decode(text)
		if err != nil {
			return err
		}
		verdict := verdictOf(job, row.Outcome)
		if verdict == junitPassed && junitBrief(job) {
			return nil
		}
		name := targetOf(row)
		if row.Hub != "" {
			name += " on " + row.Hub
		}
		j.testCase(job, name, verdict, string(row.Outcome), say(row), timeOf(row))
		return nil
	})
	fmt.Fprintln(j.out, "  </testsuite>")
	return err
}

func timeOf(row *spec.Row) time.Duration { return max(0, took(row)) }

func (j *junit) testCase(job *spec.JobReport, name, verdict, kind, message string, took time.Duration) {
	fmt.Fprintf(j.out, "    <testcase classname=%s name=%s time=\"%s\"", attr(j.rep.Run.Plan.Name+"."+job.Name), attr(name), seconds(took))
	switch verdict {
	case junitPassed:
		fmt.Fprintln(j.out, "/>")
	case junitSkipped:
		fmt.Fprintf(j.out, "><skipped message=%s/></testcase>\n", attr(strings.TrimSpace(kind+" "+message)))
	default:
		fmt.Fprintf(j.out, "><%s type=%s message=%s/></testcase>\n", verdict, attr(kind), attr(message))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", max(0, d).Seconds()) }

// attr writes an attribute of XML. What XML cannot have is replaced.
func attr(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	_ = xml.EscapeText(&b, []byte(Printable(text))) // a Builder takes everything
	b.WriteByte('"')
	return b.String()
}
