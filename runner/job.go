package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/schedule"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// jobRun is one job of a run: when it begins, what carries it out, and how it
// ended. Its ledger knows its targets.
type jobRun struct {
	ledger   *ledger
	engine   engine
	abort    context.CancelCauseFunc // ends the run
	observer Observer
	within   func(ctx context.Context, job string) context.Context // nil takes it as it is
	detach   bool                                                  // the run does not wait for the hub's Jobs service
	held     *schedule.Hold                                        // why the job does not begin; nil if it does

	scheduledAt time.Time
	closesAt    time.Time    // when its window closes; zero if it has none
	firstDue    time.Time    // in the first run; zero for a job that needs others
	dueNanos    atomic.Int64 // in nanoseconds since 1970; 0 until it is known
	started     atomic.Bool
	ended       atomic.Bool

	needs []*jobRun     // the jobs of job.Needs, in that order
	over  chan struct{} // closed when the job has ended; its status stands then

	startedAt time.Time // by the first run that did
	resumedAt time.Time // by this one
	endedAt   time.Time
	status    spec.Status
	reason    error
}

func newJobRun(r *Run, job *spec.Job) (*jobRun, error) {
	l, err := newLedger(r, job)
	if err != nil {
		return nil, err
	}
	j := &jobRun{
		ledger: l, engine: newDirect(l, r), observer: r.observer, within: r.within, detach: r.detach,
		over: make(chan struct{}), status: spec.StatusNotStarted,
	}
	if len(job.Needs) == 0 {
		j.schedule(schedule.DueInRun(job, r.startedAt, r.resumedAt))
		j.firstDue, _ = schedule.Begins(job, schedule.Due(r.startedAt, job))
	}
	return j, nil
}

func (j *jobRun) job() *spec.Job { return j.ledger.roster.Job }

// run waits for the job's time, carries it out and settles every target.
// It returns when nothing of the job is in flight any more.
func (j *jobRun) run(ctx, work context.Context, abort context.CancelCauseFunc) {
	j.abort = abort
	defer close(j.over)
	if j.held != nil {
		j.neverBegin(*j.held)
		return
	}
	if err := j.awaitNeeds(ctx); err != nil {
		j.neverStarted(err)
		return
	}
	if !j.atHub() && !clock.Sleep(ctx, clock.Until(j.scheduledAt)) {
		j.neverStarted(context.Cause(ctx))
		return
	}
	j.resumedAt = clock.Now()
	j.startedAt = j.resumedAt
	past := j.ledger.past
	if past != nil && past.begun {
		j.startedAt = past.startedAt
	}
	j.started.Store(true)
	j.mark(journal.EventStarted, "")
	j.observer.JobStarted(j.job().Name)
	if j.within != nil {
		work = j.within(work, j.job().Name)
	}
	j.ledger.roster.From = j.startedAt
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if ends := schedule.Deadline(j.job(), j.scheduledAt); !ends.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = clock.WithDeadline(ctx, ends, errDeadline)
		defer cancel()
	}
	if !j.closesAt.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = clock.WithDeadline(ctx, j.closesAt, closed(j.job().Window, j.closesAt))
		defer cancel()
	}
	j.finish(j.engine.carryOut(ctx, controls{work: work, abort: abort, stop: stop, starts: j.scheduledAt, ends: j.ends()}))
}

// atHub tells whether the hub's Jobs service waits for the job's time, which has a
// clock of its own.
func (j *jobRun) atHub() bool {
	return j.detach || j.ledger.past != nil && len(j.ledger.past.parts) > 0
}

// ends is when the job's time is over: by its deadline or its window, zero for
// neither.
func (j *jobRun) ends() time.Time {
	ends := schedule.Deadline(j.job(), j.scheduledAt)
	if ends.IsZero() || !j.closesAt.IsZero() && j.closesAt.Before(ends) {
		return j.closesAt
	}
	return ends
}

// schedule sets the time at which the job is due, or from which on its window is
// to be open.
func (j *jobRun) schedule(at time.Time) {
	j.scheduledAt, j.closesAt = schedule.Begins(j.job(), at)
	j.dueNanos.Store(j.scheduledAt.UnixNano())
}

// linkNeeds finds the jobs that this one needs among all.
func (j *jobRun) linkNeeds(all []*jobRun) error {
	for _, need := range j.job().Needs {
		i := slices.IndexFunc(all, func(other *jobRun) bool { return other.job().Name == need.Job })
		if i < 0 {
			return &schedule.NeedError{Job: j.job().Name, Need: need.Job}
		}
		j.needs = append(j.needs, all[i])
	}
	return nil
}

// awaitNeeds waits for the jobs that this one needs, and sets the time from
// when they have ended.
func (j *jobRun) awaitNeeds(ctx context.Context) error {
	if len(j.job().Needs) == 0 {
		return nil
	}
	for i, need := range j.job().Needs {
		if clock.Rest(); !over(ctx, j.needs[i]) {
			j.scheduledAt = clock.Now()
			return context.Cause(ctx)
		}
		if status := j.needs[i].status; need.If == spec.NeedSucceeded && status != spec.StatusSucceeded {
			j.scheduledAt = clock.Now()
			return fmt.Errorf("it needs job %s, which ended as %s", need.Job, status)
		}
	}
	j.schedule(schedule.Due(clock.Now(), j.job()))
	return nil
}

// over waits for a job to end; false if ctx did first.
func over(ctx context.Context, j *jobRun) bool {
	defer clock.Work()
	select {
	case <-j.over:
		return true
	case <-ctx.Done():
		return false
	}
}

// neverStarted ends a job whose time never came.
func (j *jobRun) neverStarted(cause error) {
	j.neverBegin(schedule.Hold{Status: spec.StatusNotStarted, Err: cause})
}

// neverBegin ends a job that does not begin. The targets that the plan names
// are known all the same, and have their rows.
func (j *jobRun) neverBegin(h schedule.Hold) {
	j.ledger.listNamed()
	j.status, j.reason = h.Status, h.Err
	j.ledger.enterRest(h.Outcome())
	j.ended.Store(true)
	j.observer.JobEnded(j.report())
}

func (j *jobRun) finish(err error) {
	j.endedAt = clock.Now()
	if l := j.ledger; l.past != nil && !l.past.endedAt.IsZero() && l.attempts == l.before {
		j.endedAt = l.past.endedAt // this run had nothing to do
	}
	j.ledger.enterRest(spec.OutcomeNotReached)
	j.status, j.reason = j.judge(err)
	j.mark(journal.EventEnded, string(j.status))
	j.ended.Store(true)
	j.observer.JobEnded(j.report())
}

// judge says how the job ended, given why its dispatching did.
func (j *jobRun) judge(err error) (spec.Status, error) {
	l := j.ledger
	missed := l.misses()
	if _, ok := errors.AsType[*InterruptedError](err); ok {
		return spec.StatusInterrupted, err
	}
	if stops(err) {
		return spec.StatusStopped, err
	}
	outOfTime := isDeadline(err) || isClosed(err)
	if outOfTime && (missed.NotReached > 0 || !l.whole) {
		return spec.StatusStopped, l.left(err, missed.NotReached)
	}
	if err != nil && !outOfTime {
		return spec.StatusFailed, err
	}
	if l.unlisted {
		return spec.StatusFailed, errUnlisted
	}
	if j.detach && l.allWithHub() {
		return spec.StatusDetached, errDetached
	}
	if why := l.loss(); why != nil && !l.excused() {
		return spec.StatusFailed, why
	}
	if why := missed.Beyond(l.roster.Job.Tolerate, l.roster.Cohort.Size()); why != nil {
		return spec.StatusFailed, why
	}
	return spec.StatusSucceeded, l.notes(missed)
}

// notes is what there is to say of a job that succeeded; nil for nothing.
func (l *ledger) notes(missed decide.Misses) error {
	notes := []string{missed.Tolerated(), l.pins.note()}
	if why := l.loss(); why != nil {
		notes = append(notes, why.Error()+", which tolerate.hubs allows")
	}
	if idle := l.roster.IdleExclusions(); l.listedHere && len(idle) > 0 {
		notes = append(notes, target.IdleText(idle))
	}
	notes = slices.DeleteFunc(notes, func(s string) bool { return s == "" })
	if len(notes) == 0 {
		return nil
	}
	return errors.New(strings.Join(notes, "; "))
}

// stops tells whether an error is how a safety rule ends a job.
func stops(err error) bool {
	_, gate := errors.AsType[*GateError](err)
	_, rule := errors.AsType[*decide.StopError](err)
	_, outage := errors.AsType[*pace.NotReadyError](err)
	return gate || rule || outage || target.AsUnexpected(err)
}

// mark journals an event of the job. A journal that fails shows at the next
// attempt, which is where it matters.
func (j *jobRun) mark(e journal.Event, detail string) {
	if err := j.ledger.mark(e, detail); err != nil {
		j.abort(err)
	}
}
