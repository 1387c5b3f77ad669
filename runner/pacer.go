package runner

import (
	"context"
	"sync"
	"time"
)

// class is one of the hub's throttles that our calls fall under.
type class int

const (
	classQuery class = iota
	classTwinRead
	classTwinWrite
	classMethod
	classes = iota
)

// pacer keeps our calls below the throttles of one hub. All jobs that call the
// hub share it: the hub does not know jobs.
type pacer struct {
	lanes [classes]lane
}

// lane paces one class.
type lane struct {
	mu        sync.Mutex
	interval  time.Duration // between calls; 0 is unpaced
	next      time.Time     // when the next call may begin
	throttled time.Duration // how long the hub has kept us away in all
}

// take waits for the class's turn. It returns false when ctx ended first.
func (p *pacer) take(ctx context.Context, c class) bool {
	l := &p.lanes[c]
	wait := l.reserve(time.Now())
	if wait <= 0 {
		return ctx.Err() == nil
	}
	return sleep(ctx, wait)
}

func (l *lane) reserve(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next.Before(now) {
		l.next = now
	}
	wait := l.next.Sub(now)
	l.next = l.next.Add(l.interval)
	return wait
}

// hold keeps every call of the class away for d: the hub said 429.
func (p *pacer) hold(c class, d time.Duration) {
	l := &p.lanes[c]
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if until := now.Add(d); l.next.Before(until) {
		from := l.next
		if from.Before(now) {
			from = now
		}
		l.throttled += until.Sub(from)
		l.next = until
	}
}

// throttledFor returns how long the hub has kept the classes away in all.
func (p *pacer) throttledFor() time.Duration {
	var sum time.Duration
	for i := range p.lanes {
		l := &p.lanes[i]
		l.mu.Lock()
		sum += l.throttled
		l.mu.Unlock()
	}
	return sum
}

// sleep waits for d and returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
