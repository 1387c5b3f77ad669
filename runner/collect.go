package runner

import (
	"errors"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// collect reads what the hub's job did for each target until that agrees with what
// the hub has counted, and settles them.
func (e *errand) collect() {
	e.settled = map[hub.Target]bool{}
	for _, it := range e.part.members {
		if e.part.items[it.Target] == nil { // a run before this one has its row
			e.settled[it.Target] = true
		}
	}
	began := clock.Now()
	for wait := firstLook; ; wait = longer(wait) {
		seen, err := e.readRows()
		if e.work.Err() != nil || e.gaveUp(err) {
			e.leave()
			return
		}
		agreed := err == nil && e.agrees(seen)
		if len(e.part.items) == 0 && agreed {
			return
		}
		if agreed || clock.Since(began) > rowsPatience {
			e.settleRest(seen, agreed)
			return
		}
		if !clock.Sleep(e.work, wait) {
			e.leave()
			return
		}
		if job, err := e.look(); err == nil && job.Status.Ended() {
			e.job = job
		}
	}
}

// rowCount is how many rows there were in each state, and who had not ended in them.
type rowCount struct {
	all, done int
	open      map[hub.Target]hub.JobStatus
}

// readRows settles each target whose row shows its end.
func (e *errand) readRows() (seen rowCount, err error) {
	seen.open = map[hub.Target]hub.JobStatus{}
	err = target.EachJobRow(e.work, e.pools[e.part.pool].Name, e.read, e.part.id, func(row hub.JobRow) error {
		seen.all++
		if !row.Status.Ended() {
			seen.open[row.Target] = row.Status
			return nil
		}
		seen.done++
		it := e.part.items[row.Target]
		if it == nil && (!e.part.whole || e.settled[row.Target]) {
			return nil // it has come before
		}
		if it == nil {
			it = &item{Key: cohort.Key{Pool: e.part.pool, Target: row.Target}, index: stranger, line: cohort.NoLine}
		}
		e.settle(it, &row)
		return nil
	})
	return seen, err
}

// stranger is the place of a target that the hub's job had and our listing had not.
const stranger = ^uint32(0)

// agrees tells whether the rows are all that the hub has counted. Where it has not,
// all targets must have been seen.
func (e *errand) agrees(seen rowCount) bool {
	n := e.job.Devices
	switch {
	case e.job.Status == hub.JobCancelled && n == nil:
		return seen.all == 0 || seen.done == seen.all
	case n == nil || n.All == 0:
		return len(e.part.items) == 0 || seen.all == 0 && (e.job.Status == hub.JobFailed || n != nil)
	}
	return seen.all == n.All && seen.done == n.All-n.Running-n.Pending
}

// settle settles a target whose row shows its end.
func (e *errand) settle(it *item, row *hub.JobRow) {
	e.settled[row.Target] = true
	if !e.passedOver(row) {
		it.attempts++
	}
	if e.job.StartAt != nil {
		it.began = *e.job.StartAt
	}
	e.send(it, e.judge(it, row))
}

// passedOver tells whether the hub's job ended before it came to a device. A twin
// needs nobody online: of one that did not run the hub had no time for it.
func (e *errand) passedOver(row *hub.JobRow) bool {
	return row.Status == hub.JobCancelled || e.part.request.Patch != nil && row.Err != nil && row.Err.Kind == hub.KindOffline
}

// judge says what a row comes to. What is not known to have worked has not.
func (e *errand) judge(it *item, jobRow *hub.JobRow) finished {
	row := e.clerk.newRow(it, spec.OutcomeSucceeded)
	if !jobRow.UpdatedAt.IsZero() {
		row.EndedAt = &spec.Time{Time: jobRow.UpdatedAt}
	}
	m := e.ledger.roster.Job.Method
	if m == nil {
		row.Twin = &spec.TwinResult{Patch: &spec.Sections{Desired: e.part.request.Patch.Desired, Tags: e.part.request.Patch.Tags}}
	}
	switch {
	case e.passedOver(jobRow):
		row.Twin, row.Outcome = nil, spec.OutcomeNotReached
		row.Error = &spec.RowError{Kind: "hubJob", Message: "the hub's job ended before it came to this device"}
	case jobRow.Err != nil:
		phase := decide.Invoking
		if m == nil {
			phase = decide.Patching
		}
		row.Outcome = decide.After(jobRow.Err.Kind, phase, e.policy).Outcome
		row.Error = rowError(jobRow.Err)
	case jobRow.Status != hub.JobCompleted || m != nil && jobRow.Answer == nil:
		row.Outcome, row.Error = spec.OutcomeUnanswered, rowError(errForgotten())
		row.Error.Message = "the hub's job says " + string(jobRow.Status) + " and neither an answer nor an error"
	case m != nil:
		row.Method = &spec.MethodResult{Status: jobRow.Answer.Status, Payload: oneLine(jobRow.Answer.Payload)}
		if !m.Success.Contains(jobRow.Answer.Status) {
			row.Outcome = spec.OutcomeRejected
			row.Error = &spec.RowError{Kind: "rejected", HTTPStatus: 200, Message: rejection(jobRow.Answer.Status, m.Success)}
		}
	}
	if row.Outcome != spec.OutcomeSucceeded {
		return e.clerk.settle(it, row, 0)
	}
	return e.accept(it, row, e.confirmation(), nil, 0)
}

// confirmation is what is waited for after the hub has done its part; nil if that is
// enough. What was reported before the hub's job began does not count.
func (e *errand) confirmation() *spec.Confirmation {
	rule, job := e.ledger.roster.Job.Confirm, e.ledger.roster.Job
	if rule == nil || job.Method == nil && !proofAsked(rule, &spec.Sections{Desired: job.Twin.Desired, Tags: job.Twin.Tags}) {
		return nil
	}
	since := time.Time{}
	if e.job.StartAt != nil {
		since = *e.job.StartAt
	}
	return e.newConfirmation(since, 0, nil)
}

// settleRest settles targets of which the hub shows no end.
func (e *errand) settleRest(seen rowCount, agreed bool) {
	for _, it := range e.part.items {
		outcome, err := spec.OutcomeUnanswered, errRowUnseen
		status, open := seen.open[it.Target]
		switch {
		case e.job.Status == hub.JobCancelled && !open:
			outcome, err = spec.OutcomeNotReached, errors.New("the hub's job was cancelled before it began")
		case !agreed:
		case open && status == hub.JobRunning:
			err = errors.New("the hub's job ended while it was at this device" + e.reason())
		case open, e.job.Status == hub.JobFailed && seen.all == 0:
			outcome, err = spec.OutcomeFailed, errors.New("the hub's job failed before it came to this device"+e.reason())
		default:
			outcome, err = spec.OutcomeNotReached, errNotInJob
		}
		e.settleAs(it, outcome, &spec.RowError{Kind: "hubJob", Message: err.Error()})
	}
}

// reason is what the hub says of why its job failed.
func (e *errand) reason() string {
	for _, text := range []string{e.job.Failure, e.job.Message} {
		if text != "" {
			return ": " + text
		}
	}
	return ""
}
