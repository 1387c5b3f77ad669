package runner_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"iothub-runner/internal/hub"
	"iothub-runner/runner"
	"iothub-runner/spec"
)

// checkRun fails the test if a run broke what holds for every run, whatever
// went wrong in it.
func checkRun(g *rig, res result) {
	g.Helper()
	checkSummary(g, res)
	for i := range res.report.Jobs {
		checkJob(g, res, &g.plan.Jobs[i], res.report.Jobs[i])
	}
	for _, v := range g.violations {
		g.Errorf("sent without an intent: %s", v)
	}
	for i, p := range res.run.Progress() {
		job := res.report.Jobs[i]
		if int(p.Listed) != job.Targets || int(p.Done) != job.Targets || p.InFlight != 0 || !p.Ended {
			g.Errorf("progress of %s at the end: %+v, want %d listed and done", p.Name, p, job.Targets)
		}
		told := g.observer.ended[job.Name]
		if diff := cmp.Diff(job, told, cmpopts.IgnoreFields(spec.JobReport{}, "Devices"), sameTime()); diff != "" {
			g.Errorf("JobEnded was told another story than the report (-report +told):\n%s", diff)
		}
	}
}

// sameTime compares times as reports hold them.
func sameTime() cmp.Option {
	return cmp.Comparer(func(a, b spec.Time) bool {
		return a.Truncate(1e6).Equal(b.Truncate(1e6))
	})
}

func checkSummary(g *rig, res result) {
	g.Helper()
	rep := res.report
	if rep.Schema != spec.ReportSchema || rep.Run.Status != res.run.Status() || rep.Run.ExitCode != 7 {
		g.Errorf("frame of the report: schema %q, status %q, exit code %d", rep.Schema, rep.Run.Status, rep.Run.ExitCode)
	}
	sum := spec.Summary{Outcomes: map[spec.Outcome]int{}, ThrottledMs: rep.Summary.ThrottledMs, PacedMs: rep.Summary.PacedMs}
	for _, j := range rep.Jobs {
		sum.Targets += j.Targets
		sum.Attempts += j.Attempts
		sum.Retries += j.Retries
		for o, n := range j.Outcomes {
			sum.Outcomes[o] += n
		}
	}
	checkCauses(g, rep)
	sum.Causes, sum.Hubs = rep.Summary.Causes, hubTotals(rep)
	if diff := cmp.Diff(sum, rep.Summary); diff != "" {
		g.Errorf("summary is not the sum of the jobs (-sum +summary):\n%s", diff)
	}
}

// hubTotals are those of the rows of each hub that the report tells of.
func hubTotals(rep spec.Report) (all []spec.HubReport) {
	for _, h := range rep.Summary.Hubs {
		sum := spec.HubReport{Hub: h.Hub, Lost: h.Lost, Outcomes: map[spec.Outcome]int{}}
		for _, j := range rep.Jobs {
			for _, row := range j.Devices {
				if row.Hub == h.Hub {
					sum.Targets++
					sum.Outcomes[row.Outcome]++
				}
			}
		}
		all = append(all, sum)
	}
	return all
}

// checkCauses counts the rows that did not go well by what stands in them.
func checkCauses(g *rig, rep spec.Report) {
	g.Helper()
	type group struct {
		job          string
		outcome      spec.Outcome
		kind         string
		code, status int
	}
	rows, told := map[group]int{}, map[group]int{}
	for _, j := range rep.Jobs {
		for _, row := range j.Devices {
			if row.Outcome == spec.OutcomeSucceeded || row.Outcome == spec.OutcomeUnchanged {
				continue
			}
			key := group{job: j.Name, outcome: row.Outcome}
			if row.Error != nil {
				key.kind, key.code = row.Error.Kind, row.Error.Code
			}
			if row.Method != nil && row.Outcome != spec.OutcomeUnconfirmed { // what it answered is not why
				key.status = row.Method.Status
			}
			rows[key]++
		}
	}
	for _, c := range rep.Summary.Causes {
		told[group{c.Job, c.Outcome, c.Kind, c.Code, c.Status}] += c.Count
		if len(c.Devices) != min(c.Count, 3) {
			g.Errorf("a cause of %d rows names %q", c.Count, c.Devices)
		}
	}
	if diff := cmp.Diff(rows, told, cmp.AllowUnexported(group{})); diff != "" && len(rep.Summary.Causes) < 50 {
		g.Errorf("the causes are not those of the rows (-rows +causes):\n%s", diff)
	}
}

func checkJob(g *rig, res result, job *spec.Job, rep spec.JobReport) {
	g.Helper()
	counted := map[spec.Outcome]int{}
	attempts, retries := 0, 0
	for i, row := range rep.Devices {
		counted[row.Outcome]++
		attempts += row.Attempts
		retries += max(0, row.Attempts-1)
		if i > 0 && !before(rep.Devices[i-1], row) {
			g.Errorf("job %s: row %d, %s, does not come after %s", rep.Name, i, rowTarget(row), rowTarget(rep.Devices[i-1]))
		}
		checkRow(g, job, row)
		checkEffect(g, job, row)
	}
	if len(rep.Devices) != rep.Targets {
		g.Errorf("job %s: %d rows for %d targets", rep.Name, len(rep.Devices), rep.Targets)
	}
	if diff := cmp.Diff(counted, rep.Outcomes); diff != "" {
		g.Errorf("job %s: outcomes are not those of the rows (-rows +outcomes):\n%s", rep.Name, diff)
	}
	// A journal that broke loses the details of rows.
	_, broken := errors.AsType[*runner.JournalError](res.run.Cause())
	if !broken && (attempts != rep.Attempts || retries != rep.Retries) {
		g.Errorf("job %s: %d attempts and %d retries, %d and %d in the rows", rep.Name, rep.Attempts, rep.Retries, attempts, retries)
	}
	if rep.Status != spec.StatusSucceeded && rep.Reason == "" {
		g.Errorf("job %s is %s and does not say why", rep.Name, rep.Status)
	}
}

// before tells whether row a comes before b: by device, then module, then hub.
func before(a, b spec.Row) bool {
	if a.DeviceID != b.DeviceID {
		return a.DeviceID < b.DeviceID
	}
	if a.ModuleID != b.ModuleID {
		return a.ModuleID < b.ModuleID
	}
	return a.Hub != b.Hub
}

func rowTarget(row spec.Row) hub.Target {
	return hub.Target{DeviceID: row.DeviceID, ModuleID: row.ModuleID}
}

// checkRow holds the parts of a row against each other.
func checkRow(g *rig, job *spec.Job, row spec.Row) {
	g.Helper()
	bare := row.StartedAt == nil
	reason := row.Error != nil && row.Outcome != spec.OutcomeSkipped && row.Error.Kind != "hubLost" // those say why
	if bare && (row.Attempts != 0 || reason || row.History != nil) {
		g.Errorf("row %+v: a target that never began has neither attempts nor errors", row)
	}
	if bare {
		return
	}
	if row.EndedAt == nil || row.EndedAt.Before(row.StartedAt.Time) || row.Attempts < 1 {
		g.Errorf("row %+v: ended before it began, or has no attempts", row)
	}
	answered := row.Outcome == spec.OutcomeSucceeded || row.Outcome == spec.OutcomeRejected || row.Outcome == spec.OutcomeUnconfirmed
	if job.Method != nil && answered != (row.Method != nil) {
		g.Errorf("row %+v: a method's answer and its outcome do not agree", row)
	}
	if job.Twin != nil && row.Outcome == spec.OutcomeSucceeded && (row.Twin == nil || row.Twin.Patch == nil || row.Twin.Before == nil) {
		g.Errorf("row %+v: a patch that was accepted has before-values", row)
	}
	well := row.Outcome == spec.OutcomeSucceeded || row.Outcome == spec.OutcomeUnchanged
	if well != (row.Error == nil) {
		g.Errorf("row %+v: an error stands in the rows that did not go well, and only there", row)
	}
	if row.Attempts > 1 && len(row.History) == 0 {
		g.Errorf("row %+v: several attempts and no history", row)
	}
}

// checkEffect holds a row against what the hub has seen.
func checkEffect(g *rig, job *spec.Job, row spec.Row) {
	g.Helper()
	if g.hub.quiet || len(g.options.Hubs) > 1 {
		return
	}
	t := rowTarget(row)
	effects, asked := g.hub.patched(t), g.hub.asked(opPatch, "", t)
	if job.Method != nil {
		effects, asked = g.hub.ran(job.Method.Name, t), g.hub.asked(opInvoke, job.Method.Name, t)
		if effects > 1+g.picks && !job.Method.Idempotent {
			g.Errorf("job %s: %s was called %d times", job.Name, t, effects)
		}
	} else if twinJobs(g.plan) > 1 {
		return // whose patch it was cannot be told apart here
	}
	switch row.Outcome {
	case spec.OutcomeSucceeded, spec.OutcomeRejected:
		if effects == 0 {
			g.Errorf("job %s: %s is %s, but nothing happened", job.Name, t, row.Outcome)
		}
	case spec.OutcomeUnchanged, spec.OutcomeFailed, spec.OutcomeOffline, spec.OutcomeSkipped, spec.OutcomeNotReached:
		if effects > 0 && g.picks == 0 { // else it may have happened in the run before
			g.Errorf("job %s: %s is %s, but it happened", job.Name, t, row.Outcome)
		}
	case spec.OutcomeUnanswered:
		if asked == 0 && g.options.Past == nil {
			g.Errorf("job %s: %s is %s, but nothing was sent", job.Name, t, row.Outcome)
		}
	case spec.OutcomeUnconfirmed:
		if job.Confirm == nil || row.Confirm == nil || effects == 0 && (job.Method != nil || row.Twin.Patch != nil) {
			g.Errorf("job %s: %s is %s, but nothing was sent that could be confirmed", job.Name, t, row.Outcome)
		}
	}
}

func twinJobs(p *spec.Plan) (n int) {
	for _, j := range p.Jobs {
		if j.Twin != nil {
			n++
		}
	}
	return n
}

// wantOutcomes compares how many targets of a job ended how.
func wantOutcomes(tb testing.TB, rep spec.JobReport, status spec.Status, want map[spec.Outcome]int) {
	tb.Helper()
	if rep.Status != status {
		tb.Errorf("job %s is %s (%s), want %s", rep.Name, rep.Status, rep.Reason, status)
	}
	if diff := cmp.Diff(want, rep.Outcomes); diff != "" {
		tb.Errorf("outcomes of job %s (-want +have):\n%s", rep.Name, diff)
	}
}
