package runner

import (
	"io"
	"strings"
	"time"

	"iothub-runner/internal/inputs"
	"iothub-runner/internal/pace"
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
	rep.PublishedPerSecond = l.published()
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

// Info is what is known of a run from its start.
func (r *Run) Info() spec.Run {
	info := spec.Run{
		ID:   r.id,
		Plan: spec.PlanRef{Name: r.plan.Name, File: r.plan.File, SHA256: r.plan.SHA256, Inputs: r.inputs()},
		Hub:  r.hubNames(), Engine: string(r.engine()), Runner: r.runner,
		StartedAt: spec.Time{Time: r.startedAt}, EndedAt: spec.Time{Time: r.startedAt}, Status: spec.StatusUnfinished, Rehearsal: r.asIf,
	}
	if shard := r.shard; shard.Of > 1 {
		info.Shard = &shard
	}
	return info
}

// published is how many attempts a second the hubs publish that they take; 0 if that is
// not known of one of them.
func (l *ledger) published() (all float64) {
	class := pace.TwinWrite
	if l.roster.Job.Method != nil {
		class = pace.Method
	}
	for _, p := range l.roster.Pools {
		rates, known := pace.Rates(p.Size.SKU, p.Size.Units)
		if !known {
			return 0
		}
		if l.byHub() {
			all += pace.JobDevices(p.Size.SKU, p.Size.Units)
		} else {
			all += rates[class]
		}
	}
	return all
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
	if since.IsZero() {
		return 0
	}
	return perSecond(made, j.endedAt.Sub(since))
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
	rep := spec.Report{Schema: spec.ReportSchema, Run: r.Info(), Summary: spec.Summary{Outcomes: map[spec.Outcome]int{}}}
	rep.Run.EndedAt, rep.Run.Status, rep.Run.ExitCode = spec.Time{Time: r.endedAt}, r.Status(), exitCode
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
	r.grouped.Do(func() { r.causes, r.more = causesOf(r) })
	rep.Summary.Causes, rep.Summary.MoreCauses, rep.Summary.Hubs = r.causes, r.more, r.hubReports()
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

// WriteReport writes the report of an ended run. The rows come straight from the
// journal, so writing them takes no memory to speak of.
func (r *Run) WriteReport(w io.Writer, exitCode int) error {
	return spec.WriteReport(w, r.Document(exitCode))
}

// Document is the report of an ended run and its rows.
func (r *Run) Document(exitCode int) spec.Document {
	rep := r.Report(exitCode)
	return &document{run: r, head: &rep}
}

type document struct {
	run  *Run
	head *spec.Report
}

// Head returns the report less its rows.
func (d *document) Head() *spec.Report { return d.head }

// Rows yields those of a job.
func (d *document) Rows(job int, yield func(row []byte) error) error {
	return newRowReader(d.run.jobs[job].ledger).each(yield)
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
