package runner

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// engine carries a job out: it has the targets listed, does what the job asks
// for each, and settles them in the job's ledger.
type engine interface {
	// carryOut returns when nothing is in flight any more. The error says why it
	// ended before every target had; ctx ends dispatching, and its cause is such a
	// reason. Targets that are not settled then were not reached.
	carryOut(ctx context.Context, c controls) error
	// waves tells of those of a rollout, once the job has ended for this reason.
	waves(reason error) []spec.WaveReport
}

// controls are how an engine is stopped, and how it stops others.
type controls struct {
	work  context.Context         //nolint:containedctx // outlives dispatching: what is in flight ends by it
	abort context.CancelCauseFunc // ends the run
	stop  context.CancelCauseFunc // ends the job

	starts, ends time.Time // of the job's time; zero for now, and for none
}

// direct is the engine that calls every device from this process.
//
// One goroutine runs its loop; it owns the feed, what follows it here, and the
// ledger. Workers make the attempts and send back what came of them.
type direct struct {
	controls

	ledger  *ledger
	pools   []*target.Pool
	policy  decide.Policy
	call    hub.Call
	limit   *rate.Limiter // the job's own rate; nil for none
	line    chan struct{} // held by the attempt that waits for it; the others wait for that
	share   float64       // of the plan's rates that is this run's
	grace   time.Duration // for the listing, once the job is told to stop
	crashed func(value any, stack []byte)

	feed  *feed
	gates []*gate        // none unless the cohort is in waves; one for each hub that has its own
	hub   *hubJobs       // nil unless the hub's Jobs service makes the attempts
	owned sync.WaitGroup // its goroutines
	items []chan *item   // to the workers of each hub
	done  chan finished  // from the workers
	timer *clock.Timer
	// broken is why the run has to end.
	broken error
	// lossSignal wakes the loop when a hub was lost.
	lossSignal chan struct{}
}

func newDirect(l *ledger, r *Run) *direct {
	job := l.roster.Job
	d := &direct{ledger: l, line: make(chan struct{}, 1), lossSignal: make(chan struct{}, 1), pools: r.pools, policy: decide.Policy{Offline: job.Offline}, share: r.shard.Share(), grace: r.grace, crashed: r.crashed}
	if m := job.Method; m != nil {
		d.policy.Idempotent = m.Idempotent
		d.call = hub.Call{
			Method: m.Name, Payload: m.Payload,
			ConnectTimeout: m.ConnectTimeout, ResponseTimeout: m.ResponseTimeout,
		}
	}
	switch {
	case job.Rollout != nil && job.Rollout.Ramp != nil:
		d.limit = rate.NewLimiter(d.rampRate(), 1)
	case job.Rate > 0:
		d.limit = rate.NewLimiter(rate.Limit(job.Rate*d.share), 1)
	}
	d.hub = newHubJobs(d, r)
	return d
}

func (d *direct) job() *spec.Job { return d.ledger.roster.Job }

// carryOut lists the targets and hands them to the workers until all of them
// have ended or ctx has.
func (d *direct) carryOut(ctx context.Context, c controls) error {
	d.controls = c
	d.done = make(chan finished)
	d.feed = newFeed(d.ledger, d.policy)
	// The listing outlives ctx: a job that is told to stop still finds out who its
	// targets are.
	listing, stopListing := context.WithCancelCause(d.work)
	defer stopListing(nil)
	d.feed.stopListing = stopListing
	for _, l := range d.feed.lanes {
		l.watch.ask = d.asker(listing, l.pool)
		if err := d.ledger.lost[l.pool]; err != nil { // before the job began
			l.end(err, spec.OutcomeFailed)
			l.lose(err)
		}
	}
	if d.hub == nil {
		d.feed.look = d.looker(listing)
	}
	switch l := d.ledger; {
	case l.whole:
		d.endListing(nil)
	case l.unlisted:
		d.feed.over = true
	default:
		targets, cutListing := context.WithCancelCause(listing)
		defer cutListing(nil)
		d.feed.cutListing = cutListing
		d.owned.Go(guarded(d.crashed, func() { d.list(targets, listing) }))
	}
	for range d.pools {
		items := make(chan *item)
		d.items = append(d.items, items)
		for range d.job().Concurrency {
			d.owned.Go(guarded(d.crashed, func() { d.serve(ctx, items) }))
		}
	}
	err := d.loop(ctx)
	stopListing(errors.New("listing is over"))
	for _, items := range d.items {
		close(items)
	}
	d.owned.Wait()
	return err
}

// endListing notes that the listing has ended. From then on the waves say how far
// the job may go.
func (d *direct) endListing(err error) {
	d.fail(d.feed.endListing(err))
	if d.broken == nil && d.feed.ended == nil && d.job().Rollout != nil {
		d.gates = newGates(d.feed)
	}
}

// advance lets the rollout go on as far as it may. It says how long until more
// may begin, 0 if that is not known.
func (d *direct) advance() time.Duration {
	least := time.Duration(0)
	for _, g := range d.gates {
		wait, err := g.advance(clock.Now())
		least = soonest(least, wait)
		if _, broken := errors.AsType[*JournalError](err); broken {
			d.fail(err)
		} else if err != nil && len(d.gates) > 1 {
			g.lanes[0].end(err, spec.OutcomeNotReached)
		} else if err != nil {
			d.stop(err)
		}
	}
	return least
}

// allOver tells whether nothing is to come any more.
func (d *direct) allOver() bool {
	return d.feed.empty() && !slices.ContainsFunc(d.gates, func(g *gate) bool { return !g.done() })
}

// out is how many items somebody has.
func (d *direct) out() (n int) {
	for _, l := range d.feed.lanes {
		n += l.out
	}
	return n
}

// free tells whether there is somebody for an item of a hub.
func (d *direct) free(l *lane) bool { return d.hub != nil || l.called < d.job().Concurrency }

// serve makes attempts until there are no more items to come.
func (d *direct) serve(ctx context.Context, items <-chan *item) {
	w := worker{direct: d, clerk: clerk{ledger: d.ledger}}
	for it := range items {
		clock.Work()
		d.ledger.counters.inFlight.Add(1)
		f := w.try(ctx, it)
		d.ledger.counters.inFlight.Add(-1)
		if f.abort != nil {
			d.abort(f.abort) // before anybody else is called
		}
		d.done <- f
		clock.Rest()
	}
}

// loop returns when no item is with a worker and none is to come, with the
// reason if that is not simply that all have ended.
func (d *direct) loop(ctx context.Context) error {
	d.timer = clock.NewTimer(time.Hour)
	defer d.timer.Stop()
	for ctx.Err() == nil && d.broken == nil {
		settled := d.ledger.settled
		opens := d.advance()
		d.fail(d.feed.closeEnded())
		next, wait, err := d.feed.next(d.free)
		d.fail(err)
		if d.toHub(ctx, next) || next == nil && d.ledger.settled != settled {
			continue // who was settled on the way may be all that a wave has waited for
		}
		sweep := d.feed.advanceWatches(clock.Now())
		if next == nil && d.allOver() && d.broken == nil && ctx.Err() == nil {
			return d.reason()
		}
		d.step(ctx, next, soonest(wait, opens, sweep))
	}
	if d.broken != nil {
		d.abort(d.broken) // or draining would wait for those who wait for their turn
	}
	d.drain(ctx)
	if d.broken != nil {
		return d.broken
	}
	return context.Cause(ctx)
}

// reason is why nothing is to come any more, if that is not simply that all targets
// have ended.
func (d *direct) reason() error {
	for _, l := range d.feed.lanes {
		if l.ended != nil && l.rest == spec.OutcomeNotReached {
			return l.ended
		}
	}
	return d.feed.ended
}

// toHub takes a target that the hub's Jobs service is to do. When there is no other,
// those that were taken go there together. It is false if there was nothing to do.
func (d *direct) toHub(ctx context.Context, next *item) bool {
	switch {
	case d.hub == nil || next != nil && next.proving || d.broken != nil:
		return false
	case next == nil && len(d.hub.gathered) > 0:
		d.hub.submit(ctx)
		return true
	case next == nil:
		return false
	}
	d.feed.handedOut(next)
	d.hub.gather(next)
	return true
}

// soonest is the shortest of some times, of which 0 is none.
func soonest(waits ...time.Duration) (least time.Duration) {
	for _, d := range waits {
		if d > 0 && (least <= 0 || d < least) {
			least = d
		}
	}
	return least
}

// fail notes that the run has to end. The first reason is the one that counts.
func (d *direct) fail(err error) {
	if d.broken == nil {
		d.broken = err
	}
}

// step does the one thing that is possible first.
func (d *direct) step(ctx context.Context, next *item, wait time.Duration) {
	var items chan<- *item
	if next != nil {
		items = d.items[next.Pool]
	}
	var timer <-chan time.Time
	d.timer.Stop()
	if wait > 0 {
		d.timer.Reset(wait)
		timer = d.timer.C
	}
	clock.Rest() // until one of them has happened
	select {
	case items <- next:
		clock.Work()
		d.feed.handedOut(next)
		d.feed.lanes[next.Pool].called++
	case p := <-d.feed.pages:
		clock.Work()
		d.fail(d.feed.admit(p))
	case err := <-d.feed.listed:
		clock.Work()
		d.endListing(err)
	case looked := <-d.feed.looked:
		clock.Work()
		d.feed.takeLooked(looked)
	case s := <-d.feed.swept:
		clock.Work()
		d.feed.takeSwept(s)
	case <-d.lossSignal:
		clock.Work()
	case f := <-d.done:
		clock.Work()
		d.takeIn(f)
	case <-timer:
		clock.Work()
	case <-ctx.Done():
		clock.Work()
	}
}

// takeIn takes over what a worker made of an item.
func (d *direct) takeIn(f finished) {
	l := d.feed.lanes[f.Pool]
	if f.index == stranger {
		d.fail(d.ledger.admit(f.item))
	} else {
		l.out--
	}
	if d.hub == nil || f.proving {
		l.called--
	}
	if f.outcome == spec.OutcomeNotReached && l.lossOf() != nil {
		f.outcome = spec.OutcomeFailed
		d.ledger.tally[l.pool].left++
	}
	d.fail(f.abort)
	d.ledger.enter(f)
	l.noteAway(f)
	switch {
	case f.proving:
		l.watch.returned(f)
	case f.outcome != "":
	case f.confirm != nil:
		l.watch.add(f.item, clock.Now())
	default:
		l.putBack(f.item)
	}
	if r := d.job().Rollout; r != nil && r.Ramp != nil {
		d.limit.SetLimitAt(clock.Now(), d.rampRate())
	}
}

func (d *direct) waves(reason error) []spec.WaveReport {
	_, stopped := errors.AsType[*decide.StopError](reason)
	all := []spec.WaveReport{}
	for _, g := range d.gates {
		all = append(all, g.report(stopped)...)
	}
	return all
}

// rampRate is how fast a job may go after those that have succeeded so far.
func (d *direct) rampRate() rate.Limit {
	ramp := d.job().Rollout.Ramp
	steps := d.ledger.counters.outcomes[cohort.OutcomeIndex(spec.OutcomeSucceeded)].Load() / max(1, int64(float64(ramp.Every)*d.share))
	grown := ramp.From * math.Pow(ramp.Factor, float64(steps))
	if most := d.job().Rate; most > 0 {
		grown = min(grown, most)
	}
	return rate.Limit(min(grown*d.share, fastest))
}

// fastest is more than any hub takes; a ramp could grow for ever.
const fastest = 1e6

// drain waits for the attempts in flight and for the listing, as long as it may
// take, and settles what was to be tried again.
func (d *direct) drain(ctx context.Context) {
	f := d.feed
	f.stopping = true
	if _, fatal := target.AsFatal(context.Cause(ctx)); fatal || d.broken != nil || d.grace <= 0 {
		f.stopListing(context.Cause(ctx))
	}
	for _, given := range d.hub.giveBack(context.Cause(ctx)) {
		d.takeIn(given)
	}
	d.timer.Reset(d.grace)
	for _, l := range f.lanes {
		l.makeRoom()
	}
	for d.out() > 0 || !f.over {
		clock.Rest()
		select {
		case p := <-f.pages:
			clock.Work()
			d.fail(f.admit(p))
		case err := <-f.listed:
			clock.Work()
			d.endListing(err)
		case done := <-d.done:
			clock.Work()
			d.takeIn(done)
		case <-d.timer.C:
			clock.Work()
			f.stopListing(context.Cause(ctx))
		}
		if d.broken != nil {
			f.stopListing(d.broken)
		}
	}
	for _, l := range f.lanes {
		l.watch.stop()
		d.fail(l.settleWaiting(context.Cause(ctx)))
	}
}
