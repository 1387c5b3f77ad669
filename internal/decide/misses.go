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
	offline    int
	unanswered int // part of failed
	NotReached int
}

// CountMisses counts them among the outcomes of a job.
func CountMisses(n func(spec.Outcome) int) Misses {
	m := Misses{offline: n(spec.OutcomeOffline), unanswered: n(spec.OutcomeUnanswered), NotReached: n(spec.OutcomeNotReached)}
	for _, o := range spec.FailedOutcomes() {
		m.Failed += n(o)
	}
	return m
}

// Any tells whether there is a miss at all.
func (m Misses) Any() bool { return m.Failed+m.offline+m.NotReached > 0 }

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
		if !t.Offline.Holds(m.offline, targets) {
			parts = append(parts, fmt.Sprintf("%d offline where tolerate.offline is %s", m.offline, t.Offline))
		}
		if m.unanswered > 0 {
			parts = append(parts, fmt.Sprintf("%d unanswered, which is never tolerated", m.unanswered))
		}
	}
	if t != (spec.Tolerate{}) && len(parts) == 0 && m.NotReached == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d targets did not succeed", m.Failed+m.offline+m.NotReached, targets)
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return fmt.Errorf("%s", text)
}

// Tolerated says what a job that succeeded has let pass; empty if nothing. A
// green run must not hide it.
func (m Misses) Tolerated() string {
	switch {
	case m.Failed > 0 && m.offline > 0:
		return fmt.Sprintf("%d failed and %d offline tolerated", m.Failed, m.offline)
	case m.Failed > 0:
		return fmt.Sprintf("%d failed tolerated", m.Failed)
	case m.offline > 0:
		return fmt.Sprintf("%d offline tolerated", m.offline)
	}
	return ""
}
