package runner

import (
	"encoding/json"
	"fmt"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// What keeps a device from being touched by the run of a pinned preview, as the
// kind of its row's error.
const (
	kindChanged = "changedSincePreview"
	kindJoined  = "joinedSincePreview"
	kindLeft    = "leftSincePreview"
)

// pins is what a run of a pinned preview has for one job. It is nil in any
// other run.
type pins struct {
	*pinnedTwins
	job          string
	expect       spec.Expect
	joined, left int
}

// pinTo binds the job to the devices of a pinned preview. All that the target
// selects is listed, so that it shows who joined and who left; a target that
// was cut off at a limit says nothing about the others, and they stay out.
func (l *ledger) pinTo(p *pinnedTwins) {
	l.pins = &pins{pinnedTwins: p, job: l.roster.Job.Name, expect: l.roster.Job.Target.Expect}
	if t := l.roster.Job.Target; t.Limit > 0 || t.Top > 0 {
		l.roster.Only = func(t cohort.Key) bool { return l.pins.has(t) }
	}
	l.roster.Overwrites = false // a pinned twin is patched as it was previewed, whatever the plan says
	unbounded := *l.roster.Job
	unbounded.Target.Limit, unbounded.Target.Top, unbounded.Target.Expect = 0, 0, spec.Expect{}
	l.roster.Job = &unbounded
}

func (p *pins) has(t cohort.Key) bool {
	i, known := p.Index(t)
	return known && p.Has(p.job, i)
}

// any tells whether the preview has devices for the job.
func (p *pins) any() bool {
	return p != nil && !p.Empty(p.job)
}

// matchPins holds a cohort that is listed in full against the preview. Whoever
// joined or left the target since is settled: it is not touched. Unmet says that
// too few are left to be touched.
func (l *ledger) matchPins(c *clerk) (unmet, broken error) {
	all, p := l.roster.Cohort, l.pins
	listed := uint32(all.Size())
	touched := 0
	for i := range listed {
		if key := all.Target(i); p.has(key) {
			touched++
		} else if left, err := l.leaveAlone(c, &item{Key: key, index: i}, kindJoined, "it was not in the preview; it has joined the target since"); err != nil {
			return nil, err
		} else if left {
			p.joined++
		}
	}
	var left []item
	for i := range uint32(p.Devices()) {
		if !p.Has(p.job, i) {
			continue
		}
		key := p.Device(i)
		if index, known := all.Add(key); !known {
			left = append(left, item{Key: key, index: index})
		}
	}
	if len(left) > 0 {
		if err := l.list(left); err != nil {
			return nil, err
		}
	}
	for i := range left {
		if _, err := l.leaveAlone(c, &left[i], kindLeft, "it was in the preview; it is not in the target any more"); err != nil {
			return nil, err
		}
	}
	p.left = len(left)
	if e := p.expect; touched < e.Min {
		return &target.ExpectError{Min: e.Min, Max: e.Max, Have: touched}, nil
	}
	return nil, nil
}

// leaveAlone settles a target that the run may not touch, unless an earlier run
// has settled it.
func (l *ledger) leaveAlone(c *clerk, it *item, kind, why string) (left bool, broken error) {
	if _, settled := l.roster.Cohort.At(it.index).Outcome(); settled {
		return false, nil
	}
	row := &spec.Row{DeviceID: it.DeviceID, ModuleID: it.ModuleID, Outcome: spec.OutcomeSkipped}
	if len(l.roster.Pools) > 1 {
		row.Hub = l.roster.Pools[it.Pool].Name
	}
	row.Error = &spec.RowError{Kind: kind, Message: why}
	f := c.settle(it, row, 0)
	f.item = it
	l.enter(f)
	return true, f.abort
}

// pinPoll is how often a job looks again at a twin that another job of the run
// is patching.
const pinPoll = 100 * time.Millisecond

// heldToPin compares a twin with the preview. It is true when that ends the
// pass: somebody else has changed the twin, or a patch of this run is under way
// and nobody can say. Such a patch ends, so the wait for it does.
func (w *worker) heldToPin(it *item, s *target.Sight) (finished, bool) {
	if w.ledger.pins == nil {
		return finished{}, false
	}
	i, _ := w.ledger.pins.Index(it.Key)
	state := w.ledger.pins.compare(i, w.job().Name, s)
	if it.doubt != nil && !w.ledger.pins.mayHave(i, w.job().Name) { // another patch of ours came before it
		it.doubt, it.unsure = nil, false
	}
	switch {
	case state == pinKept:
		return finished{}, false
	case state == pinOpen:
		it.attempts--
		it.due = clock.Now().Add(pinPoll)
		return w.clerk.wait(it), true
	case it.unsure:
		it.attempts-- // nothing was sent in this pass
		return w.clerk.giveUp(it, decide.Verdict{Step: decide.StepEnd, Outcome: spec.OutcomeUnanswered}), true
	}
	row := w.clerk.newRow(it, spec.OutcomeSkipped)
	row.Error = &spec.RowError{
		Kind:    kindChanged,
		Message: fmt.Sprintf("its twin has changed since the preview: the etag was %q and is %q", w.ledger.pins.etag(i), s.ETag),
	}
	row.History = it.history
	return w.clerk.settle(it, row, 0), true
}

// heldToPayload compares what would be sent with what the preview showed. It is
// true when that ends the pass.
func (w *worker) heldToPayload(it *item, payload json.RawMessage) (finished, bool) {
	if w.ledger.pins == nil {
		return finished{}, false
	}
	i, _ := w.ledger.pins.Index(it.Key)
	if w.ledger.pins.SamePayload(w.job().Name, i, payload) {
		return finished{}, false
	}
	if it.unsure {
		return w.clerk.giveUp(it, decide.Verdict{Step: decide.StepEnd, Outcome: spec.OutcomeUnanswered}), true
	}
	row := w.clerk.newRow(it, spec.OutcomeSkipped)
	row.Error = &spec.RowError{Kind: kindChanged, Message: "what would be sent to it has changed since the preview, with its twin"}
	row.History = it.history
	return w.clerk.settle(it, row, 0), true
}

// openPin notes that the item's twin is about to be patched.
func (l *ledger) openPin(it *item, s *target.Sight, patch *spec.Sections) {
	if l.pins != nil {
		i, _ := l.pins.Index(it.Key)
		l.pins.sending(i, l.roster.Job.Name, s.ETag, patch)
	}
}

// answerPin notes that a patch was not accepted, or that nobody knows.
func (l *ledger) answerPin(it *item, v decide.Verdict) {
	if l.pins != nil {
		i, _ := l.pins.Index(it.Key)
		l.pins.notAccepted(i, l.roster.Job.Name, v.Outcome == spec.OutcomeUnanswered)
	}
}

// closePin notes what became of a twin, once that is in the journal: no intent
// of another job may build on a change before it.
func (l *ledger) closePin(it *item, row *spec.Row) {
	if l.pins == nil || l.roster.Job.Twin == nil {
		return
	}
	var left *spec.TwinResult
	if row.Outcome == spec.OutcomeSucceeded {
		left = row.Twin
	}
	i, known := l.pins.Index(it.Key)
	if known { // who joined since has no pin
		l.pins.ended(i, l.roster.Job.Name, left, row.Outcome == spec.OutcomeUnanswered)
	}
}

// note says who joined and who left; empty if nobody did.
func (p *pins) note() string {
	if p == nil || p.joined+p.left == 0 {
		return ""
	}
	who := fmt.Sprintf("%d joined the target and %d left it", p.joined, p.left)
	switch {
	case p.left == 0:
		who = fmt.Sprintf("%d joined the target", p.joined)
	case p.joined == 0:
		who = fmt.Sprintf("%d left the target", p.left)
	}
	return "since the preview " + who + "; they were not touched"
}
