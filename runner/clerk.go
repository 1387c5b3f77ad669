package runner

import (
	"encoding/json"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// clerk writes into the journal what happens to the targets of a job. Each
// belongs to one goroutine.
type clerk struct {
	ledger *ledger
	line   []byte // scratch for journal lines
	row    []byte // scratch for rows
}

// intent journals that an attempt is about to be made, and returns once that
// will survive us. A record written afterwards could not tell "never sent" from
// "sent, then forgotten".
func (c *clerk) intent(i journal.Intent, it *item) error {
	i.Job, i.Target = c.ledger.roster.Job.Name, it.Journal()
	c.line = i.Append(c.line[:0])
	at, err := c.ledger.journal.Append(c.line)
	if err == nil {
		err = c.ledger.journal.Commit(at)
	}
	return err
}

// wait journals where an item stands that is to be tried again. Without it the
// intent would stand alone for as long as the item waits, and a kill in that time
// would leave a device in doubt that was never called. Nobody waits for the line:
// the next intent comes after it. A device that was offline may be waited for over
// days, so of its attempts the line tells how many there were, and the last.
func (c *clerk) wait(it *item) finished {
	if it.attempts == it.noted {
		return finished{} // there is nothing new to tell
	}
	outcome := spec.OutcomeNotReached
	if it.unsure {
		outcome = spec.OutcomeUnanswered
	}
	row := c.newRow(it, outcome)
	row.History = it.history
	if row.Outcome == outcome {
		row.Error = rowError(it.err)
	}
	if it.unsure {
		row.Twin = it.doubt
	}
	if it.err.Kind == hub.KindOffline && c.ledger.roster.Job.Offline == spec.OfflineWait {
		last := it.history[len(it.history)-1]
		if row.Outcome == outcome {
			last.Error = nil // once is enough
		}
		row.History = []spec.Attempt{last}
	}
	line, err := c.write(it, row)
	if err != nil {
		return c.broken(it, err)
	}
	it.line, it.noted = line, it.attempts
	return finished{}
}

// giveUp settles an item with the outcome that stands. A device that may have
// acted on an earlier attempt may have acted, whatever became of the later ones.
func (c *clerk) giveUp(it *item, v decide.Verdict) finished {
	outcome := v.Outcome
	if it.unsure {
		outcome = spec.OutcomeUnanswered
	}
	row := c.newRow(it, outcome)
	row.History = it.history
	if row.Outcome != outcome {
		return c.settle(it, row, 0) // as it ended before
	}
	if it.err != nil {
		row.Error = rowError(it.err)
	}
	row.Twin = it.doubt
	return c.settle(it, row, 0)
}

// untouched leaves an item as it was before this run, which has done nothing
// for it.
func (it *item) untouched() finished {
	outcome := it.was
	if outcome == "" {
		outcome = spec.OutcomeNotReached
	}
	return finished{outcome: outcome, line: it.line}
}

// stopped settles an item whose job ended before its next attempt.
func (c *clerk) stopped(it *item, cause error) finished {
	if it.attempts == it.before {
		return it.untouched()
	}
	return c.giveUp(it, decide.Verdict{Step: decide.StepEnd, Outcome: atStop(it.last, cause)})
}

// broken ends the run: what cannot be recorded is not sent.
func (c *clerk) broken(it *item, err error) finished {
	abort := &JournalError{Err: err}
	if it.attempts == it.before {
		f := it.untouched()
		f.abort = abort
		return f
	}
	f := c.giveUp(it, decide.Verdict{Step: decide.StepEnd, Outcome: atStop(it.last, abort)})
	f.abort = abort
	return f
}

// newRow begins the row of an item that ends now. An item that was not reached
// again by a run that was to do it over keeps how it ended before.
func (c *clerk) newRow(it *item, o spec.Outcome) *spec.Row {
	began, ended := spec.Time{Time: it.began}, spec.Time{Time: clock.Now()}
	if it.began.IsZero() {
		began = ended // no request was needed
	}
	row := &spec.Row{DeviceID: it.DeviceID, ModuleID: it.ModuleID, Outcome: o, StartedAt: &began}
	if o == spec.OutcomeNotReached && it.row != nil {
		*row = *it.row
	}
	row.EndedAt, row.Attempts = &ended, it.attempts
	if len(c.ledger.roster.Pools) > 1 {
		row.Hub = c.ledger.roster.Pools[it.Pool].Name
	}
	if it.attempts > 1 {
		row.History = it.history
	}
	return row
}

// write journals a row.
func (c *clerk) write(it *item, row *spec.Row) (journal.Position, error) {
	c.row = appendRow(c.row[:0], c.ledger.mask.Row(row))
	c.line = journal.Result{Job: c.ledger.roster.Job.Name, Target: it.Journal(), Row: c.row}.Append(c.line[:0])
	return c.ledger.journal.Append(c.line)
}

// settle journals the row of an item that has ended. If the journal is broken the outcome still stands:
// only the row's details are lost.
func (c *clerk) settle(it *item, row *spec.Row, latency time.Duration) finished {
	f := finished{outcome: row.Outcome, latency: latency}
	at, err := c.write(it, row)
	c.ledger.closePin(it, row)
	if err != nil {
		at, f.abort = cohort.NoLine, &JournalError{Err: err}
	}
	f.line = at
	c.told()
	return f
}

// told tells who wants to know of the row that was written last, which ends its target.
func (c *clerk) told() {
	if l := c.ledger; l.rowEnded != nil {
		l.rowEnded(l.roster.Job.Name, c.row)
	}
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

func sections(s *spec.Sections) json.RawMessage { return appendSections(nil, s) }
