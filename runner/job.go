package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/time/rate"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// jobRun is one job of a run. Its fields up to the counters are set before it
// starts and not written after; the counters may be read at any time; the rest
// belongs to the goroutine that runs the job until that has ended.
type jobRun struct {
	roster
	pins        *pins // nil unless the run is of a pinned preview
	journal     *journal.Writer
	work        context.Context //nolint:containedctx // outlives dispatching: what is in flight ends by it
	abort       context.CancelCauseFunc
	observer    Observer
	crashed     func(value any, stack []byte)
	scheduledAt time.Time
	call        hub.Call
	policy      policy
	limit       *rate.Limiter
	picked      []spec.Outcome // of the past, what to take up again; empty for what was not ended

	needs    []*jobRun     // the jobs of job.Needs, in that order
	over     chan struct{} // closed when the job has ended; its status stands then
	counters counters

	whole     bool                    // the cohort is listed in full
	backlog   uint32                  // targets of the cohort that a run before this one listed
	latency   *hdrhistogram.Histogram // in microseconds
	startedAt time.Time
	endedAt   time.Time
	status    spec.Status
	reason    error
	attempts  int
	before    int // attempts of the past, which are in attempts as well
	retries   int
}

// counters is what a job tells of itself while it runs.
type counters struct {
	due      atomic.Int64 // in nanoseconds since 1970; 0 until it is known
	listed   atomic.Int64
	inFlight atomic.Int64
	started  atomic.Bool
	ended    atomic.Bool
	whole    atomic.Bool
	outcomes [9]atomic.Int64 // in the order of spec.Outcomes
}

func (c *counters) count(o spec.Outcome) { c.outcomes[outcomeIndex(o)].Add(1) }

func newJobRun(r *Run, job *spec.Job) *jobRun {
	j := &jobRun{
		roster: newRoster(job, r.pools), journal: r.journal, observer: r.observer, crashed: r.crashed,
		latency: hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 2),
		over:    make(chan struct{}),
		policy:  policy{offline: job.Offline},
		picked:  r.only,
		status:  spec.StatusNotStarted,
	}
	if m := job.Method; m != nil {
		j.policy.idempotent = m.Idempotent
		j.call = hub.Call{
			Method: m.Name, Payload: m.Payload,
			ConnectTimeout: m.ConnectTimeout, ResponseTimeout: m.ResponseTimeout,
		}
	}
	if job.Rate > 0 {
		j.limit = rate.NewLimiter(rate.Limit(job.Rate), 1)
	}
	if len(job.Needs) == 0 {
		j.schedule(r.due(job))
	}
	if r.pinned != nil {
		j.pinTo(r.pinned)
	}
	if r.past != nil && r.past.jobs[job.Name] != nil {
		j.resume(r.past.jobs[job.Name])
	}
	return j
}

// run waits for the job's time, carries it out and settles every target.
// It returns when nothing of the job is in flight any more.
func (j *jobRun) run(ctx, work context.Context, abort context.CancelCauseFunc) {
	j.work, j.abort = work, abort
	defer close(j.over)
	if err := j.awaitNeeds(ctx); err != nil {
		j.neverStarted(err)
		return
	}
	if !sleep(ctx, time.Until(j.scheduledAt)) {
		j.neverStarted(context.Cause(ctx))
		return
	}
	j.startedAt = time.Now()
	j.counters.started.Store(true)
	j.mark(journal.EventStarted, "")
	j.observer.JobStarted(j.job.Name)
	if j.job.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, j.scheduledAt.Add(j.job.Deadline), errDeadline)
		defer cancel()
	}
	err := j.dispatch(ctx)
	j.finish(err)
}

// schedule sets the time at which the job is due.
func (j *jobRun) schedule(at time.Time) {
	j.scheduledAt = at
	j.counters.due.Store(at.UnixNano())
}

// linkNeeds finds the jobs that this one needs among all.
func (j *jobRun) linkNeeds(all []*jobRun) error {
	for _, need := range j.job.Needs {
		i := slices.IndexFunc(all, func(other *jobRun) bool { return other.job.Name == need.Job })
		if i < 0 {
			return &NeedError{Job: j.job.Name, Need: need.Job}
		}
		j.needs = append(j.needs, all[i])
	}
	return nil
}

// awaitNeeds waits for the jobs that this one needs, and sets the time from
// when they have ended.
func (j *jobRun) awaitNeeds(ctx context.Context) error {
	if len(j.job.Needs) == 0 {
		return nil
	}
	for i, need := range j.job.Needs {
		select {
		case <-j.needs[i].over:
		case <-ctx.Done():
			j.scheduledAt = time.Now()
			return context.Cause(ctx)
		}
		if status := j.needs[i].status; need.If == spec.NeedSucceeded && status != spec.StatusSucceeded {
			j.scheduledAt = time.Now()
			return fmt.Errorf("it needs job %s, which ended as %s", need.Job, status)
		}
	}
	j.schedule(due(time.Now(), j.job))
	return nil
}

// due returns when a job is to begin.
func due(start time.Time, job *spec.Job) time.Time {
	if !job.At.IsZero() {
		return job.At
	}
	return start.Add(job.Delay)
}

// due returns when a job of the run is to begin. In a resumed run the original
// time stands while it is still to come; a deadline counts from the resumption,
// or there would be no point in one.
func (r *Run) due(job *spec.Job) time.Time {
	at := due(r.startedAt, job)
	if r.past != nil && at.Before(r.resumedAt) {
		return r.resumedAt
	}
	return at
}

// dispatch lists the targets and hands them to the workers until all of them
// have ended or ctx has. It returns why the job ended early, if it did.
func (j *jobRun) dispatch(ctx context.Context) error {
	listCtx, stopListing := context.WithCancelCause(ctx)
	defer stopListing(nil)
	d := &dispatcher{
		jobRun: j, pages: make(chan page), work: make(chan *item), done: make(chan finished),
		listed: make(chan error, 1), stopListing: stopListing, backlog: j.backlog,
		collect: j.job.Target.Expect != (spec.Expect{}) || j.pins != nil,
	}
	var owned sync.WaitGroup
	if j.whole {
		d.endListing(nil)
	} else {
		owned.Go(guarded(j.crashed, func() { d.listed <- j.list(listCtx, d.pages) })) // one value, one place: never blocks
	}
	for range j.job.Concurrency {
		owned.Go(guarded(j.crashed, func() { d.serve(ctx) }))
	}
	err := d.loop(ctx)
	stopListing(errors.New("listing is over"))
	close(d.work)
	owned.Wait()
	return err
}

// neverStarted ends a job whose time never came. The targets that the plan
// names are known all the same, and have their rows.
func (j *jobRun) neverStarted(cause error) {
	for _, id := range j.job.Target.Devices {
		if !j.exclude[id] {
			j.cohort.add(targetKey{Target: hub.Target{DeviceID: id.Device, ModuleID: id.Module}})
		}
	}
	j.counters.listed.Store(int64(j.cohort.size))
	j.reason = cause
	j.settleRest()
	j.counters.ended.Store(true)
	j.observer.JobEnded(j.report())
}

func (j *jobRun) finish(err error) {
	j.endedAt = time.Now()
	j.settleRest()
	j.status, j.reason = j.judge(err)
	j.mark(journal.EventEnded, string(j.status))
	j.counters.ended.Store(true)
	j.observer.JobEnded(j.report())
}

// settleRest gives every target without an outcome the one that nothing
// happened, unless an earlier run left open whether something did. They have no
// line in the journal, and need none: what it tells of them still stands.
func (j *jobRun) settleRest() {
	j.cohort.freeze()
	for i := range uint32(j.cohort.size) {
		rest := spec.OutcomeNotReached
		switch e := j.cohort.at(i); {
		case e.state >= stateSettled:
			continue
		case e.state == stateBegun, e.state == stateDoubted:
			rest = spec.OutcomeUnanswered
		}
		j.cohort.settle(i, rest, noLine)
		j.counters.count(rest)
	}
}

// judge says how the job ended, given why its dispatching did.
func (j *jobRun) judge(err error) (spec.Status, error) {
	notReached := j.counters.outcomes[outcomeIndex(spec.OutcomeNotReached)].Load()
	if _, ok := errors.AsType[*InterruptedError](err); ok {
		return spec.StatusInterrupted, err
	}
	if _, ok := errors.AsType[*ExpectError](err); ok || errors.Is(err, errNoTargets) {
		return spec.StatusStopped, err
	}
	if isDeadline(err) && (notReached > 0 || !j.whole) {
		return spec.StatusStopped, err
	}
	if err != nil && !isDeadline(err) {
		return spec.StatusFailed, err
	}
	for i, o := range spec.Outcomes() {
		if n := j.counters.outcomes[i].Load(); n > 0 && !wellEnded(o) {
			return spec.StatusFailed, fmt.Errorf("%d of %d targets did not succeed", j.missed(), j.cohort.size)
		}
	}
	if note := j.pins.note(); note != "" {
		return spec.StatusSucceeded, errors.New(note)
	}
	return spec.StatusSucceeded, nil
}

// wellEnded tells whether an outcome meets a job's criteria.
func wellEnded(o spec.Outcome) bool {
	return o == spec.OutcomeSucceeded || o == spec.OutcomeUnchanged || o == spec.OutcomeSkipped
}

func (j *jobRun) missed() (n int64) {
	for i, o := range spec.Outcomes() {
		if !wellEnded(o) {
			n += j.counters.outcomes[i].Load()
		}
	}
	return n
}

// mark journals an event of the job. A journal that fails shows at the next
// attempt, which is where it matters.
func (j *jobRun) mark(e journal.Event, detail string) {
	line := journal.Mark{Job: j.job.Name, Event: e, At: time.Now(), Detail: detail}.Append(nil)
	if _, err := j.journal.Append(line); err != nil {
		j.abort(&JournalError{Err: err})
	}
}
