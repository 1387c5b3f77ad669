package emulator

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// clock is the hub's own time. It runs like the real one, and can be moved
// forward: then everything that waited for a moment in between is woken.
//
// Waiting is on real timers (fake ones in a synctest bubble); the heap of who
// waits is read only when somebody moves the clock.
type clock struct {
	offset atomic.Int64 // emulated minus real time, in nanoseconds
	log    *stateLog    // of the offset; nil unless the state is kept

	mu       sync.Mutex
	sleepers sleepers // guarded by mu
	order    uint64   // of the next sleeper; guarded by mu
	closed   bool     // guarded by mu
	moving   sync.Mutex
}

// sleeper is one wait, or one call that is due later.
type sleeper struct {
	due   time.Time // emulated
	order uint64    // among those that are due at once, who came first
	woken chan struct{}
	call  func() // what to do when due; nil for a plain wait
	timer *time.Timer
	place int // in the heap; -1 once woken or given up
}

// sleepers is a heap, the one that is due first on top.
type sleepers []*sleeper

func (h sleepers) Len() int { return len(h) }
func (h sleepers) Less(i, j int) bool {
	if h[i].due.Equal(h[j].due) {
		return h[i].order < h[j].order
	}
	return h[i].due.Before(h[j].due)
}

func (h sleepers) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *sleepers) Push(v any) {
	w, ok := v.(*sleeper)
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

func (c *clock) now() time.Time {
	return time.Now().Add(time.Duration(c.offset.Load())).Round(0)
}

// wait returns when d of emulated time has passed, or ctx ends.
func (c *clock) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	w := c.after(d)
	defer c.stop(w)
	select {
	case <-w.woken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// after starts a wait for the caller's own select; stop ends it.
func (c *clock) after(d time.Duration) *sleeper { return c.start(c.now().Add(d), nil) }

// at runs call once, at a time, on a goroutine of its own or on that of
// whoever moves the clock.
func (c *clock) at(due time.Time, call func()) *sleeper { return c.start(due, call) }

func (c *clock) start(due time.Time, call func()) *sleeper {
	w := &sleeper{due: due, woken: make(chan struct{}), call: call, place: -1}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed && call != nil {
		return w
	}
	w.order = c.order
	c.order++
	heap.Push(&c.sleepers, w)
	w.timer = time.AfterFunc(max(due.Sub(c.now()), 0), func() { c.wake(w) })
	return w
}

// stop gives a wait up. It says whether the wait had not ended yet.
func (c *clock) stop(w *sleeper) bool {
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
	c.moving.Lock()
	defer c.moving.Unlock()
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
	c.retime()
	if c.log != nil {
		offset := c.offset.Load()
		c.log.note(stateLine{Clock: &offset})
	}
	return nil
}

// moveTo makes it t, unless it is later already.
func (c *clock) moveTo(t time.Time) {
	if gap := t.Sub(c.now()); gap > 0 {
		c.offset.Add(int64(gap))
	}
}

// retime sets the timers of what still waits to what is left of the waits.
func (c *clock) retime() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for _, w := range c.sleepers {
		w.timer.Reset(max(w.due.Sub(now), 0))
	}
}

// earliest returns the wait that ends first, if it ends by end.
func (c *clock) earliest(end time.Time) *sleeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sleepers) == 0 || c.sleepers[0].due.After(end) {
		return nil
	}
	return c.sleepers[0]
}

// close drops every call that is still to come, for the end of the hub. Plain
// waits are left to their contexts.
func (c *clock) close() {
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
