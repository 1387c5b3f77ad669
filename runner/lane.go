package runner

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// lane says which target of one hub is next: one that is due again, one that the
// listing brought, or one that was listed beforehand. Each hub of a plan has its own,
// because one that takes no calls must not be in the way of the others.
type lane struct {
	feed *feed
	pool int

	page       []*item       // that are next
	room       chan struct{} // for a page of the listing; buffered, so that making room never waits
	owes       bool          // a page is here whose room was not given back
	order      []uint32      // of the cohort's targets, in a rollout; nil for that of the listing
	cursor     uint32        // in that order: up to here they were handed out
	limit      uint32        // and up to here they may be, or are not brought by a page
	looking    bool          // some are looked up
	away       int           // targets that are offline, and waited for
	watch      watch         // targets that are to report a change
	waiting    waitingHeap   // to be tried again
	ready      waitingHeap   // of those, who is due
	again      *item         // of those, one that is due
	listedNext bool          // it is the turn of those that were not handed out yet

	out    int           // items that somebody has
	called int           // of those, with workers
	losing sync.Once     // whoever finds first that the hub cannot be used
	lost   chan struct{} // closed by then
	loss   error         // set by then
	ended  error         // why nothing more is handed out; nil while something is
	rest   spec.Outcome  // of those that are left then
	closed bool          // nothing is out any more, and what was left is settled
}

func newLane(f *feed, pool int) *lane {
	l := &lane{feed: f, pool: pool, room: make(chan struct{}, 1), limit: f.ledger.resumed, waiting: byDue(), lost: make(chan struct{})}
	l.room <- struct{}{}
	l.ready = byHeard(&f.heard)
	l.watch = watch{lane: l, out: map[int]bool{}}
	return l
}

// empty tells whether nothing is to come any more of those that were listed.
func (l *lane) empty() bool {
	return l.closed || l.ended == nil && l.out == 0 && len(l.page) == 0 && l.again == nil && l.waiting.Len() == 0 && l.ready.Len() == 0 && !l.looking && l.watch.alive == 0
}

// next chooses what to hand out; if nothing is due yet, it says how long until
// something is. Targets that are due again and others take turns: those that
// fail over and over must not keep the others from ever being reached.
func (l *lane) next() (it *item, wait time.Duration, err error) {
	if it, err = l.watch.candidate(); it != nil || err != nil {
		return it, 0, err
	}
	again, wait, err := l.dueAgain()
	if err != nil || again != nil && !l.listedNext || l.feed.collect && !l.feed.over {
		return again, wait, err
	}
	if l.short() {
		if err := l.refill(); err != nil {
			return nil, 0, err
		}
	}
	if len(l.page) > 0 {
		return l.page[0], wait, nil
	}
	return again, wait, nil
}

// handedOut notes that somebody has what next returned.
func (l *lane) handedOut(it *item) {
	if it.proving {
		l.watch.handedOut()
		return
	}
	if l.listedNext = it == l.again; l.listedNext {
		l.again = nil
		return
	}
	l.page = l.page[1:]
	l.makeRoom()
}

// makeRoom lets the listing bring a page, if there is none to be handed out.
func (l *lane) makeRoom() {
	if l.owes && (len(l.page) == 0 || l.feed.collect || l.feed.stopping || l.ended != nil) {
		l.owes = false
		l.room <- struct{}{}
	}
}

// send hands a page of the listing to the loop, when that has room for it.
func (l *lane) send(ctx context.Context, p target.Page) error {
	if len(p.Rows) == 0 {
		return context.Cause(ctx)
	}
	clock.Rest()
	defer clock.Work()
	select {
	case <-l.room:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case l.feed.pages <- p:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// short tells whether it is time to take more of a cohort that was listed
// beforehand. Those that have to be looked up are taken while there are others.
func (l *lane) short() bool {
	few := 0
	if l.feed.look != nil {
		few = target.PageSize / 2
	}
	return len(l.page) <= few && !l.looking && l.cursor < l.limit
}

// worthALook is how many targets are looked up together at least: fewer are read
// one by one.
const worthALook = 10

// refill takes the next targets of a cohort that was listed beforehand.
func (l *lane) refill() error {
	var next []*item
	all, several := l.feed.ledger.roster.Cohort, len(l.feed.lanes) > 1
	for ; len(next) < target.PageSize && l.cursor < l.limit; l.cursor++ {
		index := l.cursor
		if l.order != nil {
			index = l.order[l.cursor]
		}
		if several && all.Pool(index) != l.pool {
			continue
		}
		it, err := l.feed.revive(index)
		if err != nil {
			return &JournalError{Err: err}
		}
		switch {
		case it == nil:
		case it.confirm != nil:
			l.watch.add(it, clock.Now())
		default:
			next = append(next, it)
		}
	}
	if l.feed.look == nil || len(next) < worthALook {
		l.page = append(l.page, next...)
		return nil
	}
	l.looking = true
	l.feed.look(next)
	return nil
}

// end ends the lane: nothing more is handed out. The first reason counts.
func (l *lane) end(why error, rest spec.Outcome) {
	if l.ended == nil {
		l.ended, l.rest = why, rest
		l.makeRoom()
	}
}

// lose notes that the hub cannot be used any more, from any goroutine.
func (l *lane) lose(err error) {
	l.losing.Do(func() {
		l.loss = err
		close(l.lost)
	})
}

// lossOf returns why the hub cannot be used any more; nil if it can.
func (l *lane) lossOf() error {
	select {
	case <-l.lost:
		return l.loss
	default:
		return nil
	}
}

// closeEnded settles what is left of the lanes that have ended, once nothing of
// theirs is out any more: a gate waits for it.
func (f *feed) closeEnded() error {
	for _, l := range f.lanes {
		if err := l.lossOf(); err != nil && f.ledger.lost[l.pool] == nil {
			f.ledger.lost[l.pool] = err
			l.end(err, spec.OutcomeFailed)
		}
		if l.ended == nil || l.closed || l.out > 0 || l.looking {
			continue
		}
		l.closed, l.page = true, nil
		l.watch.stop()
		if err := l.settleWaiting(l.ended); err != nil {
			return err
		}
		f.settleRest(l)
	}
	return nil
}

// settleRest settles the targets of a hub that cannot be used any more. The journal
// is not told: who goes on with the run has another go at them.
func (f *feed) settleRest(l *lane) {
	all := f.ledger.roster.Cohort
	for i := range uint32(all.Size()) {
		if l.rest == spec.OutcomeFailed && all.Pool(i) == l.pool && !all.At(i).Settled() {
			f.settleLost(l, i)
		}
	}
}

func (f *feed) settleLost(l *lane, index uint32) {
	o, line := f.ledger.outcomeOfRest(index, l.rest)
	f.ledger.enter(finished{item: &item{Key: cohort.Key{Pool: l.pool}, index: index}, outcome: o, line: line})
	if o == spec.OutcomeFailed {
		f.ledger.tally[l.pool].left++
	}
}

// putBack lets go of an item that is to be tried again when it is due.
func (l *lane) putBack(it *item) {
	l.feed.ledger.roster.Cohort.Wait(it.index, it.line)
	heap.Push(&l.waiting, waiting{
		due: it.due.UnixNano(), index: it.index, tries: small[uint16](it.attempts - it.before), spent: small[uint16](it.spent),
		rereads: small[uint8](it.rereads), strikes: small[uint8](it.excuse.Strikes), expired: it.expired, unsure: it.unsure, away: it.away,
	})
}
