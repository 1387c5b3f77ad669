// Package decide says what follows an attempt: whether it is made again, when, and
// what stands if it is not.
package decide

import (
	"errors"
	"time"

	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
	"iothub-runner/spec"
)

// Phase says what an attempt was doing when it went wrong, because that is
// what decides whether it may be done again.
type Phase int

// The phases.
const (
	Reading  Phase = iota // a twin: nothing can have happened
	Patching              // a twin: done twice is done once
	Invoking              // a method: done twice is done twice
)

// Class returns the throttle that attempts of a phase fall under.
func (p Phase) Class() pace.Class {
	return [...]pace.Class{Reading: pace.TwinRead, Patching: pace.TwinWrite, Invoking: pace.Method}[p]
}

// Policy is what a job says about attempts that do not work.
type Policy struct {
	Idempotent bool
	Offline    spec.OfflinePolicy
}

// Step is what to do after an attempt that did not work.
type Step int

// The steps.
const (
	// StepEnd: the outcome stands.
	StepEnd Step = iota
	// StepRetry: try again, if the job has attempts left; else the outcome stands.
	StepRetry
	// StepWait: try again without using up an attempt. The hub or the device
	// was not ready; it refused us, not the call.
	StepWait
	// StepReread: read the twin again and compute the patch anew.
	StepReread
	// StepAbort: no further call can work; the outcome stands and the run ends.
	StepAbort
)

// Verdict is a step and the outcome that stands if nothing better follows.
type Verdict struct {
	Step    Step
	Outcome spec.Outcome
}

// After is the one place that decides about retries.
func After(kind hub.Kind, p Phase, pol Policy) Verdict {
	switch kind {
	case hub.KindNotSent, hub.KindTokenExpired, hub.KindNotReady:
		return Verdict{StepRetry, spec.OutcomeFailed}
	case hub.KindCancelled:
		return Verdict{StepEnd, spec.OutcomeNotReached}
	case hub.KindInvalid, hub.KindForbidden, hub.KindNotFound, hub.KindConflict:
		return Verdict{StepEnd, spec.OutcomeFailed}
	case hub.KindUnauthorized:
		return Verdict{StepAbort, spec.OutcomeFailed}
	case hub.KindThrottled:
		return Verdict{StepWait, spec.OutcomeFailed}
	case hub.KindPrecondition:
		return Verdict{StepReread, spec.OutcomeFailed}
	case hub.KindOffline:
		return WhenOffline(pol)
	case hub.KindNoAnswer, hub.KindServer, hub.KindCut, hub.KindBadAnswer:
		return decideUnknown(p, pol)
	}
	panic("a kind of error that decide does not know: " + kind.String())
}

// WhenOffline decides about a device that is not online.
func WhenOffline(pol Policy) Verdict {
	switch pol.Offline {
	case spec.OfflineSkip:
		return Verdict{StepEnd, spec.OutcomeSkipped}
	case spec.OfflineWait:
		return Verdict{StepWait, spec.OutcomeOffline}
	case spec.OfflineFail:
	}
	return Verdict{StepRetry, spec.OutcomeOffline}
}

// decideUnknown decides when nobody knows whether the call had an effect.
func decideUnknown(p Phase, pol Policy) Verdict {
	switch {
	case p == Reading:
		return Verdict{StepRetry, spec.OutcomeFailed}
	case p == Patching, pol.Idempotent:
		return Verdict{StepRetry, spec.OutcomeUnanswered}
	}
	return Verdict{StepEnd, spec.OutcomeUnanswered}
}

// ThrottleFloor is the least time to stay away from a hub that said 429 without
// saying for how long.
const ThrottleFloor = time.Second

// AsHubError returns err as what every method of a Hub promises to return.
func AsHubError(err error) *hub.Error {
	if e, ok := errors.AsType[*hub.Error](err); ok {
		return e
	}
	return &hub.Error{Kind: hub.KindServer, Message: err.Error(), Err: err}
}
