package runner

import (
	"context"
	"errors"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/preview"
	"iothub-runner/internal/schedule"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// Options are the parts that a run is made of.
type Options struct {
	// Hubs are the hubs to carry the plan out on; at least one.
	Hubs []target.NamedHub
	// Journal records the run. Its header is written already; Apply does not
	// close it, and the report is read from it.
	Journal *journal.Writer
	// RunID identifies the run.
	RunID string
	// Runner is the version of the program.
	Runner string
	// Observer is told how the run goes; nil means nobody is.
	Observer Observer
	// Within returns the context of a job's calls, made of that of the run's; nil takes
	// that as it is.
	Within func(ctx context.Context, job string) context.Context
	// RowEnded is called with the row of each target that ends, in JSON and good until
	// it returns, from any goroutine of the run; nil if nobody wants to know. Targets
	// that nothing is done for have none.
	RowEnded func(job string, row []byte)
	// Outage is for how long a job waits for a hub that takes no calls, before it
	// stops; 0 is [DefaultOutage].
	Outage time.Duration
	// Paused is called when the hub takes no calls of a kind for a while, from any
	// goroutine of the run, and before RunStarted as well; nil if nobody wants to
	// know.
	Paused func(pace.Pause)
	// Work is the context of the calls in flight: when it ends they are cut
	// off. Nil means that they end by their own timeouts alone.
	Work context.Context //nolint:containedctx // the second of the two contexts of a run
	// Grace is how long a job that is told to stop may go on listing its target,
	// so that every device has a row; zero ends the listing at once.
	Grace time.Duration
	// Past is what an earlier run left in Journal; nil if there was none.
	Past *Past
	// Only picks the targets to take up again by how they ended in the past;
	// empty takes up those that had not come to an end.
	Only []spec.Outcome
	// Pinned is the preview that the run may not go beyond: it touches the
	// devices that are in it, and only as they were then. Nil if there is none.
	// The plan and the hubs must have passed its Check.
	Pinned *preview.Pinned
	// Crashed is called with the value and the stack of a panic in a goroutine of
	// the run; it must not return. Nil lets the panic end the process.
	Crashed func(value any, stack []byte)
	// Rehearsal lets the plan run on another hub than the one it names.
	Rehearsal bool
	// Shard is the part of the targets that the run is for; others carry out the rest.
	// It takes its share of what the hub takes, and of each job's rate.
	Shard spec.Shard
	// Detach ends the run once the hub's Jobs service has taken every part of it.
	Detach bool
	// AsIf says that the times of the run are emulated ones.
	AsIf bool
}

// Run is a run, under way or ended.
type Run struct {
	plan      *spec.Plan
	id        string
	runner    string
	pools     []*target.Pool
	lost      []error // why a hub cannot be used, before the run began
	journal   *journal.Writer
	observer  Observer
	rowEnded  func(job string, row []byte)
	within    func(ctx context.Context, job string) context.Context
	past      *Past
	only      []spec.Outcome
	pinned    *pinnedTwins
	grace     time.Duration
	startedAt time.Time
	resumedAt time.Time // zero unless there is a past
	endedAt   time.Time
	jobs      []*jobRun
	crashed   func(value any, stack []byte)
	paused    func(pace.Pause)
	detach    bool
	shard     spec.Shard
	asIf      bool  // its times are emulated ones
	cause     error // why it ended early, if it did
	grouped   sync.Once
	causes    []spec.Cause // set by grouped, once the run has ended
	more      *spec.MoreCauses
}

// Apply carries out a plan: all its jobs at once, each at its due time.
//
// When ctx ends no new attempt begins; those in flight end by themselves, or
// with Options.Work. The cause of ctx becomes the reason in the report.
//
// An error means that nothing was sent. Otherwise the Run tells how it went,
// with one row for each target of each job.
func Apply(ctx context.Context, plan *spec.Plan, o Options) (*Run, error) {
	r := newRun(plan, o)
	now := clock.Now()
	if err := target.CheckHubs(plan, o.Hubs, o.Rehearsal); err != nil {
		return nil, err
	}
	if err := r.preflight(ctx); err != nil {
		return nil, err
	}
	work := o.Work
	if work == nil {
		work = context.WithoutCancel(ctx)
	}
	dispatch, abort := context.WithCancelCause(ctx)
	defer abort(nil)

	if err := r.begin(); err != nil {
		return nil, err
	}
	if err := r.makeJobs(); err != nil {
		return nil, err
	}
	late := r.hold(now)
	r.observer.RunStarted(r)
	stopWatching := abortWith(r.journal, abort)
	var jobs sync.WaitGroup
	for _, j := range r.jobs {
		jobs.Go(guarded(r.crashed, func() {
			clock.Work()
			defer clock.Rest()
			j.run(dispatch, work, abort)
		}))
	}
	jobs.Wait()
	stopWatching()
	r.endedAt = clock.Now()
	r.cause = context.Cause(dispatch)
	if r.cause == nil && late != nil {
		r.cause = late
	}
	err := r.tellEnd()
	if err = errors.Join(err, r.journal.Flush()); err != nil && r.cause == nil {
		r.cause = &JournalError{Err: err}
	}
	return r, nil
}

// preflight makes sure of the hubs. Where there are several, the run does without the
// ones that cannot be used, unless none can.
func (r *Run) preflight(ctx context.Context) error {
	r.lost = make([]error, len(r.pools))
	var hubs sync.WaitGroup
	for i, p := range r.pools {
		hubs.Go(func() { r.lost[i] = target.Preflight(ctx, p) })
	}
	hubs.Wait()
	if ctx.Err() != nil || !slices.Contains(r.lost, nil) {
		return r.lost[0]
	}
	return nil
}

// tellEnd writes the last lines of the journal: how the run ended, and whether anything
// is left to do.
func (r *Run) tellEnd() error {
	e := journal.Ending{Status: string(r.Status()), Outcomes: map[string]int{}}
	for _, j := range r.jobs {
		e.Targets += j.ledger.roster.Cohort.Size()
		for i, o := range spec.Outcomes() {
			if n := int(j.ledger.counters.outcomes[i].Load()); n > 0 {
				e.Outcomes[string(o)] += n
			}
		}
	}
	summary, err := e.Mark(r.endedAt)
	if err == nil {
		_, err = r.journal.Append(summary.Append(nil))
	}
	end := journal.Mark{Event: journal.EventEnded, At: r.endedAt, Detail: r.conclusion()}
	if err == nil {
		_, err = r.journal.Append(end.Append(nil))
	}
	return err
}

func newRun(plan *spec.Plan, o Options) *Run {
	r := &Run{
		plan: plan, id: o.RunID, runner: o.Runner, journal: o.Journal, observer: o.Observer, rowEnded: o.RowEnded, within: o.Within, crashed: o.Crashed,
		past: o.Past, only: o.Only, grace: o.Grace, asIf: o.AsIf, paused: o.Paused, detach: o.Detach, shard: o.Shard,
	}
	if o.Pinned != nil {
		r.pinned = newPinnedTwins(o.Pinned)
	}
	if r.observer == nil {
		r.observer = silent{}
	}
	for _, h := range o.Hubs {
		r.pools = append(r.pools, target.NewPool(h, plan, o.Shard, o.Outage, o.Paused))
	}
	return r
}

// begin sets the clock of the run. One that is resumed stays the run it was.
func (r *Run) begin() error {
	now := clock.Now()
	r.startedAt = now
	if r.past == nil {
		return nil
	}
	r.startedAt, r.resumedAt = r.past.Header.StartedAt, now
	mark := journal.Mark{Event: journal.EventResumed, At: now, Detail: r.id}
	r.id = r.past.Header.Run
	if _, err := r.journal.Append(mark.Append(nil)); err != nil {
		return &JournalError{Err: err}
	}
	return nil
}

// hold keeps jobs from beginning whose time had passed at now. The error is not
// nil if that is how the plan wants the whole run to end.
func (r *Run) hold(now time.Time) *schedule.LateError {
	var begun func(job string) bool
	if r.past != nil { // a job that is not picked does not begin, so it is not late either
		begun = func(job string) bool { return r.past.begun(job) || !r.picksJob(job) }
	}
	held, late := schedule.HoldLate(r.plan, now, begun)
	for _, j := range r.jobs {
		h, ok := held[j.job().Name]
		if !r.picksJob(j.job().Name) {
			h, ok = schedule.Hold{Status: spec.StatusNotStarted, Err: errNotPicked}, true
		}
		if ok {
			j.held = &h
			j.scheduledAt = r.startedAt
			if !j.job().At.IsZero() {
				j.scheduledAt = j.job().At
			}
		}
	}
	return late
}

// picksJob tells whether the run may begin a job, or go on with it: one that
// had not begun has no target with an outcome to pick.
func (r *Run) picksJob(name string) bool {
	return r.past == nil || r.past.begun(name) || len(r.only) == 0 || slices.Contains(r.only, spec.OutcomeNotReached)
}

// makeJobs makes the plan's jobs ready to run, from where an earlier run left
// them.
func (r *Run) makeJobs() error {
	for i := range r.plan.Jobs {
		j, err := newJobRun(r, &r.plan.Jobs[i])
		if err != nil {
			return err
		}
		r.jobs = append(r.jobs, j)
	}
	for _, j := range r.jobs {
		if err := j.linkNeeds(r.jobs); err != nil {
			return err
		}
	}
	if r.pinned == nil {
		return nil
	}
	return r.recallPins(r.pinned)
}

// conclusion says whether anything is left for a run that goes on with this one.
func (r *Run) conclusion() string {
	for _, j := range r.jobs {
		if j.status == spec.StatusInterrupted || j.status == spec.StatusStopped || j.status == spec.StatusDetached || j.ledger.misses().NotReached > 0 || j.ledger.lostHubs() > 0 || j.ledger.unlisted || j.reason == errNotPicked { //nolint:errorlint // our own cause, kept as it is
			return "unfinished"
		}
	}
	return journal.FinishedDetail
}

// waitsForSlot says that a hub runs as many of its own jobs as it can, or has room
// again.
func (r *Run) waitsForSlot(hub string, since time.Time, over bool) {
	if r.paused == nil {
		return
	}
	until := clock.Now()
	if !over {
		until = until.Add(lastLook)
	}
	r.paused(pace.Pause{Hub: hub, Calls: pace.JobCall.String(), Since: since, Until: until, GiveUp: until, Err: errFull, Over: over})
}

// guarded returns f with its panics handed to crashed, if there is one: the
// runtime would end the process with code 2, which means something else.
func guarded(crashed func(value any, stack []byte), f func()) func() {
	if crashed == nil {
		return f
	}
	return func() {
		defer func() {
			if value := recover(); value != nil {
				crashed(value, debug.Stack())
			}
		}()
		f()
	}
}

// abortWith ends the run as soon as the journal breaks, even while every
// worker waits for something else. The returned function ends the watch.
func abortWith(j *journal.Writer, abort context.CancelCauseFunc) (stop func()) {
	quit := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-j.Failed():
			abort(&JournalError{Err: j.Err()})
		case <-quit:
		}
	})
	return func() {
		close(quit)
		watch.Wait()
	}
}

// Cause returns why the run ended early: an [*InterruptedError], a [*HubError], a
// [*JournalError], a [*LateError], or nil if every job came to its own end.
func (r *Run) Cause() error { return r.cause }

// Status sums up how the jobs ended: the worst of them counts.
func (r *Run) Status() spec.Status {
	all := []spec.Status{spec.StatusSucceeded}
	if _, ok := errors.AsType[*JournalError](r.cause); ok {
		all = append(all, spec.StatusFailed) // the rows stand, but nobody could resume from them
	}
	for _, j := range r.jobs {
		if _, ok := errors.AsType[*InterruptedError](r.cause); ok && j.status == spec.StatusNotStarted {
			all = append(all, spec.StatusInterrupted)
		}
		all = append(all, j.status)
	}
	return spec.Worst(all...)
}
