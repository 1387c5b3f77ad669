package runner

import (
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/pace"
	"iothub-runner/spec"
)

// waiting is a target that is to be tried again later. There may be as many as
// the fleet has, for days, so all else that is known of one stands in the journal,
// as it does for a run that is resumed.
type waiting struct {
	due     int64  // when to try again, in nanoseconds since 1970
	index   uint32 // in the cohort
	tries   uint16 // attempts that this run has made
	spent   uint16 // as the item has it, like the rest
	rereads uint8
	strikes uint8
	expired bool
	unsure  bool
	away    bool
}

// waitingHeap holds them, the one that is before all others first.
type waitingHeap struct {
	all    []waiting
	before func(a, b waiting) bool
}

// byDue holds them by the time when they are due.
func byDue() waitingHeap {
	return waitingHeap{before: func(a, b waiting) bool { return a.due < b.due }}
}

// byHeard holds them by when the hub heard of them before the job, the latest
// first: who was there lately is likely to be there again. Of the others, who was
// due first is first.
func byHeard(h *heard) waitingHeap {
	return waitingHeap{before: func(a, b waiting) bool {
		if x, y := h.at(a.index), h.at(b.index); x != y {
			return x > y
		}
		return a.due < b.due
	}}
}

// heard is when the hub heard of the targets of a cohort, in seconds since 1970.
// It costs four bytes for each, so it is kept only by a job that waits for devices.
type heard []uint32

func (h *heard) note(index uint32, at time.Time) {
	if at.IsZero() {
		return
	}
	if missing := int(index) + 1 - len(*h); missing > 0 {
		*h = append(*h, make([]uint32, missing)...)
	}
	(*h)[index] = uint32(max(0, min(at.Unix(), math.MaxUint32)))
}

func (h *heard) at(index uint32) uint32 {
	if int(index) >= len(*h) {
		return 0 // never, or before it was listed by a run that this one goes on with
	}
	return (*h)[index]
}

// Len is for package heap, as are the other methods.
func (h *waitingHeap) Len() int { return len(h.all) }

// Less puts the target first that is to be tried first.
func (h *waitingHeap) Less(i, j int) bool { return h.before(h.all[i], h.all[j]) }

// Swap is for package heap.
func (h *waitingHeap) Swap(i, j int) { h.all[i], h.all[j] = h.all[j], h.all[i] }

// Push adds a target at the end.
func (h *waitingHeap) Push(x any) {
	if w, ok := x.(waiting); ok {
		h.all = append(h.all, w)
	}
}

// Pop removes the last target.
func (h *waitingHeap) Pop() any {
	last := h.all[len(h.all)-1]
	h.all = h.all[:len(h.all)-1]
	return last
}

// pop removes the first target.
func (h *waitingHeap) pop() waiting {
	w, _ := heap.Pop(h).(waiting)
	return w
}

// noteAway counts the targets that are offline and waited for: they are not in the
// way of a rollout's next wave.
func (l *lane) noteAway(done finished) {
	is := done.outcome == "" && done.confirm == nil && (done.away || done.last.Outcome == spec.OutcomeOffline && done.last.Step == decide.StepWait)
	switch {
	case is && !done.away:
		l.away++
		l.feed.ledger.counters.away.Add(1)
	case done.away && !is:
		l.away--
		l.feed.ledger.counters.away.Add(-1)
	}
	done.away = is
}

// small is n, or the most that there is room for: no bound is higher.
func small[T uint8 | uint16](n int) T { return T(min(n, int(^T(0)))) }

// dueAgain returns the target that is to be tried again first, of those whose time
// has come; else how long until then, 0 if there is none.
func (l *lane) dueAgain() (it *item, wait time.Duration, err error) {
	if l.again != nil {
		return l.again, 0, nil
	}
	for l.waiting.Len() > 0 {
		if wait = clock.Until(time.Unix(0, l.waiting.all[0].due)); wait > 0 {
			break
		}
		heap.Push(&l.ready, l.waiting.pop())
	}
	if l.ready.Len() == 0 {
		return nil, wait, nil
	}
	if l.again, err = l.feed.recall(l.ready.pop()); err != nil {
		return nil, 0, &JournalError{Err: err}
	}
	return l.again, 0, nil
}

// recall makes an item again of a target that waits.
func (f *feed) recall(w waiting) (*item, error) {
	e := f.ledger.roster.Cohort.At(w.index)
	it := &item{
		Key: f.ledger.roster.Cohort.Target(w.index), index: w.index, line: e.Position(), due: time.Unix(0, w.due),
		spent: int(w.spent), rereads: int(w.rereads), expired: w.expired, away: w.away, excuse: pace.Excuse{Strikes: int(w.strikes)},
	}
	it.was, _ = e.Reopened()
	if it.line == cohort.NoLine {
		return it, nil
	}
	if err := f.ledger.journal.Commit(it.line); err != nil {
		return nil, err
	}
	text, grown, err := journal.ReadRow(f.ledger.journal, it.line, f.scratch)
	if err != nil {
		return nil, err
	}
	f.scratch = grown
	row, err := parseRow(text, it)
	if err != nil {
		return nil, err
	}
	it.attempts, it.before, it.history = row.Attempts, row.Attempts-int(w.tries), row.History
	if row.StartedAt != nil {
		it.began = row.StartedAt.Time
	}
	if it.was != "" || row.Confirm != nil {
		it.row = row
	}
	if it.unsure = row.Outcome == spec.OutcomeUnanswered; it.unsure {
		it.doubt = row.Twin
	}
	it.noted = it.attempts
	if w.tries > 0 && len(it.history) > 0 {
		it.remember(row.Error, f.policy)
	}
	return it, nil
}

// parseRow reads the row of an item.
func parseRow(text []byte, it *item) (*spec.Row, error) {
	row := &spec.Row{}
	if err := json.Unmarshal(text, row); err != nil {
		return nil, fmt.Errorf("read journal: the row of %q: %w", it.DeviceID, err)
	}
	return row, nil
}

// remember takes from an item's history how its last attempt ended. Its error may
// stand in the row instead.
func (it *item) remember(e *spec.RowError, p decide.Policy) {
	last := &it.history[len(it.history)-1]
	if last.Error == nil {
		last.Error = e
	}
	it.excuse.At = last.StartedAt.Add(time.Duration(last.DurationMs) * time.Millisecond)
	it.last.Outcome = spec.OutcomeFailed
	if e = last.Error; e == nil {
		return
	}
	it.err = &hub.Error{Kind: hub.ParseKind(e.Kind), Code: e.Code, Name: e.Name, StatusCode: e.HTTPStatus, TrackingID: e.TrackingID, Message: e.Message}
	switch {
	case it.unsure:
		it.last.Outcome = spec.OutcomeUnanswered
	case it.err.Kind == hub.KindOffline:
		it.last = decide.WhenOffline(p)
	}
}

// settleWaiting settles what was to be tried again, for a job that ends by cause.
func (l *lane) settleWaiting(cause error) error {
	if l.again != nil {
		l.putBack(l.again)
		l.again = nil
	}
	var broken error
	for _, w := range slices.Concat(l.ready.all, l.waiting.all) {
		done, err := l.stopped(w, cause)
		if err != nil {
			return errors.Join(broken, &JournalError{Err: err})
		}
		if l.feed.ledger.enter(done); done.abort != nil && broken == nil {
			broken = done.abort
		}
	}
	l.ready.all, l.waiting.all = nil, nil
	return broken
}

// stopped settles one of them. The row in the journal stands, unless what is known
// of it tells more now that the job has ended.
func (l *lane) stopped(w waiting, cause error) (finished, error) {
	if isDeadline(cause) {
		it, err := l.feed.recall(w)
		if err != nil {
			return finished{}, err
		}
		done := l.feed.clerk.stopped(it, cause)
		done.item = it
		return done, nil
	}
	e := l.feed.ledger.roster.Cohort.At(w.index)
	done := finished{item: &item{Key: cohort.Key{Pool: l.pool}, index: w.index}, outcome: spec.OutcomeNotReached, line: e.Position()}
	if l.rest == spec.OutcomeFailed {
		done.outcome = l.rest
	}
	if was, again := e.Reopened(); again {
		done.outcome = was
	}
	if w.unsure {
		done.outcome = spec.OutcomeUnanswered
	}
	if l.rest == spec.OutcomeFailed && done.outcome == l.rest {
		l.feed.ledger.tally[l.pool].left++
	}
	return done, nil
}
