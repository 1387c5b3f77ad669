// Package clock is the time that runs go by: that of the machine or, in a
// rehearsal, one that jumps over waits in which nothing happens.
//
// There is one clock for the whole process, because a rehearsal is the only run of
// its process. Without one, every function here is that of package time.
package clock

import (
	"container/heap"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Hub is an emulated hub, whose time is that of the rehearsal.
type Hub interface {
	Now() time.Time
	// Advance moves the time forward and wakes what falls due, in its order.
	Advance(d time.Duration) error
}

// Hubs are emulated hubs that have one time.
type Hubs []Hub

// Now is the time of all.
func (h Hubs) Now() time.Time { return h[0].Now() }

// Advance moves the time of each.
func (h Hubs) Advance(d time.Duration) error {
	var broken error
	for _, hub := range h {
		broken = errors.Join(broken, hub.Advance(d))
	}
	return broken
}

// rehearsal is the one of this process; nil if there is none.
var rehearsal atomic.Pointer[rehearsed] //nolint:gochecknoglobals // there is one time

// rehearsed is the clock of a rehearsal. Its time is the hub's. It jumps to the
// next moment that somebody waits for whenever nobody has anything to do.
type rehearsed struct {
	hub  Hub
	busy atomic.Int64  // goroutines of the run that are at work
	acts atomic.Uint64 // grows whenever one begins or ends to be

	mu    sync.Mutex
	waits waits
}

// wait is one moment that somebody waits for.
type wait struct {
	due   time.Time
	fire  func()
	place int // in the heap; -1 once it has fired or was given up
}

// waits is a heap, the one that is due first on top.
type waits []*wait

func (h waits) Len() int           { return len(h) }
func (h waits) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h waits) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push is for package heap.
func (h *waits) Push(x any) {
	w, _ := x.(*wait)
	w.place = len(*h)
	*h = append(*h, w)
}

// Pop is for package heap.
func (h *waits) Pop() any {
	old := *h
	w := old[len(old)-1]
	*h = old[:len(old)-1]
	w.place = -1
	return w
}

// Rehearse makes the time of the process that of an emulated hub, until stop is
// called.
func Rehearse(hub Hub) (stop func()) {
	r := &rehearsed{hub: hub}
	rehearsal.Store(r)
	quit := make(chan struct{})
	var jumping sync.WaitGroup
	jumping.Go(func() { r.jump(quit) })
	return func() {
		close(quit)
		jumping.Wait()
		rehearsal.Store(nil)
	}
}

// How often it is looked whether anybody is at work, and how often in a row nobody
// must have been and nothing must have happened: one goroutine that wakes another
// is at rest for a moment before that one is at work.
const (
	lookEvery = 200 * time.Microsecond
	restful   = 5
)

// jump moves the time forward whenever nobody is at work.
func (r *rehearsed) jump(quit <-chan struct{}) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	rest, last := 0, uint64(0)
	for {
		select {
		case <-quit:
			return
		case <-look.C:
		}
		runtime.Gosched()
		r.fire() // what has fallen due by itself
		acts := r.acts.Load()
		if r.busy.Load() > 0 || acts != last {
			rest, last = 0, acts
			continue
		}
		if rest++; rest >= restful {
			rest = 0
			r.leap()
		}
	}
}

// leap moves the time to the next moment that somebody waits for.
func (r *rehearsed) leap() {
	r.mu.Lock()
	var d time.Duration
	if len(r.waits) > 0 {
		d = r.waits[0].due.Sub(r.hub.Now())
	}
	r.mu.Unlock()
	if d > 0 {
		_ = r.hub.Advance(d) // forward, which never fails
	}
	r.fire()
}

// fire ends the waits that are due.
func (r *rehearsed) fire() {
	now := r.hub.Now()
	for {
		r.mu.Lock()
		if len(r.waits) == 0 || r.waits[0].due.After(now) {
			r.mu.Unlock()
			return
		}
		w, _ := heap.Pop(&r.waits).(*wait)
		r.acts.Add(1)
		r.mu.Unlock()
		w.fire()
	}
}

func (r *rehearsed) start(due time.Time, fire func()) *wait {
	w := &wait{due: due, fire: fire}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acts.Add(1)
	heap.Push(&r.waits, w)
	return w
}

func (r *rehearsed) stop(w *wait) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acts.Add(1)
	if w.place >= 0 && w.place < len(r.waits) && r.waits[w.place] == w {
		heap.Remove(&r.waits, w.place)
	}
}

// Work notes that a goroutine of a run is at work, and Rest that it waits for
// another one or for a time. A rehearsal jumps only while nobody is at work.
func Work() { count(1) }

// Rest is the opposite of Work.
func Rest() { count(-1) }

func count(n int64) {
	if r := rehearsal.Load(); r != nil {
		r.acts.Add(1)
		r.busy.Add(n)
	}
}

// Now is the time.
func Now() time.Time {
	if r := rehearsal.Load(); r != nil {
		return r.hub.Now()
	}
	return time.Now()
}

// Since returns how long ago t was.
func Since(t time.Time) time.Duration { return Now().Sub(t) }

// Until returns how long it is until t.
func Until(t time.Time) time.Duration { return t.Sub(Now()) }

// Sleep waits for d and returns false if ctx ended first. Who sleeps is not at
// work.
func Sleep(ctx context.Context, d time.Duration) bool {
	if ctx.Err() != nil {
		return false
	}
	if d <= 0 {
		return true
	}
	t := NewTimer(d)
	defer t.Stop()
	Rest()
	defer Work()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Queue waits for the head of a line, whose place is taken by sending to it; false
// if ctx ended first. Who stands in line is not at work.
func Queue(ctx context.Context, line chan<- struct{}) bool {
	Rest()
	defer Work()
	select {
	case line <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// Timer is a time.Timer of this clock.
type Timer struct {
	C    <-chan time.Time
	real *time.Timer

	in   *rehearsed
	c    chan time.Time
	wait *wait
}

// NewTimer returns a timer that rings after d.
func NewTimer(d time.Duration) *Timer {
	r := rehearsal.Load()
	if r == nil {
		t := time.NewTimer(d)
		return &Timer{C: t.C, real: t}
	}
	c := make(chan time.Time, 1)
	t := &Timer{C: c, c: c, in: r}
	t.set(d)
	return t
}

func (t *Timer) set(d time.Duration) {
	t.wait = t.in.start(t.in.hub.Now().Add(d), func() {
		select {
		case t.c <- t.in.hub.Now():
		default: // it rang before, and nobody has listened
		}
	})
}

// Reset makes the timer ring after d, and not when it would have.
func (t *Timer) Reset(d time.Duration) {
	if t.real != nil {
		t.real.Reset(d)
		return
	}
	t.Stop()
	t.set(d)
}

// Stop keeps the timer from ringing.
func (t *Timer) Stop() {
	if t.real != nil {
		t.real.Stop()
		return
	}
	t.in.stop(t.wait)
	select {
	case <-t.c:
	default:
	}
}

// WithDeadline returns a context that ends at a time, with a cause.
func WithDeadline(ctx context.Context, at time.Time, cause error) (context.Context, context.CancelFunc) {
	r := rehearsal.Load()
	if r == nil {
		return context.WithDeadlineCause(ctx, at, cause)
	}
	ending, cancel := context.WithCancelCause(ctx)
	w := r.start(at, func() { cancel(cause) })
	return ending, func() {
		r.stop(w)
		cancel(nil)
	}
}
