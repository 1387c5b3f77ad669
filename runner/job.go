package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/time/rate"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/mask"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/schedule"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// jobRun is one job of a run. Its fields up to the counters are set before it
// starts and not written after; the counters may be read at any time; the rest
// belongs to the goroutine that runs the job until that has ended.
type jobRun struct {
	target.Roster
	pins        *pins // nil unless the run is of a pinned preview
	journal     *journal.Writer
	work        context.Context         //nolint:containedctx // outlives dispatching: what is in flight ends by it
	abort       context.CancelCauseFunc // ends the run
	stop        context.CancelCauseFunc // ends the job
	observer    Observer
	mask        *mask.Mask
	crashed     func(value any, stack []byte)
	held        *schedule.Hold // why the job does not begin; nil if it does
	scheduledAt time.Time
	firstDue    time.Time // in the first run; zero for a job that needs others
	call        hub.Call
	policy      decide.Policy
	limit       *rate.Limiter
	grace       time.Duration  // for the listing, once the job is told to stop
	picked      []spec.Outcome // of the past, what to take up again; empty for what was not ended

	taken, kept [cohort.Outcomes]int // targets of the past that are done again, and that are not
	more        bool                 // others of its targets are still to be listed

	needs    []*jobRun     // the jobs of job.Needs, in that order
	over     chan struct{} // closed when the job has ended; its status stands then
	counters counters

	whole    bool // the cohort is listed in full
	unlisted bool // it is not, and this run lists no more
	// listedHere says that this run has seen the whole listing; a resumed one need not.
	listedHere bool
	backlog    uint32                  // targets of the cohort that a run before this one listed
	latency    *hdrhistogram.Histogram // in microseconds
	past       *pastJob                // nil unless an earlier run knew the job
	startedAt  time.Time               // by the first run that did
	resumedAt  time.Time               // by this one
	endedAt    time.Time
	status     spec.Status
	reason     error
	attempts   int
	before     int // attempts of the past, which are in attempts as well
	retries    int
}

// counters is what a job tells of itself while it runs.
type counters struct {
	due      atomic.Int64 // in nanoseconds since 1970; 0 until it is known
	listed   atomic.Int64
	inFlight atomic.Int64
	started  atomic.Bool
	ended    atomic.Bool
	whole    atomic.Bool
	outcomes [cohort.Outcomes]atomic.Int64 // in the order of spec.Outcomes
}

func (c *counters) count(o spec.Outcome) { c.outcomes[cohort.OutcomeIndex(o)].Add(1) }

// newLatency counts how long attempts take, in microseconds up to an hour.
func newLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Hour/time.Microsecond), 2)
}

func newJobRun(r *Run, job *spec.Job) (*jobRun, error) {
	j := &jobRun{
		Roster: target.NewRoster(job, r.pools), journal: r.journal, observer: r.observer, crashed: r.crashed,
		latency: newLatency(),
		over:    make(chan struct{}),
		policy:  decide.Policy{Offline: job.Offline},
		grace:   r.grace,
		mask:    mask.New(r.plan),
		picked:  r.only,
		status:  spec.StatusNotStarted,
	}
	if m := job.Method; m != nil {
		j.policy.Idempotent = m.Idempotent
		j.call = hub.Call{
			Method: m.Name, Payload: m.Payload,
			ConnectTimeout: m.ConnectTimeout, ResponseTimeout: m.ResponseTimeout,
		}
	}
	j.Overwrites = job.Twin != nil && job.Twin.Guard == spec.GuardNone
	if job.Rate > 0 {
		j.limit = rate.NewLimiter(rate.Limit(job.Rate), 1)
	}
	if len(job.Needs) == 0 {
		j.schedule(r.due(job))
		j.firstDue = schedule.Due(r.startedAt, job)
	}
	if r.pinned != nil {
		j.pinTo(r.pinned)
	}
	if r.past == nil {
		return j, nil
	}
	j.more = r.picksJob(job.Name)
	if past := r.past.jobs[job.Name]; past != nil {
		if err := j.resume(past); err != nil {
			return nil, &JournalError{Err: err}
		}
	}
	return j, nil
}

// run waits for the job's time, carries it out and settles every target.
// It returns when nothing of the job is in flight any more.
func (j *jobRun) run(ctx, work context.Context, abort context.CancelCauseFunc) {
	j.work, j.abort = work, abort
	defer close(j.over)
	if j.held != nil {
		j.neverBegin(*j.held)
		return
	}
	if err := j.awaitNeeds(ctx); err != nil {
		j.neverStarted(err)
		return
	}
	if !pace.Sleep(ctx, time.Until(j.scheduledAt)) {
		j.neverStarted(context.Cause(ctx))
		return
	}
	j.resumedAt = time.Now()
	j.startedAt = j.resumedAt
	if j.past != nil && j.past.begun {
		j.startedAt = j.past.startedAt
	}
	j.counters.started.Store(true)
	j.mark(journal.EventStarted, "")
	j.observer.JobStarted(j.Job.Name)
	j.From = j.startedAt
	ctx, j.stop = context.WithCancelCause(ctx)
	defer j.stop(nil)
	if j.Job.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, j.scheduledAt.Add(j.Job.Deadline), errDeadline)
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
	for _, need := range j.Job.Needs {
		i := slices.IndexFunc(all, func(other *jobRun) bool { return other.Job.Name == need.Job })
		if i < 0 {
			return &schedule.NeedError{Job: j.Job.Name, Need: need.Job}
		}
		j.needs = append(j.needs, all[i])
	}
	return nil
}

// awaitNeeds waits for the jobs that this one needs, and sets the time from
// when they have ended.
func (j *jobRun) awaitNeeds(ctx context.Context) error {
	if len(j.Job.Needs) == 0 {
		return nil
	}
	for i, need := range j.Job.Needs {
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
	j.schedule(schedule.Due(time.Now(), j.Job))
	return nil
}

// due returns when a job of the run is to begin. In a resumed run the original
// time stands while it is still to come; a deadline counts from the resumption,
// or there would be no point in one.
func (r *Run) due(job *spec.Job) time.Time {
	at := schedule.Due(r.startedAt, job)
	if r.past == nil {
		return at
	}
	return schedule.Later(at, r.resumedAt)
}

// dispatch lists the targets and hands them to the workers until all of them
// have ended or ctx has. It returns why the job ended early, if it did.
func (j *jobRun) dispatch(ctx context.Context) error {
	// The listing outlives ctx: a job that is told to stop still finds out who its
	// targets are.
	listCtx, stopListing := context.WithCancelCause(j.work)
	defer stopListing(nil)
	d := &dispatcher{
		jobRun: j, pages: make(chan target.Page), work: make(chan *item), done: make(chan finished),
		listed: make(chan error, 1), stopListing: stopListing, backlog: j.backlog, rows: journal.NewRowReader(j.journal),
		collect: j.Job.Target.Expect != (spec.Expect{}) || j.pins != nil,
	}
	var owned sync.WaitGroup
	switch {
	case j.whole:
		d.endListing(nil)
	case j.unlisted:
		d.over = true
	default:
		owned.Go(guarded(j.crashed, func() { d.listed <- j.List(listCtx, d.pages) })) // one value, one place: never blocks
	}
	for range j.Job.Concurrency {
		owned.Go(guarded(j.crashed, func() { d.serve(ctx) }))
	}
	err := d.loop(ctx)
	stopListing(errors.New("listing is over"))
	close(d.work)
	owned.Wait()
	return err
}

// neverStarted ends a job whose time never came.
func (j *jobRun) neverStarted(cause error) {
	j.neverBegin(schedule.Hold{Status: spec.StatusNotStarted, Err: cause})
}

// neverBegin ends a job that does not begin. The targets that the plan names
// are known all the same, and have their rows.
func (j *jobRun) neverBegin(h schedule.Hold) {
	j.AddNamed()
	j.whole = j.whole || j.QueryText() == ""
	j.counters.listed.Store(int64(j.Cohort.Size()))
	j.status, j.reason = h.Status, h.Err
	j.settleRest(h.Outcome())
	j.counters.ended.Store(true)
	j.observer.JobEnded(j.report())
}

func (j *jobRun) finish(err error) {
	j.endedAt = time.Now()
	if j.past != nil && !j.past.endedAt.IsZero() && j.attempts == j.before {
		j.endedAt = j.past.endedAt // this run had nothing to do
	}
	j.settleRest(spec.OutcomeNotReached)
	j.status, j.reason = j.judge(err)
	j.mark(journal.EventEnded, string(j.status))
	j.counters.ended.Store(true)
	j.observer.JobEnded(j.report())
}

// settleRest gives every target without an outcome one that says that nothing
// happened, unless more is known from an earlier run. They get no line in the
// journal: what it tells of them still stands.
func (j *jobRun) settleRest(nothing spec.Outcome) {
	j.Cohort.Freeze()
	for i := range uint32(j.Cohort.Size()) {
		rest, e := nothing, j.Cohort.At(i)
		if e.Settled() {
			continue
		}
		if e.Begun() {
			rest = spec.OutcomeUnanswered
		} else if was, ok := e.Reopened(); ok && was != spec.OutcomeNotReached {
			rest = was
		}
		j.Cohort.Settle(i, rest, e.Position())
		j.counters.count(rest)
	}
}

// misses are those of the job. What an earlier run has settled is in the counters
// too.
func (j *jobRun) misses() decide.Misses {
	return decide.CountMisses(func(o spec.Outcome) int { return int(j.counters.outcomes[cohort.OutcomeIndex(o)].Load()) })
}

// judge says how the job ended, given why its dispatching did.
func (j *jobRun) judge(err error) (spec.Status, error) {
	missed := j.misses()
	if _, ok := errors.AsType[*InterruptedError](err); ok {
		return spec.StatusInterrupted, err
	}
	if _, ok := errors.AsType[*target.ExpectError](err); ok || errors.Is(err, target.ErrNoTargets) {
		return spec.StatusStopped, err
	}
	if _, ok := errors.AsType[*pace.NotReadyError](err); ok {
		return spec.StatusStopped, err
	}
	if isDeadline(err) && (missed.NotReached > 0 || !j.whole) {
		return spec.StatusStopped, err
	}
	if err != nil && !isDeadline(err) {
		return spec.StatusFailed, err
	}
	if j.unlisted {
		return spec.StatusFailed, errUnlisted
	}
	if why := missed.Beyond(j.Job.Tolerate, j.Cohort.Size()); why != nil {
		return spec.StatusFailed, why
	}
	notes := []string{missed.Tolerated(), j.pins.note()}
	if idle := j.IdleExclusions(); j.listedHere && len(idle) > 0 {
		notes = append(notes, target.IdleText(idle))
	}
	notes = slices.DeleteFunc(notes, func(s string) bool { return s == "" })
	if len(notes) == 0 {
		return spec.StatusSucceeded, nil
	}
	return spec.StatusSucceeded, errors.New(strings.Join(notes, "; "))
}

// mark journals an event of the job. A journal that fails shows at the next
// attempt, which is where it matters.
func (j *jobRun) mark(e journal.Event, detail string) {
	line := journal.Mark{Job: j.Job.Name, Event: e, At: time.Now(), Detail: detail}.Append(nil)
	if _, err := j.journal.Append(line); err != nil {
		j.abort(&JournalError{Err: err})
	}
}
