package runner

import (
	"context"
	"errors"
	"slices"
	"time"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/decide"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// feed brings the targets of a job: those that the listing brings, and those that
// were listed beforehand. It has a [lane] for each hub. It belongs to the loop of the
// job.
//
// It takes a page of a hub from the listing only when the one before has been handed
// out, so a fleet of any size passes through it a page at a time.
type feed struct {
	ledger *ledger
	policy decide.Policy
	clerk  clerk // for targets that are settled without being handed out
	lanes  []*lane
	turn   int // whose lane is the next to have something handed out

	pages       chan target.Page // from the listing
	listed      chan error       // how the listing ended; buffered, so that it never waits
	stopListing context.CancelCauseFunc
	cutListing  context.CancelCauseFunc // the same, but who belongs to the waves is still listed
	over        bool                    // the listing is over
	ended       error                   // and how, if not well
	stopping    bool                    // nothing is handed out any more

	collect bool               // hand out nothing before the listing is over
	look    func([]*item)      // finds out what the query index shows of some of one hub; nil if nobody wants to know
	looked  chan []*item       // by it; buffered, so that it never waits
	swept   chan sweep         // by the watches; buffered, so that they never wait
	rows    *journal.RowReader // of the past
	heard   heard              // of devices that may have to be waited for
	scratch []byte             // for reading those that wait
}

func newFeed(l *ledger, p decide.Policy) *feed {
	hubs := len(l.roster.Pools)
	f := &feed{
		ledger: l, policy: p, clerk: clerk{ledger: l},
		pages: make(chan target.Page), listed: make(chan error, 1),
		collect: l.roster.Job.Target.Expect != (spec.Expect{}) || l.pins != nil || l.roster.Job.Rollout != nil || l.byHub(),
		looked:  make(chan []*item, hubs), swept: make(chan sweep, hubs), rows: journal.NewRowReader(l.journal),
	}
	for pool := range hubs {
		f.lanes = append(f.lanes, newLane(f, pool))
	}
	return f
}

// empty tells whether nothing is to come any more.
func (f *feed) empty() bool {
	return f.over && !slices.ContainsFunc(f.lanes, func(l *lane) bool { return !l.empty() })
}

// next chooses what to hand out, of the hubs that somebody is free for; if nothing is
// due yet, it says how long until something is.
func (f *feed) next(free func(*lane) bool) (it *item, wait time.Duration, err error) {
	for i := range f.lanes {
		l := f.lanes[(f.turn+i)%len(f.lanes)]
		if l.ended != nil || !free(l) {
			continue
		}
		it, due, err := l.next()
		if it != nil || err != nil {
			return it, 0, err
		}
		wait = soonest(wait, due)
	}
	return nil, wait, nil
}

// handedOut notes that somebody has what next returned.
func (f *feed) handedOut(it *item) {
	f.turn = it.Pool + 1
	l := f.lanes[it.Pool]
	l.out++
	l.handedOut(it)
}

// takeLooked takes over targets that were looked up.
func (f *feed) takeLooked(items []*item) {
	l := f.lanes[items[0].Pool]
	l.looking = false
	l.page = append(l.page, items...)
}

// admit takes in the targets of a page that belong to the cohort.
func (f *feed) admit(p target.Page) error {
	l, lane := f.ledger, f.lanes[p.Pool]
	lane.owes = true
	defer lane.makeRoom()
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
	switch {
	case lane.closed:
		for i := range items {
			f.settleLost(lane, items[i].index)
		}
	case f.collect:
		if err := l.roster.TooMany(); err != nil {
			f.stopListing(err)
		}
	case !f.stopping: // or they stay as they are
		for i := range items {
			lane.page = append(lane.page, &items[i])
		}
	}
	return nil
}

// judgeListing holds the cohort against the plan and the pinned preview, and finds
// out who belongs to which wave.
func (f *feed) judgeListing(err error) (broken error) {
	l := f.ledger
	f.ended = l.roster.JudgeListing(err)
	if errors.Is(f.ended, target.ErrNoTargets) && (l.pins.any() || l.lostHubs() > 0) {
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
	for _, lane := range f.lanes {
		if f.collect {
			lane.limit = uint32(l.roster.Cohort.Size())
		}
		if f.ended != nil && f.collect {
			lane.cursor = lane.limit // nothing is sent to a cohort that is not as expected
		}
	}
	if _, fatal := target.AsFatal(f.ended); fatal && !f.stopping {
		return f.ended
	}
	if f.ended == nil && !l.whole {
		l.whole, l.listedHere = true, true
		l.roster.Cohort.Freeze()
		if l.unseen() != "" {
			return nil // it is listed again
		}
		return l.mark(journal.EventListed, "")
	}
	return nil
}
