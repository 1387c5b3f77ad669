// Package clock is the hub's own time, which tests may move forward.
package clock

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Clock is the hub's own time. It runs like the real one, and can be moved
// forward: then everything that waited for a moment in between is woken.
//
// Waiting is on real timers (fake ones in a synctest bubble); the heap of who
// waits is read only when somebody moves the clock.
type Clock struct {
	Offset atomic.Int64       // emulated minus real time, in nanoseconds
	Moved  func(offset int64) // is told of each move; nil if nobody is

	mu       sync.Mutex
	sleepers sleepers // guarded by mu
	order    uint64   // of the next sleeper; guarded by mu
	closed   bool     // guarded by mu
	moving   sync.Mutex
}

// Sleeper is one wait, or one call that is due later.
type Sleeper struct {
	Due   time.Time // emulated
	order uint64    // among those that are due at once, who came first
	Woken chan struct{}
	call  func() // what to do when due; nil for a plain wait
	timer *time.Timer
	place int // in the heap; -1 once woken or given up
}

// sleepers is a heap, the one that is due first on top.
type sleepers []*Sleeper

func (h sleepers) Len() int { return len(h) }
func (h sleepers) Less(i, j int) bool {
	if h[i].Due.Equal(h[j].Due) {
		return h[i].order < h[j].order
	}
	return h[i].Due.Before(h[j].Due)
}

func (h sleepers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *sleepers) Push(v any) {
	w, ok := v.(*Sleeper)
	if !ok {
		panic("emulator: only sleepers sleep")
	}
	w.place = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *sleepers) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	w.place = -1
	return w
}

// Now is the hub's time.
func (c *Clock) Now() time.Time {
	return time.Now().Add(time.Duration(c.Offset.Load())).Round(0)
}

// Wait returns when d of emulated time has passed, or ctx ends.
func (c *Clock) Wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	w := c.After(d)
	defer c.Stop(w)
	select {
	case <-w.Woken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// After starts a wait for the caller's own select; stop ends it.
func (c *Clock) After(d time.Duration) *Sleeper { return c.start(c.Now().Add(d), nil) }

// At runs call once, at a time, on a goroutine of its own or on that of
// whoever moves the clock.
func (c *Clock) At(due time.Time, call func()) *Sleeper { return c.start(due, call) }

func (c *Clock) start(due time.Time, call func()) *Sleeper {
	w := &Sleeper{Due: due, Woken: make(chan struct{}), call: call, place: -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && call != nil {
		return w
	}
	w.order = c.order
	c.order++
	heap.Push(&c.sleepers, w)
	w.timer = time.AfterFunc(max(due.Sub(c.Now()), 0), func() { c.wake(w) })
	return w
}

// Stop gives a wait up. It says whether the wait had not ended yet.
func (c *Clock) Stop(w *Sleeper) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.place < 0 {
		return false
	}
	w.timer.Stop()
	heap.Remove(&c.sleepers, w.place)
	return true
}

// wake ends a wait once, whether its timer rang or the clock was moved.
func (c *Clock) wake(w *Sleeper) {
	if !c.Stop(w) {
		return
	}
	close(w.Woken)
	if w.call != nil {
		w.call()
	}
}

// Advance moves the clock forward by d and wakes what falls due, oldest first.
// A call that falls due sees its own time, and may add waits that fall due in
// the same move.
func (c *Clock) Advance(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("advance the clock by %v: it only moves forward", d)
	}
	c.moving.Lock()
	defer c.moving.Unlock()
	end := c.Now().Add(d)
	for {
		w := c.earliest(end)
		if w == nil {
			break
		}
		c.moveTo(w.Due)
		c.wake(w)
	}
	c.moveTo(end)
	c.retime()
	if c.Moved != nil {
		c.Moved(c.Offset.Load())
	}
	return nil
}

// moveTo makes it t, unless it is later already.
func (c *Clock) moveTo(t time.Time) {
	if gap := t.Sub(c.Now()); gap > 0 {
		c.Offset.Add(int64(gap))
	}
}

// retime sets the timers of what still waits to what is left of the waits.
func (c *Clock) retime() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Now()
	for _, w := range c.sleepers {
		w.timer.Reset(max(w.Due.Sub(now), 0))
	}
}

// earliest returns the wait that ends first, if it ends by end.
func (c *Clock) earliest(end time.Time) *Sleeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sleepers) == 0 || c.sleepers[0].Due.After(end) {
		return nil
	}
	return c.sleepers[0]
}

// Close drops every call that is still to come, for the end of the hub. Plain
// waits are left to their contexts.
func (c *Clock) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, w := range c.sleepers {
		if w.call != nil {
			w.timer.Stop()
			w.call = nil
		}
	}
}

// Waiting is how many sleepers there are.
func (c *Clock) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sleepers)
}
