package runner

import (
	"context"
	"time"

	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// putOff says when an item is tried again whose last attempt ended in err.
func (w *worker) putOff(it *item, p decide.Phase, err *hub.Error, renewed bool) {
	least := err.Wait
	if err.Kind == hub.KindThrottled {
		least = max(least, decide.ThrottleFloor)
	}
	wait := decide.Backoff(w.Job.Retry, max(1, len(it.history)), least, decide.Jitter)
	switch {
	case err.Kind == hub.KindOffline && w.policy.Offline == spec.OfflineWait:
		wait = max(decide.OfflineWait(w.Job.Retry, max(1, it.attempts-it.before), decide.Jitter), least)
	case w.Pools[it.Pool].Pacer.Holds(p.Class(), least):
		wait = 0 // whoever is in line waits for the hub
	case renewed:
		wait = err.Wait
	}
	it.due = time.Now().Add(wait)
	it.shrink()
}

// makeWay puts off an item whose twin changes under our hands, so that whoever
// else writes it gets done.
func (w *worker) makeWay(dispatch context.Context, it *item) finished {
	it.last = decide.Verdict{Step: decide.StepReread, Outcome: spec.OutcomeFailed}
	if it.rereads > maxRereads {
		return w.giveUp(it, it.last)
	}
	if dispatch.Err() != nil {
		return w.stopped(dispatch, it)
	}
	it.due = time.Now().Add(decide.Backoff(decide.ConflictBackoff(), it.rereads-1, 0, decide.Jitter))
	it.shrink()
	return finished{}
}

// atStop returns the outcome of a target that was to be tried again when its
// job ended. What was certain stays certain: a device that a deadline found
// offline is offline, and a call that may have run may have run. The rest was
// not reached.
func atStop(last decide.Verdict, cause error) spec.Outcome {
	if last.Outcome == spec.OutcomeUnanswered || last.Outcome == spec.OutcomeOffline && isDeadline(cause) {
		return last.Outcome
	}
	return spec.OutcomeNotReached
}
