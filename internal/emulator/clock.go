package emulator

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// clock is the hub's own time. It runs like the real one, and can be moved
// forward: then everything that waited for a moment in between is woken.
//
// Waiting is on real timers (fake ones in a synctest bubble); the list of who
// waits is read only when somebody moves the clock.
type clock struct {
	offset atomic.Int64 // emulated minus real time, in nanoseconds

	mu       sync.Mutex
	sleepers list.List // of *sleeper; guarded by mu
}

// sleeper is one wait, or one call that is due later.
type sleeper struct {
	due   time.Time // emulated
	woken chan struct{}
	call  func() // what to do when due; nil for a plain wait
	timer *time.Timer
	place *list.Element // nil once woken or given up; guarded by clock.mu
}

func (c *clock) now() time.Time {
	return time.Now().Add(time.Duration(c.offset.Load())).Round(0)
}

// wait returns when d of emulated time has passed, or ctx ends.
func (c *clock) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	w := c.start(d, nil)
	defer c.stop(w)
	select {
	case <-w.woken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// after starts a wait for the caller's own select; stop ends it.
func (c *clock) after(d time.Duration) *sleeper { return c.start(d, nil) }

// do runs call once, d from now, on a goroutine of the timer's.
func (c *clock) do(d time.Duration, call func()) *sleeper { return c.start(d, call) }

func (c *clock) start(d time.Duration, call func()) *sleeper {
	w := &sleeper{due: c.now().Add(d), woken: make(chan struct{}), call: call}
	c.mu.Lock()
	w.place = c.sleepers.PushBack(w)
	w.timer = time.AfterFunc(max(d, 0), func() { c.wake(w) })
	c.mu.Unlock()
	return w
}

// stop gives a wait up. It says whether the wait had not ended yet.
func (c *clock) stop(w *sleeper) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.timer.Stop()
	if w.place == nil {
		return false
	}
	c.sleepers.Remove(w.place)
	w.place = nil
	return true
}

// wake ends a wait once, whether its timer rang or the clock was moved.
func (c *clock) wake(w *sleeper) {
	if !c.stop(w) {
		return
	}
	close(w.woken)
	if w.call != nil {
		w.call()
	}
}

// advance moves the clock forward by d and wakes what falls due, oldest first.
// A call that falls due sees its own time, and may add waits that fall due in
// the same move.
func (c *clock) advance(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("advance the clock by %v: it only moves forward", d)
	}
	end := c.now().Add(d)
	for {
		w := c.earliest(end)
		if w == nil {
			break
		}
		c.moveTo(w.due)
		c.wake(w)
	}
	c.moveTo(end)
	return nil
}

// moveTo makes it t, unless it is later already.
func (c *clock) moveTo(t time.Time) {
	if gap := t.Sub(c.now()); gap > 0 {
		c.offset.Add(int64(gap))
	}
}

// earliest returns the wait that ends first, if it ends by end.
func (c *clock) earliest(end time.Time) *sleeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	var first *sleeper
	for e := c.sleepers.Front(); e != nil; e = e.Next() {
		w, ok := e.Value.(*sleeper)
		if ok && !w.due.After(end) && (first == nil || w.due.Before(first.due)) {
			first = w
		}
	}
	return first
}

// cancelAll drops every call that is still to come, for the end of the hub.
func (c *clock) cancelAll() {
	c.mu.Lock()
	var calls []*sleeper
	for e := c.sleepers.Front(); e != nil; e = e.Next() {
		if w, ok := e.Value.(*sleeper); ok && w.call != nil {
			calls = append(calls, w)
		}
	}
	c.mu.Unlock()
	for w := range slices.Values(calls) {
		c.stop(w)
	}
}
