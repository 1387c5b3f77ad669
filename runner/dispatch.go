package runner

import (
	"container/heap"
	"context"
	"errors"
	"time"

	"iothub-runner/internal/cohort"
	"iothub-runner/internal/hub"
	"iothub-runner/internal/journal"
	"iothub-runner/internal/target"
)

// dispatcher hands the targets of one job to its workers: those that are due
// again first, then the ones that the listing brings. One goroutine runs its
// loop and owns its fields, and the job's cohort; everybody else sends values.
//
// It takes a page from the listing only when the one before has been handed
// out, so a fleet of any size passes through it a page at a time.
type dispatcher struct {
	*jobRun
	pages  chan target.Page // from the listing
	listed chan error       // how the listing ended; buffered, so that it never waits
	work   chan *item       // to the workers
	done   chan finished    // from the workers

	stopListing context.CancelCauseFunc
	listing     error // how it ended, once over
	over        bool  // the listing is over
	collect     bool  // hand out nothing before it is
	fresh       []*item
	cursor      uint32             // of the cohort: up to here its targets were handed out
	backlog     uint32             // and up to here they are not brought by a page
	rows        *journal.RowReader // of the past
	retries     dueItems
	asleep      sleepers // devices that are waited for until they are online
	freshNext   bool     // it is a fresh target's turn
	busy        int      // items that are with a worker
	timer       *time.Timer
	stopping    bool // nothing is handed out any more
	abortCause  error
}

// serve makes attempts until there are no more items to come.
func (d *dispatcher) serve(ctx context.Context) {
	w := worker{jobRun: d.jobRun}
	for it := range d.work {
		d.counters.inFlight.Add(1)
		f := w.try(ctx, it)
		d.counters.inFlight.Add(-1)
		if f.abort != nil {
			d.abort(f.abort) // before anybody else is called
		}
		d.done <- f
	}
}

// loop returns when no item is with a worker and none is to come, with the
// reason if that is not simply that all have ended.
func (d *dispatcher) loop(ctx context.Context) error {
	d.timer = time.NewTimer(time.Hour)
	defer d.timer.Stop()
	for ctx.Err() == nil && d.abortCause == nil {
		next, wait := d.next()
		if next == nil && d.over && d.busy == 0 && len(d.retries) == 0 && len(d.asleep) == 0 && d.abortCause == nil {
			return d.listing
		}
		d.step(ctx, next, wait)
	}
	if d.abortCause != nil {
		d.abort(d.abortCause) // or draining would wait for those who wait for their turn
	}
	d.drain(ctx)
	if d.abortCause != nil {
		return d.abortCause
	}
	return context.Cause(ctx)
}

// step does the one thing that is possible first.
func (d *dispatcher) step(ctx context.Context, next *item, wait time.Duration) {
	var work chan<- *item
	if next != nil {
		work = d.work
	}
	var pages <-chan target.Page
	if len(d.fresh) == 0 || d.collect {
		pages = d.pages
	}
	var timer <-chan time.Time
	if wait > 0 {
		d.timer.Reset(wait)
		timer = d.timer.C
	}
	select {
	case work <- next:
		d.handedOut(next)
	case p := <-pages:
		d.admit(p)
	case err := <-d.listed:
		d.endListing(err)
	case f := <-d.done:
		d.settle(f)
	case <-timer:
	case <-ctx.Done():
	}
}

// next chooses what to hand out; if nothing is due yet, it says how long until
// something is. Targets that are due again and fresh ones take turns: those that
// fail over and over must not keep the others from ever being reached.
func (d *dispatcher) next() (it *item, wait time.Duration) {
	again, wait := d.dueAgain()
	if again != nil && !d.freshNext {
		return again, 0
	}
	if d.collect && !d.over {
		return again, wait
	}
	if len(d.fresh) == 0 && d.cursor < d.backlog {
		d.refill()
	}
	if len(d.fresh) > 0 {
		return d.fresh[0], wait
	}
	return again, wait
}

// dueAgain returns the target that is to be tried again first, if its time has
// come; else how long until then, 0 if there is none.
func (d *dispatcher) dueAgain() (it *item, wait time.Duration) {
	if len(d.retries) > 0 {
		if wait = time.Until(d.retries[0].due); wait <= 0 {
			return d.retries[0], 0
		}
	}
	if len(d.asleep) == 0 {
		return nil, wait
	}
	first := time.Until(time.Unix(0, d.asleep[0].due))
	if first > 0 {
		if wait == 0 {
			return nil, first
		}
		return nil, min(wait, first)
	}
	it, err := d.wake()
	if err != nil {
		d.abortCause = &JournalError{Err: err}
		return nil, 0
	}
	heap.Push(&d.retries, it) // it is due before all others there
	return it, 0
}

func (d *dispatcher) handedOut(it *item) {
	d.busy++
	d.freshNext = len(d.retries) > 0 && d.retries[0] == it
	if d.freshNext {
		heap.Pop(&d.retries)
		return
	}
	d.fresh = d.fresh[1:]
}

// refill takes the next targets of a cohort that was listed beforehand.
func (d *dispatcher) refill() {
	for len(d.fresh) < target.PageSize && d.cursor < d.backlog {
		it, err := d.revive(d.cursor)
		if err != nil {
			d.abortCause = &JournalError{Err: err}
			return
		}
		if it != nil {
			d.fresh = append(d.fresh, it)
		}
		d.cursor++
	}
}

// admit takes in the targets of a page that belong to the cohort.
func (d *dispatcher) admit(p target.Page) {
	items := make([]item, 0, len(p.Rows))
	d.Take(p, func(row *hub.Row, key cohort.Key, index uint32) {
		items = append(items, item{Key: key, index: index, line: cohort.NoLine, seen: d.Sight(row)})
	})
	if d.Full() {
		d.stopListing(target.ErrLimit)
	}
	if len(items) == 0 {
		return
	}
	d.counters.listed.Add(int64(len(items)))
	d.journalPage(items)
	if d.collect {
		if err := d.TooMany(); err != nil {
			d.stopListing(err)
		}
		return
	}
	for i := range items {
		d.fresh = append(d.fresh, &items[i])
	}
}

func (d *dispatcher) journalPage(items []item) {
	line := journal.Targets{Job: d.Job.Name, Targets: make([]journal.Target, len(items))}
	for i := range items {
		line.Targets[i] = items[i].Journal()
	}
	if _, err := d.journal.Append(line.Append(nil)); err != nil {
		d.abortCause = &JournalError{Err: err}
	}
}

// endListing notes how the listing ended and holds the cohort against what the
// plan expects of it.
func (d *dispatcher) endListing(err error) {
	d.over = true
	d.listing = d.JudgeListing(err)
	if errors.Is(d.listing, target.ErrNoTargets) && d.pins.any() {
		d.listing = nil // whoever was in the preview has left, and has a row that says so
	}
	if d.listing == nil && d.pins != nil {
		d.listing = d.matchPins()
	}
	d.counters.whole.Store(d.listing == nil)
	if d.collect {
		d.backlog = uint32(d.Cohort.Size())
	}
	if d.listing != nil && d.collect {
		d.cursor = d.backlog // nothing is sent to a cohort that is not as expected
	}
	if _, fatal := target.AsFatal(d.listing); fatal && !d.stopping {
		d.abortCause = d.listing
	}
	if d.listing == nil && !d.whole {
		d.whole, d.listedHere = true, true
		d.Cohort.Freeze()
		d.mark(journal.EventListed, "")
	}
}

// settle takes over what a worker made of an item.
func (d *dispatcher) settle(f finished) {
	d.busy--
	d.attempts += f.attempts
	d.jobRun.retries += f.retries
	if f.abort != nil && d.abortCause == nil {
		d.abortCause = f.abort
	}
	if f.outcome == "" && f.asleep != 0 {
		d.putToBed(f)
		return
	}
	if f.outcome == "" {
		it := *f.item // a copy, or the whole page that brought it would wait with it
		heap.Push(&d.retries, &it)
		return
	}
	if f.latency > 0 {
		_ = d.latency.RecordValue(max(1, f.latency.Microseconds())) // beyond the range counts as nothing
	}
	d.Cohort.Settle(f.index, f.outcome, f.line)
	d.counters.count(f.outcome)
}

// drain waits for the attempts in flight and for the listing, as long as it may
// take, and settles what was to be tried again.
func (d *dispatcher) drain(ctx context.Context) {
	d.stopping = true
	if _, fatal := target.AsFatal(context.Cause(ctx)); fatal || d.abortCause != nil || d.grace <= 0 {
		d.stopListing(context.Cause(ctx))
	}
	d.timer.Reset(d.grace)
	for d.busy > 0 || !d.over {
		select {
		case p := <-d.pages:
			d.admit(p)
			d.fresh = nil // they stay as they are
		case err := <-d.listed:
			d.endListing(err)
		case f := <-d.done:
			d.settle(f)
		case <-d.timer.C:
			d.stopListing(context.Cause(ctx))
		}
		if d.abortCause != nil {
			d.stopListing(d.abortCause)
		}
	}
	w := worker{jobRun: d.jobRun}
	for _, it := range d.retries {
		f := w.stopped(ctx, it)
		f.item = it
		d.busy++
		d.settle(f)
	}
	d.retries = nil
	d.settleAsleep(ctx)
}

// dueItems is a heap of items by the time when they are due.
type dueItems []*item

// Len is for package heap, as are the other methods.
func (h dueItems) Len() int { return len(h) }

// Less puts the item first that is due first.
func (h dueItems) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

// Swap is for package heap.
func (h dueItems) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push adds an item at the end.
func (h *dueItems) Push(x any) {
	if it, ok := x.(*item); ok {
		*h = append(*h, it)
	}
}

// Pop removes the last item.
func (h *dueItems) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}
