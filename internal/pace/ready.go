package pace

import (
	"context"
	"errors"
	"time"

	"iothub-runner/internal/clock"
	"iothub-runner/internal/hub"
)

// A hub that is not ready takes nothing: it cannot be reached, it fails, its
// quota is used up, it knows no token of ours, or all that it says is 429. Then
// the class rests, and one call after another goes to see, ever more seldom. No
// attempt is spent by that, because it says nothing about the device.

// sign is what an answer says about the hub.
type sign int

const (
	signNone      sign = iota // there was no answer
	signReady                 // the hub takes calls, whatever it says of this one
	signThrottled             // more than it takes were sent
	signNotReady              // it takes none, and has not done this one
	signDoubtful              // it seems to take none, and may have done this one
)

// statusUnavailable is how a hub says that it takes no calls. A method may have
// run all the same; what is done twice to a twin is done once.
const statusUnavailable = 503

// signOf says what an answer to a call of a class means for the calls to come;
// e is nil if it was a success.
func signOf(e *hub.Error, c Class) sign {
	if e == nil {
		return signReady
	}
	switch e.Kind {
	case hub.KindCancelled:
		return signNone
	case hub.KindThrottled:
		return signThrottled
	case hub.KindNotSent, hub.KindNotReady:
		return signNotReady
	case hub.KindTokenExpired:
		if e.Wait > 0 {
			return signNotReady
		}
		return signNone // there is a new one, which nobody has tried
	case hub.KindServer:
		if e.StatusCode == statusUnavailable && c != Method {
			return signNotReady
		}
		return signDoubtful
	case hub.KindCut:
		if c == Query || c == TwinRead {
			return signNotReady // there is nothing to be done
		}
		return signDoubtful
	case hub.KindInvalid, hub.KindUnauthorized, hub.KindForbidden, hub.KindNotFound, hub.KindOffline,
		hub.KindConflict, hub.KindPrecondition, hub.KindNoAnswer, hub.KindBadAnswer:
	}
	return signReady
}

// outage is a row of answers of one lane that say that the hub is not ready,
// with none between them that says otherwise. It is zero while there is none.
type outage struct {
	since    time.Time // the first of them
	until    time.Time // the last
	row      int       // how many there were
	braked   bool      // they are taken for what they say
	brakedAt time.Time
	doubtful bool // the last one may be about the device, or its call may have been done
	err      *hub.Error
	toldAt   time.Time
}

const (
	// brakeAfter is how many answers in a row brake a lane, doubtAfter how many if
	// the last of them may be about the device. Single ones come from hubs that
	// are well.
	brakeAfter = 3
	doubtAfter = 5
	// refusesAll is how long a hub may answer nothing but 429 before that counts
	// as well: up to there it is the pace that is wrong.
	refusesAll = 2 * time.Second
	// stale is how long after its last sign a row is over, if nothing was sent.
	stale = time.Minute

	// The hub is asked again after a share of the time that it has been away, so
	// that its return is noticed soon, and a long absence costs little.
	askShare = 4
	askLeast = 100 * time.Millisecond
	askMost  = 30 * time.Second

	tellEvery = 10 * time.Second

	leastStrikes = 3
)

// note takes in one more answer of the row.
func (o *outage) note(now time.Time, e *hub.Error) {
	if !o.braked && now.Sub(o.until) > max(stale, e.Wait) {
		*o = outage{since: now}
	}
	o.until, o.err = now, e
	o.row++
}

func (o *outage) brake(now time.Time) { o.braked, o.brakedAt = true, now }

// interval is how long to wait before the hub is asked again.
func (o *outage) interval(now time.Time) time.Duration {
	return min(max(now.Sub(o.since)/askShare, askLeast), askMost)
}

// pause is what there is to tell of a lane that rests until some time; nil if
// that is not worth it, or was told just now.
func (o *outage) pause(now, until time.Time) *Pause {
	long := until.Sub(now) >= worthTelling || now.Sub(o.since) >= worthTelling
	if !long || !o.toldAt.IsZero() && now.Sub(o.toldAt) < tellEvery {
		return nil
	}
	o.toldAt = now
	return &Pause{Since: o.since, Until: until, Err: o.err}
}

// failed takes in an answer that says that the hub is not ready.
func (l *lane) failed(now, began time.Time, e *hub.Error, c Class) *Pause {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outage.note(now, e)
	if e.Kind == hub.KindTokenExpired && !l.outage.braked {
		return l.renewedLocked(now, e)
	}
	enough := brakeAfter
	if signOf(e, c) == signDoubtful {
		enough = doubtAfter
	}
	l.outage.doubtful = enough == doubtAfter || c != Query && (e.Kind == hub.KindCut || e.Kind == hub.KindServer)
	if !l.outage.braked && l.outage.row >= enough {
		l.outage.brake(now)
	}
	if !l.outage.braked {
		return nil
	}
	return l.brakedLocked(now, began, e)
}

// renewedLocked lets the lane rest while nobody knows whether the hub takes our
// new token: all that is sent meanwhile might be refused. Afterwards all may go:
// whether it does is known soon, and ends the run if it does not.
func (l *lane) renewedLocked(now time.Time, e *hub.Error) *Pause {
	if now.Before(l.resting) {
		return nil
	}
	l.restLocked(now, e.Wait, e)
	return l.outage.pause(now, l.resting)
}

// brakedLocked lets the lane rest after one more sign of an outage, unless that
// is the answer to a call from before.
func (l *lane) brakedLocked(now, began time.Time, e *hub.Error) *Pause {
	if now.Before(l.resting) && began.Before(l.outage.brakedAt) {
		return nil
	}
	l.restLocked(now, max(e.Wait, l.outage.interval(now)), e)
	return l.outage.pause(now, l.resting)
}

// readyLocked ends an outage. What was sent before it began and is answered now
// says nothing about the hub as it is.
func (l *lane) readyLocked(now, began time.Time) *Pause {
	o := l.outage
	if o.braked && began.Before(o.brakedAt) {
		return nil
	}
	l.served = now
	if o.since.IsZero() {
		return nil
	}
	if o.braked {
		l.resting, l.next = now, now
		l.restartLocked()
	} else if now.Before(l.resting) {
		l.outage.row = 0 // the hub has asked for more time all the same
		return nil
	}
	l.outage = outage{}
	if o.toldAt.IsZero() {
		return nil
	}
	return &Pause{Since: o.since, Until: now, Err: o.err, Over: true}
}

// restartLocked sets the rate after an outage. A hub that refused everything has
// told nothing of what it takes.
func (l *lane) restartLocked() {
	switch {
	case l.rate == 0:
	case l.limit > 0:
		l.rate, l.knee = l.limit*startShare, 0
	default:
		l.rate, l.knee = max(l.rate, firstGuess), 0
	}
}

// patience is how much longer the first of the line waits for a hub that takes
// nothing, if it has waited since the time from.
func (l *lane) patience(now, from time.Time, most time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if most <= 0 || l.outage.since.IsZero() || !l.outage.braked && !now.Before(l.resting) {
		return time.Duration(1<<63 - 1)
	}
	return later(l.outage.since, from).Add(most).Sub(now)
}

// asked asks the hub something that changes nothing, before a call goes to see
// that might be done and lost, or whose device may be what is wrong. It returns
// false if the hub is still not ready.
func (p *Pacer) asked(ctx context.Context, c Class) bool {
	if p.Ask == nil {
		return true
	}
	began := clock.Now()
	e, _ := errors.AsType[*hub.Error](p.Ask(ctx))
	l := &p.lanes[c]
	if s := signOf(e, Query); s != signNotReady && s != signDoubtful {
		l.serves(clock.Now())
		return true
	}
	p.told(c, l.failed(clock.Now(), began, e, c))
	return false
}

// serves notes that the hub answers others as one that is ready, so that a call
// that still gets through to nothing has itself to blame.
func (l *lane) serves(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.served = now
}

// gaveUp is the error for who has waited long enough.
func (p *Pacer) gaveUp(c Class) error {
	l := &p.lanes[c]
	l.mu.Lock()
	defer l.mu.Unlock()
	return &NotReadyError{Hub: p.Hub, Calls: c.String(), For: p.Outage, Err: l.outage.err}
}

// Excuse is what is remembered of a call that found the hub not ready.
type Excuse struct {
	At      time.Time // when it last did
	Strikes int       // how often that was so while others were served
}

// Spares tells whether the answer e to a call of a class is the hub's fault and
// spends no attempt. It is not for ever: a call that never gets through while
// others do has something about it.
func (p *Pacer) Spares(c Class, e *hub.Error, x *Excuse, attempts int) bool {
	s := signOf(e, c)
	if s != signNotReady && (s != signDoubtful || !p.braked()) {
		return false
	}
	l := &p.lanes[c]
	l.mu.Lock()
	defer l.mu.Unlock()
	if !x.At.IsZero() && l.served.After(x.At) {
		x.Strikes++
	}
	x.At = clock.Now()
	return x.Strikes < max(attempts, leastStrikes)
}

// braked tells whether any class is: a hub that is not ready for one kind of
// calls seldom is for others.
func (p *Pacer) braked() bool {
	for i := range p.lanes {
		l := &p.lanes[i]
		l.mu.Lock()
		braked := l.outage.braked
		l.mu.Unlock()
		if braked {
			return true
		}
	}
	return false
}

// Holds tells whether a class rests for as long as a call was told to wait, so
// that the call may stand in line.
func (p *Pacer) Holds(c Class, wait time.Duration) bool {
	l := &p.lanes[c]
	l.mu.Lock()
	defer l.mu.Unlock()
	rest := clock.Until(l.resting)
	return l.outage.braked || rest > 0 && rest >= wait
}
