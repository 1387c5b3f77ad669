package decide

import (
	"math"
	"math/rand/v2"
	"time"

	"iothub-runner/spec"
)

// Backoff returns how long to wait after the nth attempt that did not work:
// exponential with full jitter, so that a fleet which failed together does not
// come back together. No wait is shorter than what the hub asked for.
func Backoff(r spec.Retry, n int, hint time.Duration, random func(time.Duration) time.Duration) time.Duration {
	ceiling := r.MaxBackoff
	if shift := n - 1; r.Backoff <= ceiling>>shift { // shifted the other way it could overflow
		ceiling = r.Backoff << shift
	}
	return max(random(ceiling), hint)
}

// Jitter returns a random duration up to and including d.
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1)
}

// ConflictBackoff is how those wait whose twin changes under their hands.
func ConflictBackoff() spec.Retry {
	return spec.Retry{Backoff: 50 * time.Millisecond, MaxBackoff: 5 * time.Second}
}

// offlineStretch is how much longer than maxBackoff a device is left alone that
// is not online: each call costs the hub's quota, and devices that are away for
// long are many.
const offlineStretch = 5

// OfflineWait returns how long to leave a device alone that was not online n
// times: ever longer, and never less than half of that.
func OfflineWait(r spec.Retry, n int, random func(time.Duration) time.Duration) time.Duration {
	ceiling := r.MaxBackoff * offlineStretch
	if shift := n - 1; r.Backoff <= ceiling>>shift {
		ceiling = r.Backoff << shift
	}
	return ceiling/2 + random(ceiling-ceiling/2)
}

// OfflineCalls is about how often a device is called in the time that a job
// waits for it, if it stays away.
func OfflineCalls(r spec.Retry, d time.Duration) (n int) {
	middle := func(most time.Duration) time.Duration { return most / 2 }
	for n = 1; d > 0 && n < math.MaxInt16; n++ {
		d -= max(OfflineWait(r, n, middle), time.Second)
	}
	return n
}
