package runner

import (
	"context"
	"errors"
	"time"

	"iothub-runner/internal/clock"
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
	cutListing  context.CancelCauseFunc // the same, but who belongs to the waves is still listed
	over        bool                    // the listing is over
	ended       error                   // and how, if not well
	stopping    bool                    // nothing is handed out any more

	collect    bool               // hand out nothing before the listing is over
	page       []*item            // that are next
	order      []uint32           // of the cohort's targets, in a rollout; nil for that of the listing
	cursor     uint32             // in that order: up to here they were handed out
	limit      uint32             // and up to here they may be, or are not brought by a page
	look       func([]*item)      // finds out what the query index shows of them; nil if nobody wants to know
	looked     chan []*item       // by it; buffered, so that it never waits
	looking    bool               // it is at work
	away       int                // targets that are offline, and waited for
	watch      watch              // targets that are to report a change
	rows       *journal.RowReader // of the past
	waiting    waitingHeap        // to be tried again
	ready      waitingHeap        // of those, who is due
	heard      heard              // of devices that may have to be waited for
	again      *item              // of those, one that is due
	scratch    []byte             // for reading them
	listedNext bool               // it is the turn of those that were not handed out yet
}

func newFeed(l *ledger, p decide.Policy) *feed {
	f := &feed{
		ledger: l, policy: p, clerk: clerk{ledger: l},
		pages: make(chan target.Page), listed: make(chan error, 1),
		collect: l.roster.Job.Target.Expect != (spec.Expect{}) || l.pins != nil || l.roster.Job.Rollout != nil || l.byHub(),
		looked:  make(chan []*item, 1), limit: l.resumed, rows: journal.NewRowReader(l.journal),
		waiting: byDue(),
	}
	f.ready = byHeard(&f.heard)
	f.watch = watch{feed: f, out: map[int]bool{}, swept: make(chan []glimpse, 1)}
	return f
}

// empty tells whether nothing is to come any more.
func (f *feed) empty() bool {
	return f.over && f.again == nil && f.waiting.Len() == 0 && f.ready.Len() == 0 && !f.looking && f.watch.alive == 0
}

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
	if it, err = f.watch.candidate(); it != nil || err != nil {
		return it, 0, err
	}
	again, wait, err := f.dueAgain()
	if err != nil || again != nil && !f.listedNext || f.collect && !f.over {
		return again, wait, err
	}
	if f.short() {
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
	if it.proving {
		f.watch.handedOut()
		return
	}
	if f.listedNext = it == f.again; f.listedNext {
		f.again = nil
		return
	}
	f.page = f.page[1:]
}

// short tells whether it is time to take more of a cohort that was listed
// beforehand. Those that have to be looked up are taken while there are others.
func (f *feed) short() bool {
	few := 0
	if f.look != nil {
		few = target.PageSize / 2
	}
	return len(f.page) <= few && !f.looking && f.cursor < f.limit
}

// worthALook is how many targets are looked up together at least: fewer are read
// one by one.
const worthALook = 10

// refill takes the next targets of a cohort that was listed beforehand.
func (f *feed) refill() error {
	var next []*item
	for len(next) < target.PageSize && f.cursor < f.limit {
		index := f.cursor
		if f.order != nil {
			index = f.order[f.cursor]
		}
		it, err := f.revive(index)
		if err != nil {
			return &JournalError{Err: err}
		}
		switch {
		case it == nil:
		case it.confirm != nil:
			f.watch.add(it, clock.Now())
		default:
			next = append(next, it)
		}
		f.cursor++
	}
	if f.look == nil || len(next) < worthALook {
		f.page = append(f.page, next...)
		return nil
	}
	f.looking = true
	f.look(next)
	return nil
}

// takeLooked takes over targets that were looked up.
func (f *feed) takeLooked(items []*item) {
	f.looking = false
	f.page = append(f.page, items...)
}

// admit takes in the targets of a page that belong to the cohort.
func (f *feed) admit(p target.Page) error {
	l := f.ledger
	if p.Wave > 0 {
		return l.listWave(p.Wave, l.roster.TakeWave(p))
	}
	items := make([]item, 0, len(p.Rows))
	l.roster.Take(p, func(row *hub.Row, key cohort.Key, index uint32) {
		f.heard.note(index, row.Seen)
		items = append(items, item{Key: key, index: index, line: cohort.NoLine, sight: l.roster.Sight(row)})
	})
	if l.roster.Full() {
		f.cutListing(target.ErrLimit)
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

// judgeListing holds the cohort against the plan and the pinned preview, and finds
// out who belongs to which wave.
func (f *feed) judgeListing(err error) (broken error) {
	l := f.ledger
	f.ended = l.roster.JudgeListing(err)
	if errors.Is(f.ended, target.ErrNoTargets) && l.pins.any() {
		f.ended = nil // whoever was in the preview has left, and has a row that says so
	}
	if f.ended == nil && l.pins != nil {
		f.ended, broken = l.matchPins(&f.clerk)
	}
	if broken == nil && f.ended == nil && !l.whole {
		if f.ended = l.roster.NameWaves(); f.ended == nil {
			broken = l.listNamedWaves()
		}
	}
	return broken
}

// endListing notes how the listing ended and holds the cohort against what the
// plan expects of it. An error ends the run.
func (f *feed) endListing(err error) error {
	l := f.ledger
	f.over = true
	if broken := f.judgeListing(err); broken != nil {
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
