package runner

import (
	"context"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/target"
	"iothub-runner/spec"
)

// watched is a target whose change was accepted and that has not reported it yet.
// There may be as many as the fleet has; all else that is known of one stands in
// its row in the journal.
type watched struct {
	by      int64  // how long it is waited for, in nanoseconds since 1970
	index   uint32 // in the cohort; gone once it has ended
	version uint32 // of its reported properties when it was looked at last, the low bits
}

const gone = ^uint32(0)

// lowBits is what is kept of a version: enough to see that it is another one.
func lowBits(version int64) uint32 { return uint32(version) } //nolint:gosec // that is what it does

// watch waits for devices to report a change. From time to time it sweeps over all
// of them with queries, a hundred devices in each; who may have reported is looked
// at by a worker, and so is who has run out of time. It belongs to the loop of the
// job.
type watch struct {
	lane *lane
	ask  func(round int, some []watched) // queries some, and sends who may have reported to the feed

	all      []watched
	alive    int
	cursor   int          // of the sweep that is under way
	sweeping bool         // a query is under way
	round    int          // how often places were given anew
	found    []glimpse    // to be handed to workers
	pending  *item        // the first of them
	out      map[int]bool // that are with workers, by their places
	next     time.Time    // when the next sweep begins, if none is under way
	interval time.Duration
	earliest int64 // when the first of them runs out of time
	checked  time.Time
}

// glimpse is a target that may have ended; its reported properties are nil if its
// time has run out.
type glimpse struct {
	at       int // its place in all
	reported *target.Sight
}

const (
	firstSweep = time.Second
	lastSweep  = time.Minute
	checkEvery = 100 * time.Millisecond
)

// add begins to wait for an item.
func (w *watch) add(it *item, now time.Time) {
	if w.alive == 0 { // places are given anew: what is known of the old ones is of nobody here
		w.all, w.found, w.cursor, w.interval = w.all[:0], w.found[:0], 0, w.first()
		w.next, w.earliest = now.Add(w.interval), 0
		w.round++
	}
	by := it.confirm.By.UnixNano()
	w.all = append(w.all, watched{by: by, index: it.index, version: lowBits(it.confirm.Version)})
	w.alive++
	w.lane.feed.ledger.counters.watched.Add(1)
	if w.earliest == 0 || by < w.earliest {
		w.earliest = by
	}
	w.lane.feed.ledger.roster.Cohort.Wait(it.index, it.line)
}

// first is how soon to look after the first change: a device that is quick need not
// wait, and one that has little time is looked at more than once.
func (w *watch) first() time.Duration {
	return min(firstSweep, w.lane.feed.ledger.roster.Job.Confirm.Within/4)
}

// advance does what is due, and says how long until something is; 0 if nothing is
// waited for.
func (w *watch) advance(now time.Time) (wait time.Duration) {
	if w.alive == 0 {
		return 0
	}
	if w.expire(now) {
		return 1 // they are to be handed out
	}
	if !w.sweeping && (w.cursor > 0 || !now.Before(w.next)) {
		w.sweep(now)
	}
	wait = max(time.Unix(0, w.earliest).Sub(now), w.checked.Add(checkEvery).Sub(now), 1)
	if !w.sweeping {
		wait = min(wait, max(w.next.Sub(now), 1))
	}
	return wait
}

// expire finds those whose time has run out, and tells whether there are any.
func (w *watch) expire(now time.Time) (found bool) {
	if now.UnixNano() < w.earliest || now.Sub(w.checked) < checkEvery {
		return false
	}
	w.checked, w.earliest = now, 0
	for i := range w.all {
		switch t := &w.all[i]; {
		case t.index == gone || t.by == 0:
		case t.by <= now.UnixNano():
			w.found = append(w.found, glimpse{at: i})
			t.by, found = 0, true // it is found
		case w.earliest == 0 || t.by < w.earliest:
			w.earliest = t.by
		}
	}
	if w.earliest == 0 {
		w.earliest = now.Add(lastSweep).UnixNano()
	}
	return found
}

// sweep asks for the next of them, or ends the sweep.
func (w *watch) sweep(now time.Time) {
	var some []watched
	for ; w.cursor < len(w.all) && len(some) < target.PageSize; w.cursor++ {
		if t := w.all[w.cursor]; t.index != gone && t.by != 0 {
			t.by = int64(w.cursor) // its place, for who answers
			some = append(some, t)
		}
	}
	if len(some) > 0 {
		w.sweeping = true
		w.ask(w.round, some)
		return
	}
	w.compact()
	w.cursor, w.next = 0, now.Add(w.interval)
	w.interval = min(w.interval*3/2, lastSweep, max(w.first(), w.lane.feed.ledger.roster.Job.Confirm.Within/10))
}

// compact forgets those that have ended, if nobody knows their places.
func (w *watch) compact() {
	if w.alive > len(w.all)/2 || len(w.found) > 0 || w.pending != nil || len(w.out) > 0 {
		return
	}
	kept := w.all[:0]
	for _, t := range w.all {
		if t.index != gone {
			kept = append(kept, t)
		}
	}
	w.all = kept
}

// sweep is what a query showed of those of a hub that are waited for.
type sweep struct {
	pool  int
	round int
	found []glimpse
}

// takeSwept takes over who may have reported.
func (f *feed) takeSwept(s sweep) {
	w := &f.lanes[s.pool].watch
	w.sweeping = false
	if w.alive == 0 || w.round != s.round {
		return // all have ended meanwhile, and perhaps others begun
	}
	for _, g := range s.found {
		if t := &w.all[g.at]; t.index != gone && t.by != 0 {
			t.version = lowBits(target.Version(g.reported.Reported))
			w.found = append(w.found, g)
		}
	}
}

// candidate returns the next one that a worker is to look at; nil if there is none.
func (w *watch) candidate() (*item, error) {
	for range w.found {
		if w.pending != nil {
			break
		}
		g := w.found[0]
		w.found = w.found[1:]
		t := w.all[g.at]
		switch {
		case t.index == gone, w.out[g.at] && g.reported != nil:
			continue
		case w.out[g.at]: // its last word comes after that
			w.found = append(w.found, g)
			continue
		}
		it, err := w.lane.feed.recall(waiting{index: t.index})
		if err != nil {
			return nil, &JournalError{Err: err}
		}
		it.sight, it.watched, it.confirm, it.proving = g.reported, g.at, it.row.Confirm, true
		w.pending = it
	}
	return w.pending, nil
}

// handedOut notes that a worker looks at the candidate.
func (w *watch) handedOut() {
	w.out[w.pending.watched] = true
	w.pending = nil
}

// returned takes back an item that a worker has looked at.
func (w *watch) returned(done finished) {
	delete(w.out, done.watched)
	if done.outcome != "" {
		w.all[done.watched].index = gone
		w.alive--
		w.lane.feed.ledger.counters.watched.Add(-1)
	}
}

// stop settles all that are waited for, for a job that ends: their rows stand.
func (w *watch) stop() {
	for _, t := range w.all {
		if t.index == gone {
			continue
		}
		line := w.lane.feed.ledger.roster.Cohort.At(t.index).Position()
		w.lane.feed.ledger.enter(finished{item: &item{Key: cohort.Key{Pool: w.lane.pool}, index: t.index}, outcome: spec.OutcomeUnconfirmed, line: line})
	}
	w.all, w.alive, w.found, w.pending = nil, 0, nil, nil
}

// advanceWatches does what is due in each lane, and says how long until something is.
func (f *feed) advanceWatches(now time.Time) (wait time.Duration) {
	for _, l := range f.lanes {
		if l.ended == nil {
			wait = soonest(wait, l.watch.advance(now))
		}
	}
	return wait
}

// asker returns what queries the reported properties of targets of one hub that are
// waited for. A query that fails is left to the next sweep.
func (d *direct) asker(ctx context.Context, pool int) func(int, []watched) {
	columns := spec.Columns{TwinSections: spec.TwinSections{Reported: true}}
	roster := &d.ledger.roster
	return func(round int, some []watched) {
		targets := make([]hub.Target, len(some)) // here, because the cohort may grow meanwhile
		for i, t := range some {
			targets[i] = roster.Cohort.Target(t.index).Target
		}
		d.owned.Go(guarded(d.crashed, func() {
			clock.Work()
			defer clock.Rest()
			var found []glimpse
			rows := roster.Await(ctx, pool, targets, columns)
			for i, t := range some {
				if row, ok := rows[targets[i]]; ok && lowBits(target.Version(row.Reported)) != t.version {
					found = append(found, glimpse{at: int(t.by), reported: &target.Sight{Reported: row.Reported}})
				}
			}
			d.feed.swept <- sweep{pool: pool, round: round, found: found}
		}))
	}
}
