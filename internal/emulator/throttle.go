package emulator

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// This file follows "IoT Hub quotas and throttling": the limits of each edition
// and how the hub shapes traffic that passes them.

// throttleClass is what a limit counts.
type throttleClass int

const (
	throttleRegistry throttleClass = iota
	throttleQueries
	throttleTwinReads
	throttleTwinUpdates
	throttleMethods // in steps of 4 KB of payload
	throttleJobs
	throttleJobDevices // what jobs do to devices
	throttleConnections
	throttleD2C
	throttleC2D
	throttleClasses // how many there are
)

// String returns the name under which the class is reported.
func (c throttleClass) String() string {
	switch c {
	case throttleRegistry:
		return "registry"
	case throttleQueries:
		return "queries"
	case throttleTwinReads:
		return "twinReads"
	case throttleTwinUpdates:
		return "twinUpdates"
	case throttleMethods:
		return "methods"
	case throttleJobs:
		return "jobs"
	case throttleJobDevices:
		return "jobDevices"
	case throttleConnections:
		return "connections"
	case throttleD2C:
		return "d2cSends"
	case throttleC2D:
		return "c2dSends"
	case throttleClasses:
	}
	return "none"
}

// throttle returns the class of an operation; throttleClasses for those that
// no limit counts.
func (o operation) throttle() throttleClass {
	switch o {
	case opGetTwin:
		return throttleTwinReads
	case opPatchTwin, opPutTwin:
		return throttleTwinUpdates
	case opInvoke:
		return throttleMethods
	case opQuery:
		return throttleQueries
	case opPutJob, opGetJob, opCancelJob, opListJobs, opListOldJobs, opGetOldJob:
		return throttleJobs
	case opGetDevice, opPutDevice, opDeleteDevice, opListDevices, opBulk, opListModules, opGetModule,
		opPutModule, opDeleteModule, opDeviceStatistics, opServiceStatistics, opPurge:
		return throttleRegistry
	case opUnknown, opNotEmulated:
	}
	return throttleClasses
}

// perSecond returns a limit in calls a second; 0 for none.
func (t tier) perSecond(c throttleClass, units int) float64 {
	n := float64(units)
	small := func(each float64) float64 { return each * n / 60 }
	calm := max(100, 12*n) // connections and messages of the small tiers
	switch t {
	case tierNone:
		return 0
	case tierFree, tierS1:
		return [throttleClasses]float64{small(100), small(20), 100, 50, 40 * n, small(100), 10, calm, calm, small(100)}[c]
	case tierS2:
		return [throttleClasses]float64{small(100), small(20), max(100, 10*n), max(50, 5*n), 120 * n, small(100), max(10, n), 120 * n, 120 * n, small(100)}[c]
	case tierS3:
		// 24 MB a second in steps of 4 KB.
		return [throttleClasses]float64{small(5000), small(1000), 500 * n, 250 * n, 6000 * n, small(5000), 50 * n, 6000 * n, 6000 * n, small(5000)}[c]
	}
	return 0
}

// maxActiveJobs is how many jobs may run at a time; 0 for any number.
func (t tier) maxActiveJobs() int {
	switch t {
	case tierNone:
		return 0
	case tierFree, tierS1:
		return 1
	case tierS2:
		return 5
	case tierS3:
		return 10
	}
	return 0
}

const (
	// throttleBurst is how much of its limit an idle class may use at once.
	// The documents speak of bursts that pass and give no number.
	throttleBurst = 10 * time.Second
	// throttleQueue is how long a call is held back before the hub refuses
	// it: what the one captured refusal asks clients to wait.
	throttleQueue = 10 * time.Second
)

// throttle shapes the calls of one class: a burst passes, then calls are held
// back so that they pass at the limit, and those that would be held back too
// long are refused.
type throttle struct {
	gap time.Duration // between two calls at the limit; 0 for no limit

	mu   sync.Mutex
	next time.Time // when the calls admitted so far would all have passed at the limit; guarded by mu

	delayed atomic.Int64 // calls held back
	refused atomic.Int64
}

// throttles holds one for each class.
type throttles [throttleClasses]throttle

func (t *throttles) limit(edition tier, units int) {
	for c := range throttleClasses {
		if rate := edition.perSecond(c, units); rate > 0 {
			t[c].gap = time.Duration(float64(time.Second) / rate)
		}
	}
}

// reserve takes a place for a call that weighs cost. It returns how long the
// call is held back, or false when it is refused.
func (t *throttle) reserve(now time.Time, cost int) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.next
	if idle := now.Add(-throttleBurst); next.Before(idle) {
		next = idle
	}
	next = next.Add(time.Duration(cost) * t.gap)
	wait := next.Sub(now)
	if wait > throttleQueue {
		// A call that weighs more than burst and queue together can only
		// pass alone, after a pause.
		if t.next.After(now.Add(-throttleBurst)) || time.Duration(cost)*t.gap <= throttleBurst+throttleQueue {
			return 0, false
		}
		wait = throttleQueue
	}
	t.next = next
	return max(wait, 0), true
}

// take takes the next turn if it has come. Turns that nobody took are lost after
// a second.
func (t *throttle) take(now time.Time) bool {
	if t.gap == 0 {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.next.After(now) {
		return false
	}
	t.next = later(t.next, now.Add(-time.Second)).Add(t.gap)
	return true
}

// turn is when the next turn comes.
func (t *throttle) turn() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next
}

// paced waits for the turn of a call that weighs cost. The refusal is the
// hub's 429, in which word names the kind of call.
func (s *Server) paced(ctx context.Context, class throttleClass, cost int, word string) *apiError {
	if class == throttleClasses || s.throttles[class].gap == 0 {
		return nil
	}
	t := &s.throttles[class]
	wait, ok := t.reserve(s.clock.now(), cost)
	if !ok {
		t.refused.Add(1)
		return errThrottled(word, throttleQueue)
	}
	if wait > 0 {
		t.delayed.Add(1)
		if s.clock.wait(ctx, wait) != nil {
			return errAbandoned()
		}
	}
	return nil
}
