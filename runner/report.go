package runner

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/inputs"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// report returns the job's part of the report, less its rows.
func (j *jobRun) report() spec.JobReport {
	l, job := j.ledger, j.job()
	rep := spec.JobReport{
		Name: job.Name, Type: job.Type, Target: job.Target.Text, Status: j.status,
		ScheduledAt: spec.Time{Time: j.dueAt()},
		StartedAt:   optionalTime(j.startedAt), EndedAt: optionalTime(j.endedAt),
		Targets: l.roster.Cohort.Size(), Outcomes: map[spec.Outcome]int{},
		Attempts: l.attempts, Retries: l.retries, RatePerSecond: j.ratePerSecond(),
		LatencyMs: spec.Latency{
			P50: l.quantile(50), P90: l.quantile(90), P99: l.quantile(99), Max: milliseconds(l.latency.Max()),
		},
		Waves: j.engine.waves(j.reason), Devices: []spec.Row{},
	}
	if l.byHub() {
		rep.Engine = job.Engine
	}
	if job.Confirm != nil && l.applied.TotalCount() > 0 {
		rep.TimeToApplyMs = &spec.Latency{
			P50: l.applied.ValueAtQuantile(50), P90: l.applied.ValueAtQuantile(90), P99: l.applied.ValueAtQuantile(99), Max: l.applied.Max(),
		}
	}
	if j.reason != nil {
		rep.Reason = j.reason.Error()
	}
	if (!l.whole || l.unseen() != "") && j.status != spec.StatusSkipped {
		rep.Listing = spec.ListingIncomplete
	} else if l.listedHere {
		idle := l.roster.IdleExclusions()
		rep.IdleExclusions = idle[:min(len(idle), maxIdle)]
	}
	for i, o := range spec.Outcomes() {
		if n := l.counters.outcomes[i].Load(); n > 0 {
			rep.Outcomes[o] = int(n)
		}
	}
	return rep
}

// maxIdle bounds the exclusions that a report names.
const maxIdle = 100

// dueAt is when the job was due; for one that had begun in an earlier run, then.
func (j *jobRun) dueAt() time.Time {
	switch {
	case j.ledger.past == nil || !j.ledger.past.begun:
		return j.scheduledAt
	case j.firstDue.IsZero():
		return j.ledger.past.startedAt
	}
	return j.firstDue
}

// ratePerSecond is what the job kept up since it was started, or resumed if it
// had anything to do then.
func (j *jobRun) ratePerSecond() float64 {
	made, since := j.ledger.attempts-j.ledger.before, j.resumedAt
	if made == 0 {
		made, since = j.ledger.attempts, j.startedAt
	}
	took := j.endedAt.Sub(since).Seconds()
	if since.IsZero() || took <= 0 {
		return 0
	}
	return math.Round(float64(made)/took*10) / 10
}

func (l *ledger) quantile(q float64) int64 { return milliseconds(l.latency.ValueAtQuantile(q)) }

func milliseconds(us int64) int64 { return (time.Duration(us) * time.Microsecond).Milliseconds() }

func optionalTime(t time.Time) *spec.Time {
	if t.IsZero() {
		return nil
	}
	return &spec.Time{Time: t}
}

// Report returns the report of an ended run, less its rows.
func (r *Run) Report(exitCode int) spec.Report {
	rep := spec.Report{
		Schema: spec.ReportSchema,
		Run: spec.Run{
			ID:   r.id,
			Plan: spec.PlanRef{Name: r.plan.Name, File: r.plan.File, SHA256: r.plan.SHA256, Inputs: r.inputs()},
			Hub:  r.hubNames(), Engine: string(r.engine()), Runner: r.runner,
			StartedAt: spec.Time{Time: r.startedAt}, EndedAt: spec.Time{Time: r.endedAt},
			Status: r.Status(), ExitCode: exitCode, Rehearsal: r.asIf,
		},
		Summary: spec.Summary{Outcomes: map[spec.Outcome]int{}},
	}
	if shard := r.shard; shard.Of > 1 {
		rep.Run.Shard = &shard
	}
	if r.cause != nil {
		rep.Run.Reason = r.cause.Error()
	}
	for _, p := range r.pools {
		waited := p.Pacer.Waited()
		rep.Summary.ThrottledMs += waited.Refused.Milliseconds()
		rep.Summary.PacedMs += waited.Published.Milliseconds()
	}
	for _, j := range r.jobs {
		job := j.report()
		rep.Jobs = append(rep.Jobs, job)
		rep.Summary.Targets += job.Targets
		rep.Summary.Attempts += job.Attempts
		rep.Summary.Retries += job.Retries
		for o, n := range job.Outcomes {
			rep.Summary.Outcomes[o] += n
		}
	}
	r.grouped.Do(func() { r.causes = causesOf(r) })
	rep.Summary.Causes, rep.Summary.Hubs = r.causes, r.hubReports()
	return rep
}

// hubNames names the hubs of the run.
func (r *Run) hubNames() string {
	names := make([]string, len(r.pools))
	for i, p := range r.pools {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// inputs are those of the run that was begun: this one may do a part of it.
func (r *Run) inputs() *spec.Inputs {
	if r.past != nil {
		return r.past.Inputs()
	}
	in := inputs.Of(r.plan)
	if r.pinned != nil {
		in.Pinned = r.pinned.Sum()
	}
	return &in
}

// WriteReport writes the report of an ended run: the frame indented, each row
// on a line of its own. The rows come straight from the journal, so writing
// them takes no memory to speak of.
func (r *Run) WriteReport(w io.Writer, exitCode int) error {
	rep := r.Report(exitCode)
	out := bufio.NewWriterSize(w, 64<<10)
	frame := []struct {
		key   string
		value any
	}{{"schema", rep.Schema}, {"run", rep.Run}, {"summary", rep.Summary}}
	fmt.Fprint(out, "{\n")
	for _, f := range frame {
		text, err := json.MarshalIndent(f.value, "  ", "  ")
		if err != nil {
			return fmt.Errorf("encode report: %w", err)
		}
		fmt.Fprintf(out, "  %q: %s,\n", f.key, text)
	}
	fmt.Fprint(out, "  \"jobs\": [")
	for i, j := range r.jobs {
		if i > 0 {
			fmt.Fprint(out, ",")
		}
		if err := r.writeJob(out, j, rep.Jobs[i]); err != nil {
			return err
		}
	}
	fmt.Fprint(out, "\n  ]\n}\n")
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// writeJob writes one job. Its frame ends in an empty "devices", which is where
// the rows go.
func (r *Run) writeJob(out *bufio.Writer, j *jobRun, rep spec.JobReport) error {
	frame, err := json.MarshalIndent(rep, "    ", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	const tail = "[]\n    }"
	fmt.Fprintf(out, "\n    %s[", frame[:len(frame)-len(tail)])
	rows := newRowReader(j.ledger)
	for i, index := range j.ledger.roster.Cohort.Sorted() {
		row, err := rows.row(index)
		if err != nil {
			return err
		}
		if i > 0 {
			_ = out.WriteByte(',') // Flush returns the error
		}
		fmt.Fprint(out, "\n        ")
		if _, err := out.Write(row); err != nil {
			return fmt.Errorf("write report: %w", err)
		}
	}
	if j.ledger.roster.Cohort.Size() > 0 {
		fmt.Fprint(out, "\n      ")
	}
	fmt.Fprint(out, "]\n    }")
	return nil
}

// rowReader finds the rows of a job for the report.
type rowReader struct {
	ledger *ledger
	lines  *journal.RowReader
	made   []byte
}

func newRowReader(l *ledger) *rowReader {
	return &rowReader{ledger: l, lines: journal.NewRowReader(l.journal)}
}

// row returns the row of a target, good until the next call.
func (rr *rowReader) row(index uint32) ([]byte, error) {
	e := rr.ledger.roster.Cohort.At(index)
	if e.Position() == cohort.NoLine {
		return rr.bare(index), nil
	}
	row, err := rr.lines.Row(e.Position())
	if err != nil && rr.ledger.journal.Err() != nil {
		return rr.bare(index), nil //nolint:nilerr // the journal broke before the line was in it; the outcome is known all the same
	}
	outcome, _ := e.Outcome()
	if err != nil && outcome == spec.OutcomeUnanswered {
		return rr.begun(index)
	}
	if err == nil && outcome == spec.OutcomeFailed && rr.ledger.lost[rr.ledger.roster.Cohort.Pool(index)] != nil {
		return rr.left(index, row)
	}
	return row, err
}

// left makes the row of a target whose hub was lost while it was to be tried again.
// The journal has it as one that was not reached, so that a run that goes on with this
// one has another go at it.
func (rr *rowReader) left(index uint32, line []byte) ([]byte, error) {
	if headOf(line).outcome != spec.OutcomeNotReached {
		return line, nil
	}
	row, err := parseRow(line, &item{Key: rr.ledger.roster.Cohort.Target(index)})
	if err != nil {
		return nil, err
	}
	row.Outcome, row.Error = spec.OutcomeFailed, rr.ledger.lossIn(index)
	rr.made = appendRow(rr.made[:0], row)
	return rr.made, nil
}

// lossIn is the error of a row whose hub was lost.
func (l *ledger) lossIn(index uint32) *spec.RowError {
	why := causeOfLoss(l.lost[l.roster.Cohort.Pool(index)])
	return &spec.RowError{Kind: "hubLost", Message: "the hub cannot be used, and nothing was done for this device: " + why}
}

// begun makes the row of a target of which an earlier run left no more than an
// intent, and to which this one did not get.
func (rr *rowReader) begun(index uint32) ([]byte, error) {
	intent, err := journal.ReadIntent(rr.ledger.journal, rr.ledger.roster.Cohort.At(index).Position())
	if err != nil {
		return nil, err
	}
	row, at := rr.rowOf(index), spec.Time{Time: intent.At}
	row.StartedAt, row.EndedAt, row.Attempts = &at, &at, intent.Attempt
	row.Error = rowError(errForgotten())
	row.History = []spec.Attempt{{Attempt: intent.Attempt, StartedAt: at, Error: row.Error}}
	if len(intent.Patch) > 0 {
		row.Twin = &spec.TwinResult{Before: parseSections(intent.Before), Patch: parseSections(intent.Patch)}
	}
	rr.made = appendRow(rr.made[:0], row)
	return rr.made, nil
}

// bare makes the row of a target that has no line in the journal: nothing was
// ever sent for it, or the journal broke before the line was in it.
func (rr *rowReader) bare(index uint32) []byte {
	rr.made = appendRow(rr.made[:0], rr.rowOf(index))
	return rr.made
}

func (rr *rowReader) rowOf(index uint32) *spec.Row {
	l := rr.ledger
	key := l.roster.Cohort.Target(index)
	outcome, _ := l.roster.Cohort.At(index).Outcome()
	row := &spec.Row{DeviceID: key.DeviceID, ModuleID: key.ModuleID, Outcome: outcome}
	if l.byHub() && outcome == spec.OutcomeUnanswered {
		row.Error = &spec.RowError{Kind: "hubJob", Message: "the run ended before the job of the hub had; resume it to learn what became of this device"}
	}
	if outcome == spec.OutcomeFailed && l.lost[key.Pool] != nil {
		row.Error = l.lossIn(index)
	}
	if len(l.roster.Pools) > 1 {
		row.Hub = l.roster.Pools[key.Pool].Name
	}
	return row
}

// engine is what carried the run out: the hub's Jobs service only if it did all of
// it.
func (r *Run) engine() spec.Engine {
	for _, j := range r.jobs {
		if !j.ledger.byHub() {
			return spec.EngineDirect
		}
	}
	return spec.EngineHubJobs
}
