package runner

import (
	"context"
	"math/rand/v2"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/spec"
)

// backoff returns how long to wait after the nth attempt that did not work:
// exponential with full jitter, so that a fleet which failed together does not
// come back together. No wait is shorter than what the hub asked for.
func backoff(r spec.Retry, n int, hint time.Duration, random func(time.Duration) time.Duration) time.Duration {
	ceiling := r.MaxBackoff
	if shift := n - 1; r.Backoff <= ceiling>>shift { // shifted the other way it could overflow
		ceiling = r.Backoff << shift
	}
	return max(random(ceiling), hint)
}

// jitter returns a random duration up to and including d.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1)
}

// putOff says when an item is tried again whose last attempt ended in err.
func (w *worker) putOff(it *item, p phase, err *hub.Error, renewed bool) {
	least := err.Wait
	if err.Kind == hub.KindThrottled {
		least = max(least, throttleFloor)
	}
	wait := backoff(w.job.Retry, max(1, len(it.history)), least, jitter)
	switch {
	case err.Kind == hub.KindOffline && w.policy.offline == spec.OfflineWait:
		wait = max(offlineWait(w.job.Retry, max(1, it.attempts-it.before), jitter), least)
	case w.pools[it.Pool].pacer.Holds(p.class(), least):
		wait = 0 // whoever is in line waits for the hub
	case renewed:
		wait = err.Wait
	}
	it.due = time.Now().Add(wait)
	it.shrink()
}

// conflictBackoff is how those wait whose twin changes under their hands.
func conflictBackoff() spec.Retry {
	return spec.Retry{Backoff: 50 * time.Millisecond, MaxBackoff: 5 * time.Second}
}

// makeWay puts off an item whose twin changes under our hands, so that whoever
// else writes it gets done.
func (w *worker) makeWay(dispatch context.Context, it *item) finished {
	it.last = verdict{stepReread, spec.OutcomeFailed}
	if it.rereads > maxRereads {
		return w.giveUp(it, it.last)
	}
	if dispatch.Err() != nil {
		return w.stopped(dispatch, it)
	}
	it.due = time.Now().Add(backoff(conflictBackoff(), it.rereads-1, 0, jitter))
	it.shrink()
	return finished{}
}
