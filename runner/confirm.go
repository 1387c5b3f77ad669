package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/pace"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// kindUnconfirmed is the kind of error of a row whose device did not report the
// change.
const kindUnconfirmed = "unconfirmed"

// accept goes on with an item whose change was accepted: it ends here, or once
// the device reports it.
func (w *worker) accept(it *item, row *spec.Row, c *spec.Confirmation, reported json.RawMessage, latency time.Duration) finished {
	if c == nil {
		return w.clerk.settle(it, row, latency)
	}
	if row.Confirm = c; reported != nil { // a device may be quicker than the answer
		if p := target.Prove(reported, w.ledger.wantedOf(row), w.job().Confirm.Changed, c); p.Confirmed && !p.At.IsZero() {
			row.ConfirmedAt = &spec.Time{Time: p.At}
			f := w.clerk.settle(it, row, latency)
			f.applied = max(1, p.At.Sub(c.AcceptedAt.Time))
			return f
		}
	}
	done := *row
	w.ledger.closePin(it, &done) // the twin is as it will be
	row.Outcome = spec.OutcomeUnconfirmed
	row.Error = &spec.RowError{Kind: kindUnconfirmed, Message: "the job ended while it waited for the device to report the change"}
	line, err := w.clerk.write(it, row)
	if err != nil {
		return finished{outcome: row.Outcome, line: cohort.NoLine, abort: &JournalError{Err: err}}
	}
	it.row, it.line, it.confirm = row, line, c
	return finished{latency: latency}
}

// reportedFor returns what must be reported where that differs by device. An error
// means that its twin lacks a value that the plan fills in.
func (w *worker) reportedFor(it *item, s *target.Sight) (json.RawMessage, error) {
	rule := w.job().Confirm
	if rule == nil || rule.Template == nil {
		return nil, nil
	}
	d, err := w.ledger.roster.Device(it.Target, s)
	if err != nil {
		return nil, err
	}
	return rule.Template.Execute(d)
}

// confirmPatch returns what is waited for after a patch was accepted; nil if that
// is enough.
func (w *worker) confirmPatch(patch, wanted json.RawMessage, t hub.Twin) *spec.Confirmation {
	if !proofAsked(w.job().Confirm, &spec.Sections{Desired: patch}) {
		return nil
	}
	c := w.newConfirmation(target.LastUpdated(t.Desired), target.Version(t.Reported), t.Reported)
	c.DesiredVersion, c.Reported = target.Version(t.Desired), wanted
	return c
}

// newConfirmation begins to wait for what is reported later than at since.
func (w *worker) newConfirmation(since time.Time, version int64, reported json.RawMessage) *spec.Confirmation {
	rule, now := w.job().Confirm, clock.Now()
	return &spec.Confirmation{
		AcceptedAt: spec.Time{Time: now}, By: spec.Time{Time: now.Add(rule.Within)},
		Since: since, Version: version, Was: target.Values(reported, rule.Changed),
	}
}

// wantedOf is what must be reported for a row.
func (l *ledger) wantedOf(row *spec.Row) json.RawMessage {
	rule := l.roster.Job.Confirm
	switch {
	case row.Confirm.Reported != nil:
		return row.Confirm.Reported
	case rule.Reported != nil:
		return rule.Reported
	case len(rule.Changed) > 0:
		return nil
	case row.Twin != nil && row.Twin.Patch != nil:
		return row.Twin.Patch.Desired
	case l.roster.Job.Twin != nil:
		return l.roster.Job.Twin.Desired
	}
	return nil
}

// tryProof looks whether a device has reported the change. What the query index
// shows can only say yes; the last word is that of the twin itself.
func (w *worker) tryProof(dispatch context.Context, it *item) finished {
	last := it.sight == nil
	if last {
		s, err := w.readReported(dispatch, it)
		switch {
		case dispatch.Err() != nil:
			return finished{outcome: spec.OutcomeUnconfirmed, line: it.line}
		case err != nil:
			return w.unproven(it, "its twin could not be read: "+err.Error(), nil)
		}
		it.sight = s
	}
	proof := target.Prove(it.sight.Reported, w.ledger.wantedOf(it.row), w.job().Confirm.Changed, it.row.Confirm)
	late := proof.At.After(it.row.Confirm.By.Time)
	switch {
	case proof.Confirmed && !late:
		return w.proven(it, proof)
	case !last:
		it.sight = nil
		return finished{}
	case late:
		return w.unproven(it, "it was reported too late, at "+proof.At.UTC().Format(time.RFC3339), proof.Last)
	}
	return w.unproven(it, proof.Missing, proof.Last)
}

// readReported reads a twin as often as it takes.
func (w *worker) readReported(ctx context.Context, it *item) (*target.Sight, error) {
	s := &target.Sight{}
	err := w.ledger.roster.Read(ctx, it.Pool, pace.TwinRead, func(h target.Hub) error {
		t, err := h.Twin(ctx, it.Target)
		s.Reported = t.Reported
		return err
	})
	return s, err
}

// proven settles an item whose device has reported the change.
func (w *worker) proven(it *item, p target.Proof) finished {
	row := *it.row
	if p.At.IsZero() {
		p.At = clock.Now()
	}
	row.Outcome, row.ConfirmedAt, row.Error = spec.OutcomeSucceeded, &spec.Time{Time: p.At}, nil
	if row.Method == nil && (row.Twin == nil || row.Twin.Patch == nil) {
		row.Outcome = spec.OutcomeUnchanged // nothing was sent
	}
	f := w.conclude(it, &row)
	f.applied = max(1, row.ConfirmedAt.Sub(row.Confirm.AcceptedAt.Time))
	return f
}

// unproven settles an item whose device has not.
func (w *worker) unproven(it *item, why string, last json.RawMessage) finished {
	row := *it.row
	c := *row.Confirm
	c.Last = last
	row.Confirm = &c
	row.Error = &spec.RowError{Kind: kindUnconfirmed, Message: fmt.Sprintf("not reported within %v: %s", w.job().Confirm.Within, why)}
	return w.conclude(it, &row)
}

// conclude writes the last row of an item that was waited for.
func (w *worker) conclude(it *item, row *spec.Row) finished {
	row.EndedAt = &spec.Time{Time: clock.Now()}
	if row.Outcome == spec.OutcomeUnconfirmed && row.EndedAt.Before(row.Confirm.By.Time) {
		row.EndedAt = &row.Confirm.By // its time is over
	}
	line, err := w.clerk.write(it, row)
	if err != nil {
		return finished{outcome: row.Outcome, line: it.line, abort: &JournalError{Err: err}}
	}
	w.clerk.told()
	return finished{outcome: row.Outcome, line: line}
}

// waits tells whether a row is one of a device that is still waited for: a run
// that ended before the time was up has left it so.
func waits(row *spec.Row) bool {
	return row.Outcome == spec.OutcomeUnconfirmed && row.Confirm != nil && row.EndedAt != nil && row.EndedAt.Before(row.Confirm.By.Time)
}

// baseline reads what a device reports before a method is called whose effect is
// to show there. On false, the pass ends with f.
func (w *worker) baseline(dispatch context.Context, it *item) (s *target.Sight, f finished, ok bool) {
	if w.job().Confirm == nil {
		return nil, f, true
	}
	return w.readTwin(dispatch, it)
}

// confirmCall returns what is waited for after a device has answered; nil if that
// is enough.
func (w *worker) confirmCall(before *target.Sight, wanted json.RawMessage) *spec.Confirmation {
	if before == nil {
		return nil
	}
	since := target.LastUpdated(before.Reported)
	if !since.IsZero() {
		since = since.Add(1) // what was reported then was reported before
	}
	c := w.newConfirmation(since, target.Version(before.Reported), before.Reported)
	c.Reported = wanted
	return c
}

// proofAsked tells whether there is something to wait for after a patch of ours, or
// without one, which changes nothing.
func proofAsked(rule *spec.Confirm, patch *spec.Sections) bool {
	switch {
	case rule == nil:
		return false
	case patch == nil:
		return len(rule.Changed) == 0
	}
	return patch.Desired != nil || rule.Reported != nil || rule.Template != nil || len(rule.Changed) > 0
}

// confirmAsWanted goes on with a twin that needs no patch of this pass: what is
// waited for may be reported already.
func (w *worker) confirmAsWanted(it *item, row *spec.Row, s *target.Sight) finished {
	rule, mine := w.job().Confirm, row.Twin.Patch != nil
	if !proofAsked(rule, row.Twin.Patch) {
		return w.clerk.settle(it, row, s.Took)
	}
	c := w.newConfirmation(time.Time{}, 0, s.Reported)
	if mine { // whenever that was: what was reported after the last change counts
		c.Since = target.LastUpdated(s.Desired)
		if was := it.row; was != nil && was.Confirm != nil {
			c.Since, c.Version, c.DesiredVersion, c.Was = was.Confirm.Since, was.Confirm.Version, was.Confirm.DesiredVersion, was.Confirm.Was
		}
	}
	reported, err := w.reportedFor(it, s)
	if err != nil {
		return w.cannotFill(it, err)
	}
	c.Reported, row.Confirm = reported, c
	wanted := w.ledger.wantedOf(row)
	if proof := target.Prove(s.Reported, wanted, rule.Changed, c); proof.Confirmed {
		if mine {
			row.ConfirmedAt = &spec.Time{Time: proof.At}
		} else {
			row.Confirm = nil
		}
		return w.clerk.settle(it, row, s.Took)
	}
	if !mine {
		c.Version = target.Version(s.Reported)
	}
	return w.accept(it, row, c, nil, s.Took)
}
