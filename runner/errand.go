package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// errand has the hub carry out one part, and finds out what became of each of its
// targets. It belongs to its goroutine, and so does its part.
type errand struct {
	worker
	jobs *hubJobs
	part *part
	job  hub.Job // as the hub showed it last

	settled map[hub.Target]bool // whose rows were taken in
	counted int64               // devices that the hub has done, as the progress shows them

	given bool // the hub has the part
	doubt bool // it may have it: an answer was lost, or a run before this one gave it
}

const (
	firstLook = time.Second
	lastLook  = 30 * time.Second
	// maxLooks is how often a part is sought whose request may have arrived.
	maxLooks = 5
	// rowsPatience is how long after the end of a hub's job its rows may lag: they
	// come from the query index, which can be half an hour behind.
	rowsPatience = 30 * time.Minute
	// defaultWithin is the time that a hub's job has whose plan gives it none.
	defaultWithin = time.Hour
	// hubMemory is how long a hub remembers a job, less a day.
	hubMemory = 29 * 24 * time.Hour
)

// errors of an errand.
var (
	errDetached  = errors.New("the hub goes on by itself; what it does is not known yet")
	errNotInJob  = errors.New("the hub's job did not select it: it has changed or left since it was listed")
	errRowUnseen = errors.New("the hub's job has ended, and what it did for this device was not to be seen in 30 minutes")
)

// run returns when every target of the part was sent back.
func (e *errand) run(dispatch context.Context) {
	e.doubt = e.part.adopted
	slot := e.jobs.slots[e.part.pool]
	if !clock.Queue(dispatch, slot) {
		e.untouched(dispatch)
		return
	}
	defer func() { <-slot }()
	given, err := e.give(dispatch)
	switch {
	case err != nil:
		e.failed(dispatch, err)
		return
	case !given:
		e.untouched(dispatch)
		return
	}
	e.given = true
	e.ledger.counters.inFlight.Add(int64(len(e.part.items)))
	if e.jobs.detach {
		e.leave()
		return
	}
	defer func() { e.count(&hub.JobDevices{}) }()
	if !e.await(dispatch) {
		e.leave()
		return
	}
	e.collect()
}

// send hands a target back to the loop.
func (e *errand) send(it *item, f finished) {
	f = it.counted(f, it.before)
	delete(e.part.items, it.Target)
	if e.given && it.index != stranger {
		e.ledger.counters.inFlight.Add(-1)
	}
	if f.abort != nil {
		e.abort(f.abort)
	}
	e.done <- f
}

// untouched hands back targets for which nothing was done, as far as anybody knows.
func (e *errand) untouched(dispatch context.Context) {
	for _, it := range e.part.items {
		e.send(it, e.clerk.notGiven(it, e.doubt, context.Cause(dispatch)))
	}
}

// leave hands back targets whose ends this run does not wait for. They keep no line:
// so whoever goes on with the run finds out.
func (e *errand) leave() {
	for _, it := range e.part.items {
		it.attempts++
		e.send(it, finished{outcome: spec.OutcomeUnanswered, line: cohort.NoLine})
	}
}

// failed hands back targets whose part the hub has not taken, or may have.
func (e *errand) failed(dispatch context.Context, err error) {
	if journal, ok := errors.AsType[*JournalError](err); ok {
		e.abort(journal)
		e.untouched(dispatch)
		return
	}
	// That there is no such job, or another one, is certain whatever was lost.
	kind := decide.AsHubError(err).Kind
	certain := kind == hub.KindNotFound || kind == hub.KindConflict
	if e.gaveUp(err) && e.doubt || uncertain(err) || e.doubt && !certain {
		e.leave()
		return
	}
	e.refused(err)
}

// gaveUp ends what an error ends: the job, if the hub was not ready for too long, or
// the run.
func (e *errand) gaveUp(err error) bool {
	if fatal, ok := target.AsFatal(err); ok {
		e.lose(e.part.pool, fatal)
		return true
	}
	if late, ok := errors.AsType[*pace.NotReadyError](err); ok {
		e.lose(e.part.pool, late)
		return true
	}
	return false
}

// uncertain tells whether a request that ended so may have arrived all the same.
func uncertain(err error) bool {
	if _, fatal := target.AsFatal(err); fatal {
		return false
	}
	return decide.After(decide.AsHubError(err).Kind, decide.Invoking, decide.Policy{}).Outcome == spec.OutcomeUnanswered
}

// refused settles targets whose part the hub does not take.
func (e *errand) refused(err error) {
	outcome := spec.OutcomeFailed
	if e.part.adopted { // and what became of it nobody can tell any more
		outcome = spec.OutcomeUnanswered
	}
	for _, it := range e.part.items {
		e.settleAs(it, outcome, rowError(decide.AsHubError(err)))
	}
}

// settleAs settles a target of which there is no row.
func (e *errand) settleAs(it *item, o spec.Outcome, why *spec.RowError) {
	if o != spec.OutcomeNotReached {
		it.attempts++
	}
	row := e.clerk.newRow(it, o)
	row.Error = why
	e.send(it, e.clerk.settle(it, row, 0))
}

// give has the hub take the part. It is false if there was no time for it; then the
// hub does not have it.
func (e *errand) give(dispatch context.Context) (given bool, err error) {
	if !e.part.adopted {
		if err = e.note(); err != nil {
			return false, err
		}
		return e.submit(dispatch)
	}
	if given, err = e.seek(false); given || err != nil {
		return given, err
	}
	if clock.Since(e.ledger.past.runBegan) > hubMemory {
		return false, &hub.Error{Kind: hub.KindNotFound, Message: "the hub has forgotten the job that was to call it"}
	}
	return e.submit(dispatch)
}

// submit asks the hub until it takes the part. One that has it takes it no second
// time.
func (e *errand) submit(dispatch context.Context) (given bool, err error) {
	name, since := e.pools[e.part.pool].Name, clock.Now()
	wait, waits := firstLook, false
	for tries := 1; ; tries++ {
		full, refusal := e.create(dispatch)
		if full != waits && refusal == nil {
			e.jobs.waiting(name, since, !full)
			waits = full
		}
		if refusal == nil && !full {
			return true, nil
		}
		given, again, err := e.notTaken(dispatch, refusal, tries)
		if !again || !clock.Sleep(dispatch, wait) {
			return given, err
		}
		wait = longer(wait)
	}
}

// notTaken says what follows when the hub did not say that it has the part: it may
// have it all the same, by an answer that was lost. Without a refusal it is full.
func (e *errand) notTaken(dispatch context.Context, refusal error, tries int) (given, again bool, err error) {
	told := dispatch.Err() != nil // to stop, which is no failure of the part
	if e.doubt || refusal != nil && !told {
		if given, err = e.seek(e.doubt); given || err != nil {
			return given, false, err
		}
	}
	if told {
		return false, false, nil //nolint:nilerr // told is not err
	}
	if refusal != nil && (!uncertain(refusal) || tries >= maxLooks) {
		return false, false, refusal
	}
	return false, true, nil
}

func longer(wait time.Duration) time.Duration { return min(wait*3/2, lastLook) }

// note journals who is given to the hub, before that may know of it.
func (e *errand) note() error {
	var some []journal.Target
	at := journal.Position(0)
	flush := func() (err error) {
		at, err = e.ledger.journal.Append(journal.Targets{Job: e.ledger.roster.Job.Name, Part: e.part.id, Targets: some}.Append(nil))
		some = some[:0]
		return err
	}
	for _, it := range e.part.members {
		if some = append(some, it.Journal()); len(some) == target.PageSize {
			if err := flush(); err != nil {
				return &JournalError{Err: err}
			}
		}
	}
	if len(some) > 0 {
		if err := flush(); err != nil {
			return &JournalError{Err: err}
		}
	}
	if err := e.ledger.journal.Commit(at); err != nil {
		return &JournalError{Err: err}
	}
	return nil
}

// create asks the hub to do the part. It is full if it runs as many jobs as it can.
func (e *errand) create(ctx context.Context) (full bool, err error) {
	now := clock.Now()
	r := e.part.request
	if r.Within = defaultWithin; !e.ends.IsZero() {
		r.Within = max(time.Second, e.ends.Sub(later(now, e.starts)))
	}
	if e.starts.After(now) {
		r.Start = e.starts
	}
	err = e.read(ctx, pace.JobCall, func(h target.Hub) error {
		refusal := h.CreateJob(e.work, r)
		if herr, ok := errors.AsType[*hub.Error](refusal); ok && herr.Name == hub.TooManyJobs {
			full = true
			return nil
		}
		e.doubt = e.doubt || refusal != nil && uncertain(refusal)
		return refusal //nolint:wrapcheck // the roster tells by it whether to try again
	})
	return full, err
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// seek tells whether the hub has the part, and asks again where it cannot answer.
// Where a request may have arrived, it may take a moment until the hub shows it.
func (e *errand) seek(patiently bool) (given bool, err error) {
	for looks := 1; ; looks++ {
		given, err = e.there()
		again := err == nil && !given && patiently || err != nil && uncertain(err)
		if !again || looks == maxLooks || !clock.Sleep(e.work, firstLook) {
			return given, err
		}
	}
}

// there tells whether the hub has the part.
func (e *errand) there() (bool, error) {
	job, err := e.look()
	if herr, ok := errors.AsType[*hub.Error](err); ok && herr.Kind == hub.KindNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	want := hub.JobTwin
	if e.part.request.Call != nil {
		want = hub.JobMethod
	}
	if job.Type != want || job.Condition != e.part.request.Condition {
		return false, &hub.Error{Kind: hub.KindConflict, Message: fmt.Sprintf("the hub has another job with the id %s", e.part.id)}
	}
	e.job = job
	return true, nil
}

// read makes a request that changes nothing, or nothing more when it is made again.
func (e *errand) read(ctx context.Context, c pace.Class, request func(target.Hub) error) error {
	return e.ledger.roster.Read(ctx, e.part.pool, c, request)
}

// look asks for the hub's job.
func (e *errand) look() (job hub.Job, err error) {
	err = e.read(e.work, pace.JobCall, func(h target.Hub) error {
		job, err = h.Job(e.work, e.part.id)
		return err
	})
	return job, err
}

// await waits until the hub's job has ended; false if the run ends first. A job that
// is told to stop cancels what has not begun.
func (e *errand) await(dispatch context.Context) bool {
	for wait := firstLook; ; wait = longer(wait) {
		if dispatch.Err() != nil && e.job.Status != hub.JobRunning {
			e.cancel()
		}
		job, err := e.look()
		if e.work.Err() != nil || e.gaveUp(err) {
			return false
		}
		if err == nil {
			e.job = job
			e.count(job.Devices)
		}
		if e.job.Status.Ended() {
			return true
		}
		if !clock.Sleep(e.either(dispatch), wait) && e.work.Err() != nil {
			return false
		}
	}
}

// count has the progress show what the hub has done so far, by its own count.
func (e *errand) count(n *hub.JobDevices) {
	done := e.counted
	if n != nil {
		done = int64(n.Succeeded + n.Failed)
	}
	e.ledger.counters.atHub.Add(done - e.counted)
	e.counted = done
}

// either is what a wait ends with: being told to stop, as long as that is news.
func (e *errand) either(dispatch context.Context) context.Context {
	if dispatch.Err() != nil {
		return e.work
	}
	return dispatch
}

// cancel cancels a job that has not begun to run. One that runs goes on: the hub
// cancels no such job.
func (e *errand) cancel() {
	_ = e.read(e.work, pace.JobCall, func(h target.Hub) error {
		_, err := h.CancelJob(e.work, e.part.id)
		return err
	}) // what became of it shows when it is looked at
}
