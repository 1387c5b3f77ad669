package runner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// maxRereads is how often a twin that changes under our hands is read again
// before the row says so. Several jobs on one twin, or several programs, get
// there one after the other, so each waits a little longer every time.
const maxRereads = 20

// worker makes attempts, one at a time, and has written down what came of them.
type worker struct {
	*direct
	clerk clerk
}

// try makes one attempt for an item, or one pass of several requests for a
// twin, and says what is to become of it.
func (w *worker) try(dispatch context.Context, it *item) finished {
	before := it.attempts
	var f finished
	switch {
	case it.confirm != nil:
		f = w.tryProof(dispatch, it)
	case w.job().Method != nil:
		f = w.tryMethod(dispatch, it)
	default:
		f = w.tryTwin(dispatch, it)
	}
	return it.counted(f, before)
}

// begins returns the time, and notes it if nothing was sent for the item before:
// its row tells of its requests, not of how long it stood in line for them, nor
// of how long the disk took to record them.
func (it *item) begins() time.Time {
	now := clock.Now()
	if it.began.IsZero() {
		it.began = now
	}
	return now
}

// tryMethod calls the method once.
func (w *worker) tryMethod(dispatch context.Context, it *item) finished {
	m := w.job().Method
	it.attempts++
	call, f, ok := w.callFor(dispatch, it)
	if !ok {
		return f
	}
	before, f, ok := w.baseline(dispatch, it)
	if !ok {
		return f
	}
	wanted, err := w.reportedFor(it, before)
	if err != nil {
		return w.cannotFill(it, err)
	}
	if !w.turn(dispatch, it, pace.Method, pace.Steps(len(call.Payload), pace.MethodStep)) {
		it.attempts--
		return w.clerk.stopped(it, context.Cause(dispatch))
	}
	if err = w.clerk.intent(journal.Intent{Attempt: it.attempts, At: clock.Now()}, it); err != nil {
		it.attempts--
		return w.clerk.broken(it, err)
	}
	began := it.begins()
	answer, err := w.pools[it.Pool].Hub.Invoke(w.work, it.Target, call)
	took := clock.Since(began)
	w.pools[it.Pool].Pacer.Answered(pace.Method, began, err)
	if err != nil {
		return w.unsuccessful(dispatch, it, decide.Invoking, decide.AsHubError(err), began, took)
	}
	outcome := spec.OutcomeRejected
	if m.Success.Contains(answer.Status) {
		outcome = spec.OutcomeSucceeded
	}
	if it.attempts > 1 {
		it.record(began, took, nil)
	}
	row := w.clerk.newRow(it, outcome)
	row.Method = &spec.MethodResult{Status: answer.Status, Payload: oneLine(answer.Payload)}
	if outcome == spec.OutcomeRejected {
		row.Error = &spec.RowError{Kind: "rejected", HTTPStatus: 200, Message: rejection(answer.Status, m.Success)}
	}
	if outcome == spec.OutcomeRejected {
		return w.clerk.settle(it, row, took)
	}
	return w.accept(it, row, w.confirmCall(before, wanted), nil, took)
}

// callFor returns the call as it is for a device. Nearly always it is the same
// for all; where it takes values from the twin, those that the query page showed
// will do, and a device that came without is read. On false, the pass ends with f.
func (w *worker) callFor(dispatch context.Context, it *item) (call hub.Call, f finished, ok bool) {
	if w.job().Method.Template == nil {
		return w.call, f, true
	}
	state := it.sight
	if state == nil && w.ledger.roster.Looks.ETag {
		if state, f, ok = w.readTwin(dispatch, it); !ok {
			return call, f, false
		}
	}
	e, err := w.ledger.roster.Effect(it.Target, state)
	if err != nil {
		return call, w.cannotFill(it, err), false
	}
	if pinned, held := w.heldToPayload(it, e.Payload); held {
		return call, pinned, false
	}
	call = w.call
	call.Payload = e.Payload
	return call, f, true
}

// cannotFill settles an item whose twin lacks a value that the plan fills in.
func (w *worker) cannotFill(it *item, err error) finished {
	row := w.clerk.newRow(it, spec.OutcomeFailed)
	row.Error = &spec.RowError{Kind: "missingValue", Message: err.Error() + "; nothing was sent"}
	if it.unsure { // by an earlier attempt, when the value was there
		row.Outcome, row.Twin = spec.OutcomeUnanswered, it.doubt
		row.Error.Message = err.Error() + "; nothing was sent again"
	}
	return w.clerk.settle(it, row, 0)
}

// tryTwin brings the twin to what is wanted of it. What the query page showed
// may be old: a twin that looks right is read directly before the row says so,
// and a patch carries the etag that its before-values were read with, so that
// an accepted one proves them.
func (w *worker) tryTwin(dispatch context.Context, it *item) finished {
	it.attempts++
	state := it.sight
	for {
		if state == nil {
			s, f, ok := w.readTwin(dispatch, it)
			if !ok {
				return f
			}
			state = s
		}
		e, err := w.ledger.roster.Effect(it.Target, state)
		if err != nil && !state.Direct {
			state = nil // the page may be older than the value
			continue
		}
		if err != nil {
			return w.cannotFill(it, err)
		}
		if f, held := w.heldToPin(it, state); held {
			return f
		}
		if !e.Unchanged() && !w.asRecorded(it, state) {
			if !state.Direct {
				state = nil
				continue
			}
			return w.changedSince(it, state)
		}
		if e.Unchanged() {
			if !state.Direct {
				state = nil
				continue
			}
			return w.asWanted(it, state)
		}
		f, again := w.patchTwin(dispatch, it, state, e)
		if !again {
			return f
		}
		if it.rereads++; it.rereads > 1 {
			return w.makeWay(dispatch, it)
		}
		it.attempts++
		state = nil
	}
}

// asRecorded tells whether a twin is as the plan has it recorded, if it does.
func (w *worker) asRecorded(it *item, s *target.Sight) bool {
	if w.job().Twin.Guard != spec.GuardRecorded {
		return true
	}
	etag, err := w.ledger.roster.RecordedETag(it.Target)
	return err == nil && etag == s.ETag
}

// changedSince leaves a twin alone that somebody has changed since its row was
// recorded.
func (w *worker) changedSince(it *item, s *target.Sight) finished {
	if it.unsure { // it may have been us
		return w.clerk.giveUp(it, decide.Verdict{Step: decide.StepEnd, Outcome: spec.OutcomeUnanswered})
	}
	etag, _ := w.ledger.roster.RecordedETag(it.Target)
	row := w.clerk.newRow(it, spec.OutcomeSkipped)
	row.Error = &spec.RowError{Kind: "changedSinceRecorded", Message: fmt.Sprintf("its twin has changed since it was recorded: the etag was %q and is %q", etag, s.ETag)}
	row.History = it.history
	return w.clerk.settle(it, row, 0)
}

// readTwin reads a twin directly. On false, the pass ends with f.
func (w *worker) readTwin(dispatch context.Context, it *item) (s *target.Sight, f finished, ok bool) {
	if !w.awaitPace(dispatch, it, pace.TwinRead, 1) {
		it.attempts--
		return nil, w.clerk.stopped(it, context.Cause(dispatch)), false
	}
	began := it.begins()
	t, err := w.pools[it.Pool].Hub.Twin(w.work, it.Target)
	took := clock.Since(began)
	w.pools[it.Pool].Pacer.Answered(pace.TwinRead, began, err)
	if err != nil {
		return nil, w.unsuccessful(dispatch, it, decide.Reading, decide.AsHubError(err), began, took), false
	}
	return &target.Sight{
		ETag: t.ETag, Version: t.Version, Desired: t.Desired, Tags: t.Tags, Reported: t.Reported,
		Direct: true, Began: began, Took: took,
	}, f, true
}

// patchTwin sends what differs. On again, the twin has changed since it was read.
func (w *worker) patchTwin(dispatch context.Context, it *item, s *target.Sight, e target.Effect) (f finished, again bool) {
	wanted, err := w.reportedFor(it, s)
	if err != nil {
		return w.cannotFill(it, err), false
	}
	if !w.turn(dispatch, it, pace.TwinWrite, 1) {
		it.attempts--
		return w.clerk.stopped(it, context.Cause(dispatch)), false
	}
	result := &spec.TwinResult{
		Before: &spec.Sections{Desired: oneLine(e.Desired.Before), Tags: oneLine(e.Tags.Before)},
		Patch:  &spec.Sections{Desired: e.Desired.Patch, Tags: e.Tags.Patch},
	}
	intent := journal.Intent{
		Attempt: it.attempts, At: clock.Now(), ETag: s.ETag, Version: s.Version,
		Before: sections(w.ledger.mask.Sections(result.Before)), Patch: sections(w.ledger.mask.Sections(result.Patch)),
	}
	if err = w.clerk.intent(intent, it); err != nil {
		it.attempts--
		return w.clerk.broken(it, err), false
	}
	w.ledger.openPin(it, s, result.Patch)
	began := it.begins()
	t, err := w.pools[it.Pool].Hub.PatchTwin(w.work, it.Target, hub.Patch{Desired: e.Desired.Patch, Tags: e.Tags.Patch, Whole: w.job().Confirm != nil}, w.guard(s))
	took := clock.Since(began)
	w.pools[it.Pool].Pacer.Answered(pace.TwinWrite, began, err)
	if err == nil {
		if it.attempts > 1 {
			it.record(began, took, nil)
		}
		result.Version, result.ETag = t.Version, t.ETag
		row := w.clerk.newRow(it, spec.OutcomeSucceeded)
		row.Twin = result
		return w.accept(it, row, w.confirmPatch(e.Desired.Patch, wanted, t), t.Reported, took), false
	}
	herr := decide.AsHubError(err)
	v := decide.After(herr.Kind, decide.Patching, w.policy)
	w.ledger.answerPin(it, v)
	if v.Step == decide.StepReread {
		it.err = herr
		it.record(began, took, herr)
		return finished{}, true
	}
	if v.Outcome == spec.OutcomeUnanswered && it.doubt == nil {
		it.doubt = result
	}
	return w.unsuccessful(dispatch, it, decide.Patching, herr, began, took), false
}

// guard is the precondition of a patch.
func (w *worker) guard(s *target.Sight) string {
	if w.ledger.roster.Overwrites {
		return hub.AnyETag
	}
	return s.ETag
}

// asWanted settles a twin that a direct read shows as wanted: it was so all
// along, or a patch of ours whose answer never came has made it so.
func (w *worker) asWanted(it *item, s *target.Sight) finished {
	row := w.clerk.newRow(it, spec.OutcomeUnchanged)
	row.Twin = &spec.TwinResult{Version: s.Version, ETag: s.ETag}
	if it.doubt != nil {
		it.doubt.Version, it.doubt.ETag = s.Version, s.ETag
		row.Outcome, row.Twin = spec.OutcomeSucceeded, it.doubt
	}
	if it.attempts > 1 {
		it.record(s.Began, s.Took, nil)
	}
	row.History = it.history
	return w.confirmAsWanted(it, row, s)
}

// turn waits for the hub's pace and for the job's rate. It waits again after a
// 429: an unused reservation would let a burst exceed the rate later.
func (w *worker) turn(dispatch context.Context, it *item, c pace.Class, cost int) bool {
	pacer := w.pools[it.Pool].Pacer
	for w.awaitPace(dispatch, it, c, cost) {
		if w.limit == nil {
			return true
		}
		wait, ok := w.awaitRate(dispatch)
		if !ok {
			return false
		}
		if wait <= 0 || !pacer.Resting(c) {
			return true
		}
	}
	return false
}

// awaitRate waits for the job's own rate, and tells for how long it did. One
// attempt after the other: only the first of those that wait has a time, so that a
// new rate holds for all of them.
func (w *worker) awaitRate(dispatch context.Context) (waited time.Duration, ok bool) {
	w.ledger.counters.rating.Add(1)
	defer w.ledger.counters.rating.Add(-1)
	if !clock.Queue(dispatch, w.line) {
		return 0, false
	}
	defer func() { <-w.line }()
	now := clock.Now() // a rehearsal has a time of its own
	wait := w.limit.ReserveN(now, 1).DelayFrom(now)
	return wait, clock.Sleep(dispatch, wait)
}

// awaitPace waits for the hub's pace alone. A job whose hub is not ready for too long
// ends.
func (w *worker) awaitPace(dispatch context.Context, it *item, c pace.Class, cost int) bool {
	w.ledger.counters.pacing.Add(1)
	err := w.pools[it.Pool].Pacer.Take(dispatch, c, cost, w.ledger.roster.From)
	w.ledger.counters.pacing.Add(-1)
	if late, ok := errors.AsType[*pace.NotReadyError](err); ok {
		w.lose(it.Pool, late)
	}
	return err == nil
}

// unsuccessful decides what follows an attempt that did not work.
func (w *worker) unsuccessful(dispatch context.Context, it *item, p decide.Phase, err *hub.Error, began time.Time, took time.Duration) finished {
	v := decide.After(err.Kind, p, w.policy)
	renewed := err.Kind == hub.KindTokenExpired && !it.expired
	if renewed { // who is refused again and again, while others are not, uses up its attempts
		v.Step = decide.StepWait
	}
	it.expired = err.Kind == hub.KindTokenExpired
	it.err, it.last = err, v
	it.unsure = it.unsure || v.Outcome == spec.OutcomeUnanswered
	it.record(began, took, err)
	switch v.Step {
	case decide.StepEnd, decide.StepReread:
		return w.clerk.giveUp(it, v)
	case decide.StepAbort:
		f := w.clerk.giveUp(it, v)
		w.lose(it.Pool, &target.HubError{Hub: w.pools[it.Pool].Name, Err: err})
		return f
	case decide.StepRetry:
		if w.pools[it.Pool].Pacer.Spares(p.Class(), err, &it.excuse, w.job().Retry.Attempts) {
			break
		}
		if it.spent++; it.spent >= w.job().Retry.Attempts {
			return w.clerk.giveUp(it, it.last)
		}
	case decide.StepWait:
	}
	if dispatch.Err() != nil {
		return w.clerk.stopped(it, context.Cause(dispatch))
	}
	w.putOff(it, p, err, renewed)
	return w.clerk.wait(it)
}

// rejection says what the device answered and what would have been success.
func rejection(status int, success spec.StatusSet) string {
	b := strconv.AppendInt([]byte("the device answered status "), int64(status), 10)
	b = append(b, ", success is "...)
	for i, r := range success {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, int64(r.From), 10)
		if r.To != r.From {
			b = strconv.AppendInt(append(b, '-'), int64(r.To), 10)
		}
	}
	return string(b)
}

// putOff says when an item is tried again whose last attempt ended in err.
func (w *worker) putOff(it *item, p decide.Phase, err *hub.Error, renewed bool) {
	least := err.Wait
	if err.Kind == hub.KindThrottled {
		least = max(least, decide.ThrottleFloor)
	}
	wait := decide.Backoff(w.job().Retry, max(1, len(it.history)), least, decide.Jitter)
	switch {
	case err.Kind == hub.KindOffline && w.policy.Offline == spec.OfflineWait:
		wait = max(decide.OfflineWait(w.job().Retry, max(1, it.attempts-it.before), decide.Jitter), least)
	case w.pools[it.Pool].Pacer.Holds(p.Class(), least):
		wait = 0 // whoever is in line waits for the hub
	case renewed:
		wait = err.Wait
	}
	it.due = clock.Now().Add(wait)
}

// makeWay puts off an item whose twin changes under our hands, so that whoever
// else writes it gets done.
func (w *worker) makeWay(dispatch context.Context, it *item) finished {
	it.last = decide.Verdict{Step: decide.StepReread, Outcome: spec.OutcomeFailed}
	if it.rereads > maxRereads {
		return w.clerk.giveUp(it, it.last)
	}
	if dispatch.Err() != nil {
		return w.clerk.stopped(it, context.Cause(dispatch))
	}
	it.due = clock.Now().Add(decide.Backoff(decide.ConflictBackoff(), it.rereads-1, 0, decide.Jitter))
	return w.clerk.wait(it)
}
