package runner

import (
	"fmt"
	"strings"

	"iothub-runner/internal/cohort"
	"iothub-runner/spec"
)

// misses are the targets of a job that did not end well, as stopWhen and
// tolerate count them.
type misses struct {
	failed     int // see spec.FailedOutcomes
	offline    int
	unanswered int // part of failed
	notReached int
}

// misses counts them. What an earlier run has settled is in the counters too.
func (j *jobRun) misses() misses {
	n := func(o spec.Outcome) int { return int(j.counters.outcomes[cohort.OutcomeIndex(o)].Load()) }
	m := misses{offline: n(spec.OutcomeOffline), unanswered: n(spec.OutcomeUnanswered), notReached: n(spec.OutcomeNotReached)}
	for _, o := range spec.FailedOutcomes() {
		m.failed += n(o)
	}
	return m
}

func (m misses) any() bool { return m.failed+m.offline+m.notReached > 0 }

// beyond returns why so many misses are too many for a job of so many targets;
// nil if the plan tolerates them. A call that may have run is never tolerated:
// somebody has to look.
func (m misses) beyond(t spec.Tolerate, targets int) error {
	if !m.any() {
		return nil
	}
	var parts []string
	if t != (spec.Tolerate{}) {
		if !t.Failed.Holds(m.failed, targets) {
			parts = append(parts, fmt.Sprintf("%d failed where tolerate.failed is %s", m.failed, t.Failed))
		}
		if !t.Offline.Holds(m.offline, targets) {
			parts = append(parts, fmt.Sprintf("%d offline where tolerate.offline is %s", m.offline, t.Offline))
		}
		if m.unanswered > 0 {
			parts = append(parts, fmt.Sprintf("%d unanswered, which is never tolerated", m.unanswered))
		}
	}
	if t != (spec.Tolerate{}) && len(parts) == 0 && m.notReached == 0 {
		return nil
	}
	text := fmt.Sprintf("%d of %d targets did not succeed", m.failed+m.offline+m.notReached, targets)
	if len(parts) > 0 {
		text += ": " + strings.Join(parts, ", ")
	}
	return fmt.Errorf("%s", text)
}

// tolerated says what a job that succeeded has let pass; empty if nothing. A
// green run must not hide it.
func (m misses) tolerated() string {
	switch {
	case m.failed > 0 && m.offline > 0:
		return fmt.Sprintf("%d failed and %d offline tolerated", m.failed, m.offline)
	case m.failed > 0:
		return fmt.Sprintf("%d failed tolerated", m.failed)
	case m.offline > 0:
		return fmt.Sprintf("%d offline tolerated", m.offline)
	}
	return ""
}
