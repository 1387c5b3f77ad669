package runner

import (
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
	"iothub-runner/spec"
)

// phase says what an attempt was doing when it went wrong, because that is
// what decides whether it may be done again.
type phase int

const (
	reading  phase = iota // a twin: nothing can have happened
	patching              // a twin: done twice is done once
	invoking              // a method: done twice is done twice
)

// class returns the throttle that attempts of a phase fall under.
func (p phase) class() pace.Class {
	return [...]pace.Class{reading: pace.TwinRead, patching: pace.TwinWrite, invoking: pace.Method}[p]
}

// policy is what a job says about attempts that do not work.
type policy struct {
	idempotent bool
	offline    spec.OfflinePolicy
}

// step is what to do after an attempt that did not work.
type step int

const (
	// stepEnd: the outcome stands.
	stepEnd step = iota
	// stepRetry: try again, if the job has attempts left; else the outcome stands.
	stepRetry
	// stepWait: try again without using up an attempt. The hub or the device
	// was not ready; it refused us, not the call.
	stepWait
	// stepReread: read the twin again and compute the patch anew.
	stepReread
	// stepAbort: no further call can work; the outcome stands and the run ends.
	stepAbort
)

// verdict is a step and the outcome that stands if nothing better follows.
type verdict struct {
	step    step
	outcome spec.Outcome
}

// decide is the one place that decides about retries.
func decide(kind hub.Kind, p phase, pol policy) verdict {
	switch kind {
	case hub.KindNotSent, hub.KindTokenExpired, hub.KindNotReady:
		return verdict{stepRetry, spec.OutcomeFailed}
	case hub.KindCancelled:
		return verdict{stepEnd, spec.OutcomeNotReached}
	case hub.KindInvalid, hub.KindForbidden, hub.KindNotFound, hub.KindConflict:
		return verdict{stepEnd, spec.OutcomeFailed}
	case hub.KindUnauthorized:
		return verdict{stepAbort, spec.OutcomeFailed}
	case hub.KindThrottled:
		return verdict{stepWait, spec.OutcomeFailed}
	case hub.KindPrecondition:
		return verdict{stepReread, spec.OutcomeFailed}
	case hub.KindOffline:
		return decideOffline(pol)
	case hub.KindNoAnswer, hub.KindServer, hub.KindCut, hub.KindBadAnswer:
		return decideUnknown(p, pol)
	}
	panic("a kind of error that decide does not know: " + kind.String())
}

func decideOffline(pol policy) verdict {
	switch pol.offline {
	case spec.OfflineSkip:
		return verdict{stepEnd, spec.OutcomeSkipped}
	case spec.OfflineWait:
		return verdict{stepWait, spec.OutcomeOffline}
	case spec.OfflineFail:
	}
	return verdict{stepRetry, spec.OutcomeOffline}
}

// decideUnknown decides when nobody knows whether the call had an effect.
func decideUnknown(p phase, pol policy) verdict {
	switch {
	case p == reading:
		return verdict{stepRetry, spec.OutcomeFailed}
	case p == patching, pol.idempotent:
		return verdict{stepRetry, spec.OutcomeUnanswered}
	}
	return verdict{stepEnd, spec.OutcomeUnanswered}
}

// atStop returns the outcome of a target that was to be tried again when its
// job ended. What was certain stays certain: a device that a deadline found
// offline is offline, and a call that may have run may have run. The rest was
// not reached.
func atStop(last verdict, cause error) spec.Outcome {
	if last.outcome == spec.OutcomeUnanswered || last.outcome == spec.OutcomeOffline && isDeadline(cause) {
		return last.outcome
	}
	return spec.OutcomeNotReached
}

// throttleFloor is the least time to stay away from a hub that said 429 without
// saying for how long.
const throttleFloor = time.Second
