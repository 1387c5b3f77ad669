package pace

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/hub"
)

// Pacer keeps our calls below the throttles of one hub. All jobs that call the
// hub share it: the hub does not know jobs. Its methods are safe for concurrent
// use.
type Pacer struct {
	lanes [Classes]lane
	Options
}

// Options of a pacer.
type Options struct {
	Hub    string                      // its name
	Outage time.Duration               // for how long a hub that takes nothing is waited for; 0 is for ever
	Ask    func(context.Context) error // asks the hub something that changes nothing; may be nil
	Tell   func(Pause)                 // is told what is waited for; may be nil
	Share  float64                     // of what the hub is known to take; 0 is all
}

// New returns a pacer that starts at four fifths of what the hub is known to
// take, and unpaced if nothing is known.
func New(sku string, units int, o Options) *Pacer {
	p := &Pacer{Options: o}
	limits, _ := Rates(sku, units) // zero, which is unpaced, for a hub of unknown size
	share := o.Share
	if share <= 0 {
		share = 1
	}
	for c := range p.lanes {
		l := &p.lanes[c]
		l.limit, l.rate, l.line = limits[c]*share, limits[c]*share*startShare, make(chan struct{}, 1)
	}
	return p
}

// lane paces one class. It is unpaced while the hub takes whatever comes, and
// paced from the first 429. How long an answer takes is no sign of anything: it
// may be the device that is slow, or this machine.
//
// What a sign finds out is how much the hub takes: as much as it has answered
// lately. The rate falls a little below that, comes back to it within
// [plateau], rests there, and only then tries more, slowly at first. So the hub
// is kept busy, and is asked for too much about three times a minute. The curve
// is the cubic one that TCP uses for the same reason.
//
// The first sign comes before there is anything to go by. After it the rate
// starts low and multiplies until the second.
type lane struct {
	mu    sync.Mutex
	limit float64       // published throttle, which is never exceeded; 0 if unknown
	rate  float64       // calls a second; 0 is unpaced
	knee  float64       // what the hub took at the last sign; 0 while there was none to go by
	next  time.Time     // when the next call may begin
	line  chan struct{} // held by the call that waits for next; the others wait for it

	window   window
	last     time.Time // when the last answer came
	adjusted time.Time // when the rate was last looked at
	signed   time.Time // when the last sign came
	resting  time.Time // nothing is sent before
	excused  bool      // it rests, but not because of a 429
	waited   Waited
	outage   outage
	served   time.Time // when the hub last answered as one that is ready
}

// Waited is how long calls were held back, by what for.
type Waited struct {
	Refused   time.Duration // because the hub had answered 429
	Published time.Duration // to stay below the throttle that the hub's size has
}

const (
	startShare = 0.8
	belowKnee  = 0.95             // where a sign leaves the rate
	plateau    = 15 * time.Second // from a sign until the rate is back at the knee
	firstGuess = 10.0             // calls a second after the first sign, at least
	firstRise  = 10.0             // times a second, until the second sign
	startRise  = 2.0              // times a second, from four fifths of a known throttle
	minRate    = 0.1              // calls a second; a hub that takes less is as good as down

	adjustEvery = 100 * time.Millisecond
	signEvery   = time.Second // one sign is answered at a time
	// firstHold is what the lane rests at a 429, so that what is in flight can
	// be answered before more is sent.
	firstHold = 100 * time.Millisecond
	longHint  = time.Minute // is not said to one call alone
	catchUp   = 10 * time.Millisecond
	idleGap   = time.Second
)

// Take waits for the class's turn to make a call that counts cost times. The
// caller has waited for the hub since the time from. The error is the cause of
// ctx if that ended first, and a [*NotReadyError] if the hub took nothing for
// too long.
func (p *Pacer) Take(ctx context.Context, c Class, cost int, from time.Time) error {
	l := &p.lanes[c]
	if l.open(clock.Now()) {
		return context.Cause(ctx)
	}
	// One call after the other: only the first of those that wait has a time, so
	// that a new rate holds for all of them.
	if !clock.Queue(ctx, l.line) {
		return context.Cause(ctx)
	}
	defer func() { <-l.line }()
	for {
		now := clock.Now()
		wait, doubtful := l.book(now, cost)
		if wait == 0 && (!doubtful || p.asked(ctx, c)) {
			return context.Cause(ctx)
		}
		left := l.patience(now, from, p.Outage)
		if left <= 0 {
			return p.gaveUp(c)
		}
		slept := clock.Sleep(ctx, min(wait, left))
		l.held(now, clock.Since(now))
		if !slept {
			return context.Cause(ctx)
		}
	}
}

// TryTake takes a turn if the class has one now, and tells whether it has.
func (p *Pacer) TryTake(c Class) bool {
	l := &p.lanes[c]
	if l.open(clock.Now()) {
		return true
	}
	select {
	case l.line <- struct{}{}:
		defer func() { <-l.line }()
	default:
		return false // others wait for theirs
	}
	l.mu.Lock()
	braked := l.outage.braked
	l.mu.Unlock()
	if braked {
		return false
	}
	wait, _ := l.book(clock.Now(), 1)
	return wait == 0
}

// Answered tells the pacer of an answer to a call that was sent at the time
// began: whether it is a 429, or else says that the hub is not ready.
func (p *Pacer) Answered(c Class, began time.Time, err error) {
	e, _ := errors.AsType[*hub.Error](err)
	l, now := &p.lanes[c], clock.Now()
	var pause *Pause
	switch signOf(e, c) {
	case signNone:
	case signReady:
		pause = l.answered(now, began)
	case signThrottled:
		pause = l.refusedFor(now, began, e)
	case signNotReady, signDoubtful:
		pause = l.failed(now, began, e, c)
	}
	p.told(c, pause)
}

// told passes a pause on to whoever wants to know.
func (p *Pacer) told(c Class, pause *Pause) {
	if pause == nil || p.Tell == nil {
		return
	}
	pause.Hub, pause.Calls = p.Hub, c.String()
	if p.Outage > 0 {
		pause.GiveUp = pause.Since.Add(p.Outage)
	}
	p.Tell(*pause)
}

// Resting tells whether the hub has asked us to stay away for now.
func (p *Pacer) Resting(c Class) bool {
	l := &p.lanes[c]
	l.mu.Lock()
	defer l.mu.Unlock()
	return clock.Now().Before(l.resting)
}

// Waited returns how long calls were held back in all.
func (p *Pacer) Waited() (sum Waited) {
	for i := range p.lanes {
		l := &p.lanes[i]
		l.mu.Lock()
		sum.Refused += l.waited.Refused
		sum.Published += l.waited.Published
		l.mu.Unlock()
	}
	return sum
}

// open tells whether calls need not wait for a turn at all.
func (l *lane) open(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rate == 0 && !l.outage.braked && !l.next.After(now)
}

// book takes the next turn, if it has come; else it says how long until then.
// On doubtful the hub is to be asked something harmless first.
func (l *lane) book(now time.Time, cost int) (wait time.Duration, doubtful bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait := l.next.Sub(now); wait > 0 {
		return wait, false
	}
	if l.outage.braked {
		l.next = now.Add(l.outage.interval(now)) // one call goes to see; the others wait for what it finds
		return 0, l.outage.doubtful
	}
	if l.rate > 0 {
		step := time.Duration(float64(cost) / l.rate * float64(time.Second))
		// Who comes late through no fault of the rate may catch up a little.
		l.next = later(l.next, now.Add(-catchUp)).Add(step)
	}
	return 0, false
}

// held notes that the first call of the line waited for d, from the time since.
func (l *lane) held(since time.Time, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.excused && (since.Before(l.resting) || l.outage.braked):
	case !l.signed.IsZero() && (l.limit == 0 || l.rate < l.limit):
		l.waited.Refused += d
	default:
		l.waited.Published += d
	}
}

// answered takes in an answer that shows that the hub takes calls.
func (l *lane) answered(now, began time.Time) *Pause {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 && now.Sub(l.last) > idleGap {
		l.window.restart(now) // what was not asked of the hub says nothing about it
	}
	l.last = now
	l.window.add(now)
	if l.adjusted.IsZero() {
		l.adjusted = now
	}
	if since := now.Sub(l.adjusted); since >= adjustEvery {
		l.adjusted = now
		l.growLocked(now, since)
	}
	return l.readyLocked(now, began)
}

// refusedFor takes in a 429. The first one says that we are far above what the
// hub takes, and we stay away for as long as it asks. Later ones come because
// the rate was raised to find out where the limit is; each call that was
// refused waits as long as it was told, and for the others it is enough to go
// slower: a hub that says "wait 10 seconds" to one call in a thousand does not
// want the other 999 to wait as well. But one that says "wait an hour" does, and
// so does one that refuses everything.
func (l *lane) refusedFor(now, began time.Time, e *hub.Error) *Pause {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outage.note(now, e)
	if !l.outage.braked && l.outage.row >= brakeAfter && now.Sub(later(l.last, l.outage.since)) > refusesAll {
		l.outage.brake(now)
	}
	if l.outage.braked {
		return l.brakedLocked(now, began, e)
	}
	if asked := now.Add(e.Wait); e.Wait > longHint && asked.After(l.resting) {
		// what the hub asks for is more than what it asked for before
	} else if now.Sub(l.signed) < signEvery || now.Before(l.resting) {
		return nil // the answer to a call from before the last sign
	}
	hold := firstHold
	if l.knee == 0 || e.Wait > longHint {
		hold = max(hold, e.Wait)
	}
	l.signLocked(now)
	l.restLocked(now, hold, e)
	return l.outage.pause(now, l.resting)
}

// signLocked slows down: the hub has all it can take.
func (l *lane) signLocked(now time.Time) {
	taken, known := l.window.taken(now)
	first := l.rate == 0
	switch {
	case known && first:
		l.knee = taken
	case known:
		l.knee = max(taken, l.rate/2) // there may have been less to send than the hub would take
	case first:
		l.knee = 0
	default:
		l.knee = l.rate * belowKnee
	}
	if !first && l.rate < l.knee {
		l.knee = l.rate // less was asked for than the window holds, and that was too much
	}
	l.rate = max(l.knee*belowKnee, minRate)
	if l.knee == 0 {
		l.rate = max(taken, firstGuess)
	}
	if l.limit > 0 {
		l.rate = min(l.rate, l.limit)
	}
	l.signed = now
}

// growLocked raises the rate of a paced lane.
func (l *lane) growLocked(now time.Time, since time.Duration) {
	switch {
	case l.rate == 0:
		return
	case l.knee == 0:
		rise := firstRise
		if l.limit > 0 {
			rise = startRise
		}
		l.rate *= math.Pow(rise, min(since, time.Second).Seconds())
	default:
		// The cubic curve through belowKnee at the sign and 1 at the plateau.
		x := (now.Sub(l.signed) - plateau).Seconds() / plateau.Seconds()
		l.rate = max(l.rate, l.knee*(1+(1-belowKnee)*x*x*x))
	}
	if l.limit > 0 {
		l.rate = min(l.rate, l.limit)
	}
}

// restLocked keeps every call of the lane away for d, because of e. What is
// counted then says nothing about the hub.
func (l *lane) restLocked(now time.Time, d time.Duration, e *hub.Error) {
	l.excused = e.Kind != hub.KindThrottled
	l.resting = now.Add(d)
	l.next = later(l.next, l.resting)
	l.window.restart(l.resting)
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// window counts answers over the last seconds, in slices that are reused.
type window struct {
	slices [windowSlices]slice
	since  time.Time // what was answered before does not count
}

type slice struct {
	number int64 // of the slice of time that the count is of
	taken  int
}

const (
	windowSlices = 50
	sliceLength  = 100 * time.Millisecond
	// A rate is told from so many answers, or from all of the window. Fewer
	// slices follow a rising rate more closely, more answers tell it better.
	enoughAnswers = 100
	enoughTime    = 3 * sliceLength
)

func sliceNumber(t time.Time) int64 { return t.UnixNano() / int64(sliceLength) }

func (w *window) add(now time.Time) {
	if w.since.IsZero() {
		w.since = now
	}
	number := sliceNumber(now)
	s := &w.slices[number%windowSlices]
	if s.number != number {
		*s = slice{number: number}
	}
	s.taken++
}

// restart forgets everything; counting goes on at the time from.
func (w *window) restart(from time.Time) { *w = window{since: from} }

// taken returns how many calls a second were answered lately, and whether that
// was counted for long enough to mean something.
func (w *window) taken(now time.Time) (rate float64, known bool) {
	last := sliceNumber(now)
	count := 0
	number := last
	for ; number > last-windowSlices && count < enoughAnswers; number-- {
		if s := &w.slices[number%windowSlices]; s.number == number {
			count += s.taken
		}
	}
	begin := later(w.since, time.Unix(0, (number+1)*int64(sliceLength)))
	span := now.Sub(begin)
	if span < sliceLength || now.Sub(w.since) < enoughTime {
		return float64(count), false
	}
	return float64(count) / span.Seconds(), count > 0
}
