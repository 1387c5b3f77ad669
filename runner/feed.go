package runner

import (
	"context"
	"errors"
	"time"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// feed says which target of a job is next: one that is due again, one that the
// listing brought, or one that was listed beforehand. It belongs to the loop of
// the job.
//
// It takes a page from the listing only when the one before has been handed
// out, so a fleet of any size passes through it a page at a time.
type feed struct {
	ledger *ledger
	policy decide.Policy
	clerk  clerk // for targets that are settled without being handed out

	pages       chan target.Page // from the listing
	listed      chan error       // how the listing ended; buffered, so that it never waits
	stopListing context.CancelCauseFunc
	over        bool  // the listing is over
	ended       error // and how, if not well
	stopping    bool  // nothing is handed out any more

	collect    bool               // hand out nothing before the listing is over
	page       []*item            // that the listing brought last
	cursor     uint32             // of the cohort: up to here its targets were handed out
	limit      uint32             // and up to here they are not brought by a page
	rows       *journal.RowReader // of the past
	waiting    waitingHeap        // to be tried again
	again      *item              // of those, one that is due
	scratch    []byte             // for reading them
	listedNext bool               // it is the turn of those that were not handed out yet
}

func newFeed(l *ledger, p decide.Policy) *feed {
	return &feed{
		ledger: l, policy: p, clerk: clerk{ledger: l},
		pages: make(chan target.Page), listed: make(chan error, 1),
		collect: l.roster.Job.Target.Expect != (spec.Expect{}) || l.pins != nil,
		limit:   l.resumed, rows: journal.NewRowReader(l.journal),
	}
}

// empty tells whether nothing is to come any more.
func (f *feed) empty() bool { return f.over && f.again == nil && len(f.waiting) == 0 }

// wanted is where pages come from, nil while none is wanted.
func (f *feed) wanted() <-chan target.Page {
	if len(f.page) == 0 || f.collect {
		return f.pages
	}
	return nil
}

// next chooses what to hand out; if nothing is due yet, it says how long until
// something is. Targets that are due again and others take turns: those that
// fail over and over must not keep the others from ever being reached.
func (f *feed) next() (it *item, wait time.Duration, err error) {
	again, wait, err := f.dueAgain()
	if err != nil || again != nil && !f.listedNext || f.collect && !f.over {
		return again, wait, err
	}
	if len(f.page) == 0 && f.cursor < f.limit {
		if err := f.refill(); err != nil {
			return nil, 0, err
		}
	}
	if len(f.page) > 0 {
		return f.page[0], wait, nil
	}
	return again, wait, nil
}

// handedOut notes that a worker has what next returned.
func (f *feed) handedOut(it *item) {
	if f.listedNext = it == f.again; f.listedNext {
		f.again = nil
		return
	}
	f.page = f.page[1:]
}

// refill takes the next targets of a cohort that was listed beforehand.
func (f *feed) refill() error {
	for len(f.page) < target.PageSize && f.cursor < f.limit {
		it, err := f.revive(f.cursor)
		if err != nil {
			return &JournalError{Err: err}
		}
		if it != nil {
			f.page = append(f.page, it)
		}
		f.cursor++
	}
	return nil
}

// admit takes in the targets of a page that belong to the cohort.
func (f *feed) admit(p target.Page) error {
	l := f.ledger
	items := make([]item, 0, len(p.Rows))
	l.roster.Take(p, func(row *hub.Row, key cohort.Key, index uint32) {
		items = append(items, item{Key: key, index: index, line: cohort.NoLine, sight: l.roster.Sight(row)})
	})
	if l.roster.Full() {
		f.stopListing(target.ErrLimit)
	}
	if len(items) == 0 {
		return nil
	}
	if err := l.list(items); err != nil {
		return err
	}
	if f.collect {
		if err := l.roster.TooMany(); err != nil {
			f.stopListing(err)
		}
		return nil
	}
	if f.stopping {
		return nil // they stay as they are
	}
	for i := range items {
		f.page = append(f.page, &items[i])
	}
	return nil
}

// endListing notes how the listing ended and holds the cohort against what the
// plan expects of it. An error ends the run.
func (f *feed) endListing(err error) error {
	l := f.ledger
	f.over = true
	var broken error
	f.ended = l.roster.JudgeListing(err)
	if errors.Is(f.ended, target.ErrNoTargets) && l.pins.any() {
		f.ended = nil // whoever was in the preview has left, and has a row that says so
	}
	if f.ended == nil && l.pins != nil {
		f.ended, broken = l.matchPins(&f.clerk)
	}
	if broken != nil {
		return broken
	}
	l.counters.whole.Store(f.ended == nil)
	if f.collect {
		f.limit = uint32(l.roster.Cohort.Size())
	}
	if f.ended != nil && f.collect {
		f.cursor = f.limit // nothing is sent to a cohort that is not as expected
	}
	if _, fatal := target.AsFatal(f.ended); fatal && !f.stopping {
		return f.ended
	}
	if f.ended == nil && !l.whole {
		l.whole, l.listedHere = true, true
		l.roster.Cohort.Freeze()
		return l.mark(journal.EventListed, "")
	}
	return nil
}
