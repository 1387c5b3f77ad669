package runner

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"time"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/spec"
)

// asleep is a device that is waited for until it is online. There may be as many
// as the fleet has, for days, so all that is known of it stays in the journal
// until it is tried again.
type asleep struct {
	due   int64            // when to try again, in nanoseconds since 1970
	line  journal.Position // of the row that tells of its attempts so far
	index uint32           // in the cohort
	spent uint16           // as of the item
}

// sleepers is a heap of them by the time when they are due.
type sleepers []asleep

// Len is for package heap, as are the other methods.
func (h sleepers) Len() int { return len(h) }

// Less puts the device first that is due first.
func (h sleepers) Less(i, j int) bool { return h[i].due < h[j].due }

// Swap is for package heap.
func (h sleepers) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push adds a device at the end.
func (h *sleepers) Push(x any) {
	if a, ok := x.(asleep); ok {
		*h = append(*h, a)
	}
}

// Pop removes the last device.
func (h *sleepers) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// maySleep tells whether an attempt that ended like that leaves nothing to be
// remembered but what the row of the item says.
func (it *item) maySleep(v decide.Verdict, err *hub.Error) bool {
	return err.Kind == hub.KindOffline && v.Step == decide.StepWait && !it.unsure
}

// putToBed lets go of an item whose row stands at f.asleep.
func (f *feed) putToBed(done finished) {
	heap.Push(&f.asleep, asleep{due: done.due.UnixNano(), line: done.asleep, index: done.index, spent: uint16(min(done.spent, 1<<16-1))})
}

// wake makes an item again of the device that is due first.
func (f *feed) wake() (*item, error) {
	a, _ := heap.Pop(&f.asleep).(asleep)
	return f.recall(a)
}

// recall reads what the journal knows of a device that is waited for.
func (f *feed) recall(a asleep) (*item, error) {
	e := f.ledger.roster.Cohort.At(a.index)
	it := &item{Key: f.ledger.roster.Cohort.Target(a.index), index: a.index, line: cohort.NoLine, spent: int(a.spent), due: time.Unix(0, a.due)}
	if was, again := e.Reopened(); again {
		if err := f.restore(it, was, e.Position()); err != nil {
			return nil, err
		}
	}
	if err := f.ledger.journal.Commit(a.line); err != nil {
		return nil, err
	}
	text, _, err := journal.ReadRow(f.ledger.journal, a.line, nil)
	if err != nil {
		return nil, err
	}
	var row spec.Row
	if err := json.Unmarshal(text, &row); err != nil {
		return nil, fmt.Errorf("read journal: the row of %q: %w", it.DeviceID, err)
	}
	it.attempts, it.began, it.history = row.Attempts, row.StartedAt.Time, row.History
	it.err, it.last = errOffline(&row), decide.WhenOffline(f.policy)
	return it, nil
}

// errOffline is what the hub answered to the last attempt that a row tells of.
// The history of a row leaves it out where the row itself says it.
func errOffline(row *spec.Row) *hub.Error {
	last := &row.History[len(row.History)-1]
	if last.Error == nil {
		last.Error = row.Error
	}
	e := &hub.Error{Kind: hub.KindOffline}
	if said := last.Error; said != nil {
		e.Code, e.Name, e.StatusCode, e.TrackingID, e.Message = said.Code, said.Name, said.HTTPStatus, said.TrackingID, said.Message
	}
	return e
}

// settleAsleep settles the devices that were waited for when the job ended by
// cause.
func (f *feed) settleAsleep(cause error) error {
	outcome := atStop(decide.WhenOffline(f.policy), cause)
	var broken error
	for _, a := range f.asleep {
		done := finished{item: &item{index: a.index}, outcome: outcome, line: a.line}
		if was, again := f.ledger.roster.Cohort.At(a.index).Reopened(); again && outcome == spec.OutcomeNotReached {
			done.outcome = was
		}
		if outcome != spec.OutcomeNotReached { // the row in the journal says that it was not reached
			it, err := f.recall(a)
			if err != nil {
				return &JournalError{Err: err}
			}
			done = f.clerk.giveUp(it, decide.Verdict{Step: decide.StepEnd, Outcome: outcome})
			done.item = it
		}
		if f.ledger.enter(done); done.abort != nil && broken == nil {
			broken = done.abort
		}
	}
	f.asleep = nil
	return broken
}
