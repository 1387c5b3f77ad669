package core

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"iothub-runner/internal/emulator/refuse"
)

// This file follows "IoT Hub quotas and throttling": the limits of each edition
// and how the hub shapes traffic that passes them.

// ThrottleClass is what a limit counts.
type ThrottleClass int

// The classes of calls that are throttled together.
const (
	ThrottleRegistry ThrottleClass = iota
	ThrottleQueries
	ThrottleTwinReads
	ThrottleTwinUpdates
	ThrottleMethods // in steps of 4 KB of payload
	ThrottleJobs
	ThrottleJobDevices // what jobs do to devices
	ThrottleConnections
	ThrottleD2C
	ThrottleC2D
	ThrottleClasses // how many there are
)

// String returns the name under which the class is reported.
func (c ThrottleClass) String() string {
	switch c {
	case ThrottleRegistry:
		return "registry"
	case ThrottleQueries:
		return "queries"
	case ThrottleTwinReads:
		return "twinReads"
	case ThrottleTwinUpdates:
		return "twinUpdates"
	case ThrottleMethods:
		return "methods"
	case ThrottleJobs:
		return "jobs"
	case ThrottleJobDevices:
		return "jobDevices"
	case ThrottleConnections:
		return "connections"
	case ThrottleD2C:
		return "d2cSends"
	case ThrottleC2D:
		return "c2dSends"
	case ThrottleClasses:
	}
	return "none"
}

// PerSecond returns a limit in calls a second; 0 for none.
func (t Tier) PerSecond(c ThrottleClass, units int) float64 {
	n := float64(units)
	small := func(each float64) float64 { return each * n / 60 }
	calm := max(100, 12*n) // connections and messages of the small tiers
	switch t {
	case TierNone:
		return 0
	case TierFree, TierS1:
		return [ThrottleClasses]float64{small(100), small(20), 100, 50, 40 * n, small(100), 10, calm, calm, small(100)}[c]
	case TierS2:
		return [ThrottleClasses]float64{small(100), small(20), max(100, 10*n), max(50, 5*n), 120 * n, small(100), max(10, n), 120 * n, 120 * n, small(100)}[c]
	case TierS3:
		// 24 MB a second in steps of 4 KB.
		return [ThrottleClasses]float64{small(5000), small(1000), 500 * n, 250 * n, 6000 * n, small(5000), 50 * n, 6000 * n, 6000 * n, small(5000)}[c]
	}
	return 0
}

// MaxActiveJobs is how many jobs may run at a time; 0 for any number.
func (t Tier) MaxActiveJobs() int {
	switch t {
	case TierNone:
		return 0
	case TierFree, TierS1:
		return 1
	case TierS2:
		return 5
	case TierS3:
		return 10
	}
	return 0
}

const (
	// throttleBurst is how much of its limit an idle class may use at once.
	// The documents speak of bursts that pass and give no number.
	throttleBurst = 10 * time.Second
	// ThrottleQueue is how long a call is held back before the hub refuses
	// it: what the one captured refusal asks clients to wait.
	ThrottleQueue = 10 * time.Second
)

// throttle shapes the calls of one class: a burst passes, then calls are held
// back so that they pass at the limit, and those that would be held back too
// long are refused.
type throttle struct {
	gap time.Duration // between two calls at the limit; 0 for no limit

	mu   sync.Mutex
	next time.Time // when the calls admitted so far would all have passed at the limit; guarded by mu

	Delayed atomic.Int64 // calls held back
	Refused atomic.Int64
}

// throttles holds one for each class.
type throttles [ThrottleClasses]throttle

// Limit sets what a tier of so many units takes.
func (t *throttles) Limit(edition Tier, units int) {
	for c := range ThrottleClasses {
		if rate := edition.PerSecond(c, units); rate > 0 {
			t[c].gap = time.Duration(float64(time.Second) / rate)
		}
	}
}

// Reserve takes a place for a call that weighs cost. It returns how long the
// call is held back, or false when it is refused.
func (t *throttle) Reserve(now time.Time, cost int) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.next
	if idle := now.Add(-throttleBurst); next.Before(idle) {
		next = idle
	}
	next = next.Add(time.Duration(cost) * t.gap)
	wait := next.Sub(now)
	if wait > ThrottleQueue {
		// A call that weighs more than burst and queue together can only
		// pass alone, after a pause.
		if t.next.After(now.Add(-throttleBurst)) || time.Duration(cost)*t.gap <= throttleBurst+ThrottleQueue {
			return 0, false
		}
		wait = ThrottleQueue
	}
	t.next = next
	return max(wait, 0), true
}

// Take takes the next turn if it has come. Turns that nobody took are lost after
// a second.
func (t *throttle) Take(now time.Time) bool {
	if t.gap == 0 {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next.After(now) {
		return false
	}
	t.next = Later(t.next, now.Add(-time.Second)).Add(t.gap)
	return true
}

// Turn is when the next turn comes.
func (t *throttle) Turn() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// Paced waits for the turn of a call that weighs cost. The refusal is the
// hub's 429, in which word names the kind of call.
func (s *Hub) Paced(ctx context.Context, class ThrottleClass, cost int, word string) *refuse.Error {
	if class == ThrottleClasses || s.Throttles[class].gap == 0 {
		return nil
	}
	t := &s.Throttles[class]
	wait, ok := t.Reserve(s.Clock.Now(), cost)
	if !ok {
		t.Refused.Add(1)
		return errThrottled(word, ThrottleQueue)
	}
	if wait > 0 {
		t.Delayed.Add(1)
		if s.Clock.Wait(ctx, wait) != nil {
			return errAbandoned()
		}
	}
	return nil
}

// Tier is a hub edition, as far as throttles and job limits depend on it.
type Tier int

// The tiers.
const (
	TierNone Tier = iota
	TierFree
	TierS1
	TierS2
	TierS3
)

// ParseTier reads the name of one.
func ParseTier(word string) (Tier, error) {
	switch strings.ToLower(word) {
	case "", "none":
		return TierNone, nil
	case "free", "f1":
		return TierFree, nil
	case "s1":
		return TierS1, nil
	case "s2":
		return TierS2, nil
	case "s3":
		return TierS3, nil
	}
	return TierNone, fmt.Errorf("tier %q: want none, free, S1, S2 or S3", word)
}

// Later is the later of two times.
func Later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
