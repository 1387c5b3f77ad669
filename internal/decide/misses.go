package decide

import (
	"fmt"
	"strings"

	"iothub-runner/spec"
)

// Misses are the targets of a job that did not end well, as stopWhen and
// tolerate count them.
type Misses struct {
	Failed     int // see spec.FailedOutcomes
	Offline    int
	unanswered int // part of failed
	NotReached int
}

// CountMisses counts them among the outcomes of a job.
func CountMisses(n func(spec.Outcome) int) Misses {
	m := Misses{Offline: n(spec.OutcomeOffline), unanswered: n(spec.OutcomeUnanswered), NotReached: n(spec.OutcomeNotReached)}
	for _, o := range spec.FailedOutcomes() {
		m.Failed += n(o)
	}
	return m
}

// Any tells whether there is a miss at all.
func (m Misses) Any() bool { return m.Failed+m.Offline+m.NotReached > 0 }

// Beyond returns why so many misses are too many for a job of so many targets;
// nil if the plan tolerates them. A call that may have run is never tolerated:
// somebody has to look.
func (m Misses) Beyond(t spec.Tolerate, targets int) error {
	if !m.Any() {
		return nil
	}
	var parts []string
	if t != (spec.Tolerate{}) {
		if !t.Failed.Holds(m.Failed, targets) {
			parts = append(parts, fmt.Sprintf("%d failed where tolerate.failed is %s", m.Failed, t.Failed))
		}
		if !t.Offline.Holds(m.Offline, targets) {
			parts = append(parts, fmt.Sprintf("%d offline where tolerate.offline is %s", m.Offline, t.Offline))
		}
		if m.unanswered > 0 {
			parts = append(parts, fmt.Sprintf("%d unanswered, which is never tolerated", m.unanswered))
		}
	}
	if t != (spec.Tolerate{}) && len(parts) == 0 && m.NotReached == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d targets did not succeed", m.Failed+m.Offline+m.NotReached, targets)
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return fmt.Errorf("%s", text)
}

// Tolerated says what a job that succeeded has let pass; empty if nothing. A
// green run must not hide it.
func (m Misses) Tolerated() string {
	switch {
	case m.Failed > 0 && m.Offline > 0:
		return fmt.Sprintf("%d failed and %d offline tolerated", m.Failed, m.Offline)
	case m.Failed > 0:
		return fmt.Sprintf("%d failed tolerated", m.Failed)
	case m.Offline > 0:
		return fmt.Sprintf("%d offline tolerated", m.Offline)
	}
	return ""
}

// StopError means that the rule of a rollout has stopped it.
type StopError struct {
	Rule  string // "failed" or "offline"
	Limit spec.Share
	Have  int // that failed, or were offline
	Done  int // of so many that are finished
}

// Error says what was counted and what the plan allows.
func (e *StopError) Error() string {
	what := "failed"
	if e.Rule == "offline" {
		what = "were offline"
		if e.Have == 1 {
			what = "was offline"
		}
	}
	return fmt.Sprintf("stopWhen.%s is %s: %d of %d finished devices %s", e.Rule, e.Limit, e.Have, e.Done, what)
}

// Stops returns why a rollout has to stop, nil if it may go on. A share is one of
// the devices that are finished; reaching it is enough, and nothing stops without
// a miss.
func (m Misses) Stops(s spec.StopWhen, done int) error {
	if done < s.MinDone {
		return nil
	}
	for _, r := range []struct {
		name  string
		limit *spec.Share
		have  int
	}{{"failed", s.Failed, m.Failed}, {"offline", s.Offline, m.Offline}} {
		if r.limit != nil && r.have > 0 && r.limit.Reached(r.have, done) {
			return &StopError{Rule: r.name, Limit: *r.limit, Have: r.have, Done: done}
		}
	}
	return nil
}
